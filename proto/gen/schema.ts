export * from "./org/apache/beam/model/pipeline/v1/schema.ts";
