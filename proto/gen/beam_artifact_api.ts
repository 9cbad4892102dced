export * from "./org/apache/beam/model/job_management/v1/beam_artifact_api.ts";
