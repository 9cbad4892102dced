/**
 * All output datasets of one task attempt: routes what sinks (or the head) emit into partitions, and makes a bundle's
 * segments visible together.
 */
import type { Chunk } from "../../base/chunk.ts";
import { present } from "../../base/assert.ts";
import type { DatasetId } from "../../base/ids.ts";
import { PartitionRouter } from "./partition-router.ts";
import type { DatasetWriter, TentativeSegment } from "./ports.ts";
import type { StageOutput, StageOutputBundle } from "./stage-executor.ts";
import type { TaskDeployment, TaskEnvironment, TaskResult } from "./task-environment.ts";

interface Output {
  readonly datasetId: DatasetId;
  readonly router: PartitionRouter;
  readonly writer: DatasetWriter;
}

export class DatasetOutputs implements StageOutput {
  readonly #bySink = new Map<string, Output[]>();
  readonly #head: Output[] = [];
  readonly #all: Output[] = [];

  constructor(environment: TaskEnvironment, task: TaskDeployment) {
    const open = (datasetId: DatasetId): Output => {
      const dataset = present(environment.graph.datasets[datasetId], `dataset ${datasetId}`);
      const partitions = task.outputPartitions[datasetId] ?? 1;
      const output: Output = {
        datasetId,
        router: new PartitionRouter(environment.graph.coders, dataset, partitions, environment.maxParallelism),
        writer: environment.openDataset(datasetId, task.attemptId, partitions),
      };
      this.#all.push(output);
      return output;
    };
    for (const sink of task.vertex.stage?.sinks ?? []) this.#bySink.set(sink.transformId, sink.datasets.map(open));
    this.#head.push(...task.vertex.headOutputs.map(open));
  }

  begin(): StageOutputBundle & { acceptHead(chunk: Chunk): Promise<void> | void } {
    const segments = new Map<Output, TentativeSegment>();
    for (const output of this.#all) segments.set(output, output.writer.beginSegment());
    const route = (outputs: readonly Output[], chunk: Chunk): Promise<void> | void => {
      const waits: Promise<void>[] = [];
      for (const output of outputs) {
        const segment = present(segments.get(output), "the bundle's segment");
        const wait = output.router.route(chunk, (partition, part) => segment.append(partition, part));
        if (wait !== undefined) waits.push(wait);
      }
      if (waits.length > 0) return Promise.all(waits).then(() => undefined);
      return undefined;
    };
    return {
      accept: (sinkTransformId, data) => route(this.#bySink.get(sinkTransformId) ?? [], { data, elementCount: -1 }),
      acceptHead: (chunk) => route(this.#head, chunk),
      commit: () => {
        for (const segment of segments.values()) segment.commit();
      },
      abort: () => {
        for (const segment of segments.values()) segment.abort();
      },
    };
  }

  seal(): TaskResult["sealed"] {
    return this.#all.map((output) => ({
      datasetId: output.datasetId,
      partitions: output.writer.seal(),
      restrictionSizes: [output.router.restrictionSize],
    }));
  }

  async discard(): Promise<void> {
    await Promise.all(this.#all.map((output) => output.writer.discard()));
  }
}
