/**
 * What a streaming task needs from the world: everything that it touches outside itself, so that the same task runs in
 * a worker and in a simulation.
 */
import type { SnapshotFile } from "../../../proto/gen/worker.ts";
import type { Clock } from "../../base/clock.ts";
import type { Limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { ExecutionGraph, VertexSpec } from "../../graph/execution-graph.ts";
import type { ScratchSpace, StateRows } from "../../state/state-rows.ts";
import type { HarnessConnection } from "../task/harness-connection.ts";
import type { WindowMapper } from "../task/map-windows.ts";
import type { WindowMerger } from "../task/merge-windows.ts";
import type { ChannelQueue } from "./channel-queue.ts";
import type { InFlightRow } from "./in-flight/in-flight-rows.ts";
import type { JobClock } from "./job-clock.ts";
import type { Channels } from "./stream-ports.ts";

export interface StreamTaskEnvironment {
  readonly jobId: string;
  /** Of the job: see pipelined-regions.ts. */
  readonly region: number;
  readonly graph: ExecutionGraph;
  readonly maxParallelism: number;
  readonly maxBundleElements: number;
  readonly maxBundleTimeMs: number;
  /** Of a batch job: timers of processing time that are set at the end of all input are not waited for. */
  readonly firesTimersAtEnd: boolean;
  /** Of a batch job: nobody waits for single results, so that input of stages with state may gather to large bundles. */
  readonly gathersInput: boolean;
  readonly limits: Limits;
  /** Bytes of main input that a task takes out of its channels before its bundles have run. */
  readonly maxQueuedBytes: number;
  readonly channelCapacityBytes: number;
  /** Undefined: nothing of a bundle's output goes to disk. */
  readonly spillDirectory: string | undefined;
  readonly channels: Channels;
  /** This task's own. */
  readonly rows: StateRows;
  /** For state that a bundle writes and may not hold in memory. Undefined: it holds all of it. */
  readonly scratch: ScratchSpace | undefined;
  /** True where the job takes checkpoints: bundles are finalized when one is complete. */
  readonly checkpoints: boolean;
  /** False for AT_LEAST_ONCE: a task reads on while it waits for a barrier's other copies. */
  readonly barriersBlock: boolean;
  readonly clock: Clock;
  readonly jobClock: JobClock;
  readonly log: Log;
  /** Runs a function soon, after what is pending: I/O gets its turn in between. */
  schedule(run: () => void): void;
  harness(environmentId: string, lane: number, signal: AbortSignal): Promise<HarnessConnection>;
  descriptorId(vertexId: string): string;
  truncateDescriptorId(vertexId: string): string;
  windowMerger(vertex: VertexSpec): WindowMerger | undefined;
  /** Of one of the stage's side inputs; undefined where the runner maps windows itself. */
  windowMapper?(vertex: VertexSpec, sideInputIndex: number): WindowMapper | undefined;
  /** Set while the rows are over their memory budget: to be awaited before more is put in. */
  relief(): Promise<void> | undefined;
  /** Freezes the task's rows now, synchronously; resolves when what changed is stored. */
  snapshot(checkpointId: number, more: SnapshotExtras): Promise<readonly SnapshotFile[]>;
  onSnapshot(checkpointId: number, files: readonly SnapshotFile[], report: SnapshotReport, failure: unknown): void;
  onFinished(): void;
  onFailed(failure: unknown): void;
  /** A TestStream has moved the job's processing time. */
  setProcessingTime(nowMs: number): void;
}

/** What a snapshot has to do beside the rows. */
export interface SnapshotExtras {
  /** Rows beside them that belong to this snapshot only, when it resolves. */
  readonly inFlight?: Promise<Iterable<InFlightRow> | undefined> | undefined;
  /** A folder to which all files of the snapshot are copied, too. */
  readonly savepointPath?: string | undefined;
}

/** How a task's snapshot went, as in CheckpointAck. */
export interface SnapshotReport {
  readonly alignmentMs: number;
  readonly commitWaitMs: number;
  readonly writeMs: number;
  readonly inFlightBytes: number;
  readonly unaligned: boolean;
  readonly waitedFor: string;
}

export interface StreamTaskDeployed {
  readonly executionAttempt: number;
  readonly vertex: VertexSpec;
  readonly subtaskIndex: number;
  readonly parallelism: number;
  readonly inputs: readonly { readonly datasetId: string; readonly queue: ChannelQueue }[];
  readonly outputs: readonly {
    readonly datasetId: string;
    readonly consumerVertexId: string;
    readonly consumerParallelism: number;
  }[];
}
