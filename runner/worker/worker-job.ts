/**
 * One job on one worker: its graph, its harness pools, its side inputs, its running tasks. Closed as a whole.
 */
import { join } from "node:path";
import { ProcessBundleDescriptor, RemoteGrpcPort } from "../../proto/gen/beam_fn_api.ts";
import { present } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { randomHex } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import type { CoordinatorMessage, WorkerMessage } from "../../proto/gen/worker.ts";
import type { DatasetId, HarnessId, JobId, TaskAttemptId, VertexId, WorkerId } from "../base/ids.ts";
import type { Limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { compileSkip } from "../coders/element-boundary.ts";
import type { ExecutionGraph, VertexSpec } from "../graph/execution-graph.ts";
import type { PartitionStore } from "../state/partition-store.ts";
import type { SideInputStore } from "../state/side-input-store.ts";
import type { HarnessConnection } from "./task/harness-connection.ts";
import { EnvironmentLostError, HarnessPool } from "./harness-pool.ts";
import { LocalSnapshots } from "./stream/local-snapshots.ts";
import { StreamJob } from "./stream/stream-job.ts";
import { StreamRegions } from "./stream/stream-regions.ts";
import type { Channels } from "./stream/stream-ports.ts";
import { keyedInputOf } from "./stream/former-rows.ts";
import { TaskRows } from "./stream/task-rows.ts";
import { createWindowMapper, type WindowMapper } from "./task/map-windows.ts";
import { createWindowMerger } from "./task/merge-windows.ts";
import type { HarnessEndpoints, HarnessLauncher, PartitionReader } from "./task/ports.ts";
import type { TaskDeployment, TaskEnvironment, TaskResult } from "./task/task-environment.ts";
import { TaskRunner } from "./task/task-runner.ts";
import type { MonitoringInfoSet } from "../base/monitoring-infos.ts";

/** What the job server says of a job. */
export interface JobDescription {
  readonly jobId: JobId;
  readonly jobName: string;
  readonly graph: ExecutionGraph;
  readonly pipelineOptions: Readonly<Record<string, unknown>>;
  readonly retrievalToken: string;
  readonly artifactAddress: string;
  readonly maxParallelism: number;
  readonly sdkWorkerParallelism: number;
  readonly maxBundleElements: number;
  readonly maxBundleTimeMs: number;
  readonly barriersBlock: boolean;
  /** As the user asked for: --streaming. */
  readonly streaming: boolean;
  readonly loopback: boolean;
  /** How long a worker pool that does not answer is waited for; default: half a minute. */
  readonly environmentWaitMs?: number | undefined;
}

export interface WorkerJobInit {
  readonly workerId: WorkerId;
  readonly description: JobDescription;
  readonly limits: Limits;
  readonly spillDirectory: string;
  readonly endpoints: HarnessEndpoints;
  readonly launcher: HarnessLauncher;
  /** Streaming jobs are to have one harness more than they use, which takes the place of one that is lost. */
  readonly keepsStandby: boolean;
  readonly store: PartitionStore;
  readonly sideInputs: SideInputStore;
  readonly reader: PartitionReader;
  readonly channels: Channels;
  readonly send: (message: NonNullable<WorkerMessage["message"]>) => void;
  readonly onConnection: (connection: HarnessConnection, environmentId: string) => void;
  readonly onGone: (harnessId: HarnessId) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** A harness gets so long from its start to its control stream; virtual environments with many packages take minutes. */
const HARNESS_CONNECT_TIMEOUT_MS = 300_000;
const ENVIRONMENT_WAIT_MS = 30_000;
const SPLIT_AFTER_MS = 1_000;
/** How often a long bundle is asked for its metrics. */
const SUPERVISE_MS = 1_000;

/** The same set twice where everything attempted is committed. */
export type TellMetrics = (committed: MonitoringInfoSet, attempted: MonitoringInfoSet) => void;

function cancelled(message: string): WeirError {
  return new WeirError({ code: "CANCELLED", domain: "internal", message });
}

interface RunningTask {
  readonly runner: TaskRunner;
  readonly abort: AbortController;
  readonly done: Promise<unknown>;
}

export class WorkerJob {
  readonly #init: WorkerJobInit;
  readonly #pools = new Map<string, HarnessPool>();
  readonly #tasks = new Map<TaskAttemptId, RunningTask>();
  readonly #descriptors = new Map<string, ProcessBundleDescriptor>();
  readonly #localSnapshots: LocalSnapshots;
  readonly #stream = new StreamRegions((region) => this.#openRegion(region));

  constructor(init: WorkerJobInit) {
    this.#init = init;
    this.#localSnapshots = new LocalSnapshots({
      folder: join(init.spillDirectory, `snapshots-${init.description.jobId}`),
      limitBytes: init.limits.localSnapshotBytes,
      log: init.log,
    });
    for (const vertex of init.description.graph.vertices) {
      if (vertex.stage !== undefined) this.#addDescriptor(this.#descriptorId(vertex.id), vertex.stage.descriptor);
      if (vertex.stage?.truncate !== undefined)
        this.#addDescriptor(this.#truncateDescriptorId(vertex.id), vertex.stage.truncate.descriptor);
      for (const [index, { mapWindows }] of vertex.stage?.sideInputs.entries() ?? [])
        if (mapWindows !== undefined)
          this.#addDescriptor(this.#mapDescriptorId(vertex.id, index), mapWindows.descriptor);
      if (vertex.head.kind === "group-by-key" && vertex.head.mergeWindows !== undefined)
        this.#addDescriptor(this.#mergeDescriptorId(vertex.id), vertex.head.mergeWindows.descriptor);
    }
  }

  get description(): JobDescription {
    return this.#init.description;
  }

  descriptor(descriptorId: string): ProcessBundleDescriptor | undefined {
    return this.#descriptors.get(descriptorId);
  }

  /** Whose stage or head a descriptor is of. */
  vertexOf(descriptorId: string): VertexId | undefined {
    const isOf = (own: string) => descriptorId === own || descriptorId.startsWith(`${own}/`);
    return this.#init.description.graph.vertices.find(({ id }) => isOf(this.#descriptorId(id)))?.id;
  }

  #descriptorId(vertexId: VertexId): string {
    return `${this.#init.description.jobId}/${vertexId}`;
  }

  #truncateDescriptorId(vertexId: VertexId): string {
    return `${this.#descriptorId(vertexId)}/truncate`;
  }

  #mergeDescriptorId(vertexId: VertexId): string {
    return `${this.#descriptorId(vertexId)}/merge-windows`;
  }

  #mapDescriptorId(vertexId: VertexId, sideInputIndex: number): string {
    return `${this.#descriptorId(vertexId)}/map-windows/${sideInputIndex}`;
  }

  /** Puts this worker's endpoint into the descriptor's ports and services. */
  #addDescriptor(descriptorId: string, encoded: Uint8Array): void {
    const descriptor = ProcessBundleDescriptor.decode(encoded);
    const endpoint = { url: this.#init.endpoints.control, authentication: undefined };
    for (const transform of Object.values(descriptor.transforms)) {
      const spec = transform.spec;
      if (spec === undefined || !/^beam:runner:(source|sink):v1$/.test(spec.urn)) continue;
      const port = RemoteGrpcPort.decode(spec.payload);
      spec.payload = RemoteGrpcPort.encode({ ...port, apiServiceDescriptor: endpoint }).finish();
    }
    this.#descriptors.set(descriptorId, {
      ...descriptor,
      id: descriptorId,
      stateApiServiceDescriptor: endpoint,
      timerApiServiceDescriptor: endpoint,
    });
  }

  /** Runs one task attempt to its end. @throws what made it fail. */
  async run(task: TaskDeployment, onMetrics: TellMetrics): Promise<TaskResult> {
    const abort = new AbortController();
    const tell = () => onMetrics(runner.committed, runner.attempted);
    const runner: TaskRunner = new TaskRunner(this.#taskEnvironment(task), task, abort.signal, tell);
    const done = runner.run().finally(tell);
    this.#tasks.set(task.attemptId, { runner, abort, done: done.catch(() => undefined) });
    try {
      return await done;
    } finally {
      this.#tasks.delete(task.attemptId);
    }
  }

  /** Lets the attempt give input away, if it can, and tells the job server. */
  async splitTask(attemptId: TaskAttemptId): Promise<void> {
    const ids = { jobId: this.#init.description.jobId, taskAttemptId: attemptId };
    const { send } = this.#init;
    const hasGiven = await this.#tasks.get(attemptId)?.runner.giveAway((datasetId, { index, ...sealed }) => {
      const partition = {
        index,
        byteLength: BigInt(sealed.byteLength),
        elementCount: BigInt(sealed.elementCount),
        restrictionSize: 0,
      };
      send({ $case: "taskSplit", value: { ...ids, datasetId, partition } });
    });
    if (hasGiven !== true) send({ $case: "taskSplit", value: { ...ids, datasetId: "", partition: undefined } });
  }

  /** Stops the attempt; its run rejects. Does not wait. */
  cancel(attemptId: TaskAttemptId): void {
    this.#tasks.get(attemptId)?.abort.abort(cancelled("The attempt was taken back."));
  }

  /** A message about the job's streaming tasks. @returns false when it is none. */
  onStreamMessage(message: NonNullable<CoordinatorMessage["message"]>): boolean {
    return this.#stream.onMessage(message);
  }

  #openRegion(region: number): StreamJob {
    const { description, limits, clock, log, channels, send, spillDirectory } = this.#init;
    const isBatch =
      !description.streaming && !description.graph.vertices.some(({ head }) => head.kind === "test-stream");
    return new StreamJob({
      jobId: description.jobId,
      region,
      channels,
      channelCapacityBytes: (count) =>
        Math.max(
          limits.minimumChannelBytes,
          Math.min(limits.exchangeCreditBytes, Math.floor(limits.bundleMemoryBytes / Math.max(1, count))),
        ),
      environment: {
        jobId: description.jobId,
        graph: description.graph,
        maxParallelism: description.maxParallelism,
        maxBundleElements: description.maxBundleElements,
        maxBundleTimeMs: description.maxBundleTimeMs,
        barriersBlock: description.barriersBlock,
        firesTimersAtEnd: isBatch,
        gathersInput: isBatch,
        limits,
        maxQueuedBytes: limits.queuedInputBytes,
        spillDirectory,
        clock,
        log,
        schedule: (run) => void setImmediate(run),
        harness: (environmentId, lane, signal) => this.#pool(environmentId).lane(lane, signal),
        descriptorId: (vertexId) => this.#descriptorId(vertexId as VertexId),
        truncateDescriptorId: (vertexId) => this.#truncateDescriptorId(vertexId as VertexId),
        windowMerger: (vertex) => this.#windowMerger(vertex),
        windowMapper: (vertex, index) => this.#windowMapper(vertex, index),
      },
      openRows: ({ taskCount, ...request }) =>
        TaskRows.open({
          ...request,
          spillDirectory,
          localSnapshots: this.#localSnapshots,
          log,
          keyedInput: keyedInputOf(description.graph, request.deployment.vertexId, description.maxParallelism),
          memoryBytes: Math.max(limits.minimumStateBytes, Math.floor(limits.groupingMemoryBytes / taskCount)),
        }),
      send,
      isEnvironmentLost: (failure) => failure instanceof EnvironmentLostError,
      clock,
      log,
    });
  }

  #taskEnvironment(task: TaskDeployment): TaskEnvironment {
    const { description, limits, spillDirectory, reader, sideInputs, clock, log, store } = this.#init;
    return {
      jobId: description.jobId,
      graph: description.graph,
      maxParallelism: description.maxParallelism,
      maxBundleElements: description.maxBundleElements,
      laneCount: description.sdkWorkerParallelism,
      splitAfterMs: SPLIT_AFTER_MS,
      superviseMs: SUPERVISE_MS,
      maxBundleTimeMs: description.maxBundleTimeMs,
      limits,
      spillDirectory,
      reader,
      sideInputs,
      clock,
      log: log.child({ stage: task.vertex.name, task: task.attemptId }),
      openDataset: (datasetId: DatasetId, attemptId: TaskAttemptId, partitions: number) =>
        store.openDataset({ jobId: description.jobId, datasetId, attemptId, partitions }),
      harness: (environmentId, lane, signal) => this.#pool(environmentId).lane(lane, signal),
      descriptorId: (vertexId) => this.#descriptorId(vertexId as VertexId),
      windowMerger: (vertex) => this.#windowMerger(vertex),
    };
  }

  #windowMerger(vertex: VertexSpec) {
    if (vertex.head.kind !== "group-by-key" || vertex.head.mergeWindows === undefined) return undefined;
    const { graph } = this.#init.description;
    const { environmentId, sourceTransformId, sinkTransformId } = vertex.head.mergeWindows;
    const windowing = present(graph.windowings[vertex.head.windowingId], "the grouping's windowing strategy");
    return createWindowMerger({
      descriptorId: this.#mergeDescriptorId(vertex.id),
      sourceTransformId,
      sinkTransformId,
      windowSkip: compileSkip(graph.coders, windowing.windowCoderId),
      chunkBytes: this.#init.limits.chunkBytes,
      harness: (signal) => this.#pool(environmentId).lane(0, signal),
    });
  }

  #windowMapper(vertex: VertexSpec, sideInputIndex: number): WindowMapper | undefined {
    const sideInput = vertex.stage?.sideInputs[sideInputIndex];
    if (sideInput?.mapWindows === undefined) return undefined;
    const { graph } = this.#init.description;
    const { environmentId, sourceTransformId, sinkTransformId } = sideInput.mapWindows;
    const windowing = present(graph.windowings[sideInput.windowingId], "a side input's windowing strategy");
    return createWindowMapper({
      descriptorId: this.#mapDescriptorId(vertex.id, sideInputIndex),
      sourceTransformId,
      sinkTransformId,
      windowSkip: compileSkip(graph.coders, windowing.windowCoderId),
      chunkBytes: this.#init.limits.chunkBytes,
      harness: (signal) => this.#pool(environmentId).lane(0, signal),
    });
  }

  #pool(environmentId: string): HarnessPool {
    let pool = this.#pools.get(environmentId);
    if (pool === undefined) {
      const { description, workerId, endpoints, launcher, keepsStandby, onConnection, onGone, clock, log } = this.#init;
      pool = new HarnessPool({
        jobId: description.jobId,
        environmentId,
        environment: present(description.graph.environments[environmentId], `environment ${environmentId}`),
        pipelineOptions: description.pipelineOptions,
        endpoints,
        launcher,
        loopback: description.loopback,
        keepsStandby: keepsStandby && description.streaming && !description.loopback,
        connectTimeoutMs: HARNESS_CONNECT_TIMEOUT_MS,
        environmentWaitMs: description.environmentWaitMs ?? ENVIRONMENT_WAIT_MS,
        newHarnessId: () => `${workerId}-${randomHex(4)}` as HarnessId,
        onConnection: (connection) => onConnection(connection, environmentId),
        onGone,
        clock,
        log,
      });
      this.#pools.set(environmentId, pool);
    }
    return pool;
  }

  /** Cancels its tasks, ends its harnesses, drops its data. Idempotent. */
  async close(): Promise<void> {
    const running = [...this.#tasks.values()];
    for (const task of running) task.abort.abort(cancelled("The job has ended."));
    await this.#stream.close();
    await this.#localSnapshots.close();
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
    await Promise.all(running.map((task) => task.done));
    await this.#init.store.releaseJob(this.#init.description.jobId);
  }
}
