/** placeholder */
import type { HeadSpec } from "../../graph/execution-graph.ts";
import type { StreamOutputs } from "./stream-outputs.ts";
import type { StreamTaskDeployed, StreamTaskEnvironment } from "./stream-task-environment.ts";

export class TestStreamHead {
  constructor(
    _environment: StreamTaskEnvironment,
    _task: StreamTaskDeployed,
    _head: Extract<HeadSpec, { kind: "test-stream" }>,
    _outputs: StreamOutputs,
  ) {
    throw new Error("test stream");
  }
  get ended(): boolean {
    return false;
  }
  advance(): void {}
  drain(): void {}
}
