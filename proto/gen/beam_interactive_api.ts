export * from "./org/apache/beam/model/interactive/v1/beam_interactive_api.ts";
