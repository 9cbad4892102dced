export * from "./org/apache/beam/model/fn_execution/v1/beam_provision_api.ts";
