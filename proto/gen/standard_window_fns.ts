export * from "./org/apache/beam/model/pipeline/v1/standard_window_fns.ts";
