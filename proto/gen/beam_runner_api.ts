export * from "./org/apache/beam/model/pipeline/v1/beam_runner_api.ts";
