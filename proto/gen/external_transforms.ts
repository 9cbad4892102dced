export * from "./org/apache/beam/model/pipeline/v1/external_transforms.ts";
