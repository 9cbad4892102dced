export * from "./org/apache/beam/model/job_management/v1/beam_expansion_api.ts";
