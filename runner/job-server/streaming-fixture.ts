// Streaming jobs for tests: small graphs, workers that only write down what they are told, and a clock that stands
// still until it is moved.
import { MonitoringInfo } from "../../proto/gen/metrics.ts";
import type { CoordinatorMessage, StreamTaskChange, WorkerMessage } from "../../proto/gen/worker.ts";
import { StreamTaskChange_State } from "../../proto/gen/worker.ts";
import type { Clock } from "../base/clock.ts";
import type { DatasetId, JobId, VertexId, WorkerId } from "../base/ids.ts";
import type {
  DatasetSpec,
  ExecutableStageSpec,
  ExecutionGraph,
  HeadSpec,
  Partitioner,
  VertexSpec,
} from "../graph/execution-graph.ts";
import type { JobObserver, JobRun } from "./job-executor.ts";
import { jobSettings } from "./job-settings.ts";
import { readOptions } from "./pipeline-options.ts";
import type { RegisteredWorker, WorkerListener } from "./worker-registry.ts";

type ToWorker = NonNullable<CoordinatorMessage["message"]>;
type FromWorker = NonNullable<WorkerMessage["message"]>;
export type ToWorkerCase = ToWorker["$case"];
export type ToWorkerValue<Case extends ToWorkerCase> = Extract<ToWorker, { $case: Case }>["value"];

/** Lets everything run that waits for nothing but promises. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

export class ManualClock implements Clock {
  #nowMs = 1_000_000;
  #sleepers: { readonly atMs: number; readonly wake: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      const sleeper = { atMs: this.#nowMs + delayMs, wake: resolve };
      this.#sleepers.push(sleeper);
      signal?.addEventListener("abort", () => {
        this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
        reject(signal.reason as Error);
      });
    });
  }

  get sleeping(): number {
    return this.#sleepers.length;
  }

  /** Moves time on, waking who sleeps in order. */
  async advance(durationMs: number): Promise<void> {
    const untilMs = this.#nowMs + durationMs;
    await settle();
    for (;;) {
      this.#sleepers.sort((left, right) => left.atMs - right.atMs);
      const next = this.#sleepers[0];
      if (next === undefined || next.atMs > untilMs) break;
      this.#sleepers.shift();
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.wake();
      await settle();
    }
    this.#nowMs = untilMs;
  }
}

export class FakeWorker implements RegisteredWorker {
  readonly workerId: WorkerId;
  readonly exchangeAddress: string;
  readonly slots = 1;
  readonly local = true;
  readonly pid = 1;
  readonly told: ToWorker[] = [];
  /** Answers to what it is told, when it is told. */
  onTold: ((message: ToWorker) => void) | undefined;

  constructor(name: string) {
    this.workerId = name as WorkerId;
    this.exchangeAddress = `${name}:1`;
  }

  send(message: ToWorker): void {
    this.told.push(message);
    this.onTold?.(message);
  }

  all<Case extends ToWorkerCase>($case: Case): ToWorkerValue<Case>[] {
    return this.told.flatMap((message) => (message.$case === $case ? [message.value as ToWorkerValue<Case>] : []));
  }

  /** What it was last told to run of each region. */
  get deployed(): ToWorkerValue<"deployStreamTasks">[] {
    return [...new Map(this.all("deployStreamTasks").map((message) => [message.region, message])).values()];
  }
}

/** A registry whose workers answer ReleaseJob and nothing else by themselves. */
export class FakeWorkers {
  workers: FakeWorker[] = [];
  readonly #listeners = new Set<WorkerListener>();

  constructor(...names: string[]) {
    for (const name of names) this.join(name);
  }

  listen(listener: WorkerListener): void {
    this.#listeners.add(listener);
  }

  unlisten(listener: WorkerListener): void {
    this.#listeners.delete(listener);
  }

