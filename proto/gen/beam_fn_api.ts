export * from "./org/apache/beam/model/fn_execution/v1/beam_fn_api.ts";