  join(name: string): FakeWorker {
    const worker = new FakeWorker(name);
    worker.onTold = (message) => {
      if (message.$case === "releaseJob") this.hear(worker, { $case: "jobReleased", value: message.value });
    };
    this.workers.push(worker);
    for (const listener of [...this.#listeners]) listener.workerJoined(worker);
    return worker;
  }

  lose(worker: FakeWorker): void {
    this.workers = this.workers.filter((other) => other !== worker);
    for (const listener of [...this.#listeners]) listener.workerLost(worker, "it was killed");
  }

  hear(worker: FakeWorker, message: FromWorker): void {
    for (const listener of [...this.#listeners]) listener.workerMessage(worker, message);
  }

  /** Every task that the worker was last told to run says so. */
  tell(worker: FakeWorker, state: keyof typeof StreamTaskChange_State, more: Partial<StreamTaskChange> = {}): void {
    for (const { jobId, executionAttempt, tasks } of worker.deployed)
      for (const { vertexId, subtaskIndex } of tasks)
        this.hear(worker, {
          $case: "streamTask",
          value: {
            jobId,
            executionAttempt,
            vertexId,
            subtaskIndex,
            state: StreamTaskChange_State[state],
            failure: undefined,
            status: undefined,
            ...more,
          },
        });
  }
}

export class RecordingObserver implements JobObserver {
  readonly texts: string[] = [];
  isRunning = false;
  checkpoints = 0;
  formerCheckpoints = 0;
  attempted: readonly Uint8Array[] = [];
  committed: readonly Uint8Array[] = [];

  message(importance: string, text: string): void {
    this.texts.push(`${importance} ${text}`);
  }

  running(): void {
    this.isRunning = true;
  }

  keepCopy(): Promise<void> {
    return Promise.resolve();
  }

  checkpointed(): void {
    this.checkpoints++;
  }

  formerlyCheckpointed(): void {
    this.formerCheckpoints++;
  }

  metrics(attempted: readonly Uint8Array[], committed: readonly Uint8Array[]): void {
    this.attempted = attempted;
    this.committed = committed;
  }
}

/** A user counter's info. @param value less than 128 */
export function counterInfo(value: number): Uint8Array {
  return MonitoringInfo.encode(
    MonitoringInfo.fromPartial({
      urn: "beam:metric:user:sum_int64:v1",
      type: "beam:metrics:sum_int64:v1",
      payload: Uint8Array.of(value),
      labels: { NAME: "n", NAMESPACE: "s", PTRANSFORM: "p" },
    }),
  ).finish();
}

/** Of counters that are less than 128. */
export function counterValues(infos: readonly Uint8Array[]): (number | undefined)[] {
  return infos.map((info) => MonitoringInfo.decode(info).payload[0]);
}

export function vertex(id: string, head: HeadSpec["kind"], inputs: string[], sideInputs: string[] = []): VertexSpec {
  const stage =
    sideInputs.length === 0
      ? undefined
      : ({
          sideInputs: sideInputs.map((dataset) => ({ datasets: [dataset] })),
          sinks: [],
          userStates: [],
          timers: [],
          transforms: [],
        } as unknown as ExecutableStageSpec);
  return {
    id: id as VertexId,
    name: `[${id}]`,
    head: { kind: head } as HeadSpec,
    inputs: inputs as DatasetId[],
    stage,
    headOutputs: [],
    keyed: false,
    singleton: head === "impulse" || head === "test-stream",
  };
}

export function dataset(id: string, producer: string, partitioner: Partitioner): DatasetSpec {
  return {
    id: id as DatasetId,
    pcollectionId: id,
    producer: producer as VertexId,
    coderId: "c",
    windowingId: "w",
    partitioner,
    sizedRestrictions: false,
    unbounded: false,
  };
}

export function graphOf(vertices: VertexSpec[], datasets: DatasetSpec[]): ExecutionGraph {
  return {
    vertices,
    datasets: Object.fromEntries(datasets.map((spec) => [spec.id, spec])) as ExecutionGraph["datasets"],
    coders: {},
    windowings: {},
    environments: {},
    unbounded: false,
  };
}

/** impulse or TestStream a → (rebalance) b → (hash) c, d; c is a side input of d */
export function diamond(head: "impulse" | "test-stream" = "impulse"): ExecutionGraph {
  return graphOf(
    [
      vertex("a", head, []),
      vertex("b", "read", ["ab"]),
      vertex("c", "read", ["bc"]),
      vertex("d", "read", ["bc", "bd"], ["cd"]),
    ],
    [
      dataset("ab", "a", "rebalance"),
      dataset("bc", "b", "hash"),
      dataset("bd", "b", "forward"),
      dataset("cd", "c", "broadcast"),
    ],
  );
}

/** Two parts that no dataset connects: a → b, whose side input is c, and d → e. */
export function twoRegions(): ExecutionGraph {
  return graphOf(
    [
      vertex("a", "impulse", []),
      vertex("d", "impulse", []),
      vertex("b", "read", ["ab"], ["cb"]),
      vertex("c", "impulse", []),
      vertex("e", "read", ["de"]),
    ],
    [dataset("ab", "a", "rebalance"), dataset("cb", "c", "broadcast"), dataset("de", "d", "hash")],
  );
}

export function runOf(graph: ExecutionGraph, options: Readonly<Record<string, unknown>> = {}): JobRun {
  return {
    jobId: "job-1" as JobId,
    jobName: "job",
    graph,
    settings: jobSettings(readOptions({ streaming: true, ...options })),
    pipelineOptions: {},
    pipelineOptionsBytes: new Uint8Array(),
    retrievalToken: "token",
    artifactAddress: "server:2",
  };
}
