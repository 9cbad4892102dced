/**
 * One schedule of the simulation: everything about it follows from its seed. A counting job runs on the real
 * StreamingExecution, CheckpointCoordinator, StreamJob, StreamTask and channels; workers and harnesses crash; at the end
 * the oracle says whether each element was counted exactly once.
 */
import { MonitoringInfo } from "../../proto/gen/metrics.ts";
import type { JobId } from "../../runner/base/ids.ts";
import { limitsFor } from "../../runner/base/limits.ts";
import { type Log, silentLog } from "../../runner/base/log.ts";
import { readVarint } from "../../runner/coders/byte-reader.ts";
import { buildExecutionGraph } from "../../runner/graph/build-execution-graph.ts";
import type { JobOutcome } from "../../runner/job-server/job-executor.ts";
import { jobSettings } from "../../runner/job-server/job-settings.ts";
import { readOptions } from "../../runner/job-server/pipeline-options.ts";
import { StreamingExecution } from "../../runner/job-server/streaming-execution.ts";
import { countingFunctions, countingPipeline, type CountingShape, CountingWorld } from "./counting-pipeline.ts";
import { SimulatedCluster } from "./simulated-cluster.ts";
import { SimulatedExchange } from "./simulated-exchange.ts";
import { SimulatedStorage } from "./simulated-storage.ts";
import { SeededRandom, SimulatedTime } from "./simulated-time.ts";
import { SimulatedWorker } from "./simulated-worker.ts";

export interface ScheduleOptions {
  readonly seed: number;
  /** False: nothing crashes and no bundle fails. */
  readonly faults: boolean;
  /** Of checkpoints; default: drawn. */
  readonly mode?: CheckpointMode;
  readonly log?: Log;
  /** Told of everything that happens to the job. */
  readonly onMessage?: (atMs: number, text: string) => void;
}

/** Barriers wait for data, overtake it at once, or overtake what they have waited for a while. */
export type CheckpointMode = "aligned" | "unaligned" | "timeout";

export interface ScheduleResult {
  readonly seed: number;
  /** What is wrong; empty: exactly once. */
  readonly complaints: readonly string[];
  /** Faults that hit a running job. */
  readonly faults: Readonly<Record<FaultKind, number>>;
  readonly checkpoints: number;
  /** The most of them that ran at the same time. */
  readonly atOnce: number;
  /** Execution attempts after the first. */
  readonly restarts: number;
  /** Of them, those of one region of two. */
  readonly partialRestarts: number;
  /** Of them, those that went on from a checkpoint. */
  readonly restores: number;
  readonly events: number;
  readonly elapsedMs: number;
  /** Finalizations that called back. */
  readonly finalizations: number;
  /** Tasks that went on from a snapshot with in-flight data. */
  readonly inFlightRestores: number;
}

export type FaultKind =
  | "worker killed"
  | "worker cut off"
  | "harness killed"
  | "storage down"
  | "write failed"
  /** Of the newest checkpoint; a worker is killed, too. */
  | "file lost";

export const FAULTS: readonly FaultKind[] = [
  "worker killed",
  "worker cut off",
  "harness killed",
  "storage down",
  "write failed",
  "file lost",
];
const MODES: readonly CheckpointMode[] = ["aligned", "unaligned", "timeout"];
const PROTOCOL_STEPS: ReadonlySet<string> = new Set(["triggerCheckpoint", "checkpointAck", "checkpointEnd"]);
/** Of simulated time; jobs take seconds. */
const LIMIT_MS = 600_000;
const JOB_ID = "job-1" as JobId;

export async function runSchedule(options: ScheduleOptions): Promise<ScheduleResult> {
  const { seed, faults: withFaults, log = silentLog() } = options;
  const random = new SeededRandom(seed);
  const time = new SimulatedTime();
  const shape = drawShape(random, seed);
  const world = new CountingWorld(shape);
  const graph = buildExecutionGraph(countingPipeline(shape).pipeline);
  const storage = new SimulatedStorage(time, random.fork(), random.pick([0, 10, 100]));
  const delays = { usualMs: random.integer(1, 10), slowMs: random.integer(10, 200) };
  const exchange = new SimulatedExchange(time, random.fork(), delays);
  const failureChance = withFaults && random.chance(0.3) ? 0.002 : 0;
  let failing = failureChance;
  const workerCount = random.integer(1, 3);
  const parallelism = random.integer(1, 4);
  const maxBundleElements = random.pick([1, 3, 20, 1000]);
  const maxBundleTimeMs = random.pick([5, 50, 1000]);
  const maxQueuedBytes = random.pick([200, 5_000, 1 << 20]);
  const channelCapacityBytes = random.pick([200, 5_000, 1 << 20]);
  const messageBytes = random.pick([1, 100, 32 * 1024]);
  const takesCheckpoints = withFaults || random.chance(0.8);
  const drawnMode = random.pick(MODES);
  const mode = options.mode ?? drawnMode;
  const cluster: SimulatedCluster = new SimulatedCluster({
    time,
    random: random.fork(),
    delays,
    start: (workerId, send) =>
      new SimulatedWorker({
        workerId,
        jobId: JOB_ID,
        graph,
        maxParallelism: 16,
        maxBundleElements,
        maxBundleTimeMs,
        maxQueuedBytes,
        channelCapacityBytes,
        limits: limitsFor(1 << 28, 20),
        functions: countingFunctions(
          world,
          random.fork(),
          () => failing,
          () => cluster.isKnown(workerId),
          (delayMs) => time.sleep(delayMs),
        ),
        time,
        random: random.fork(),
        storage,
        exchange,
        messageBytes,
        harnessDelays: { usualMs: random.integer(0, 3), slowMs: random.integer(1, 50) },
        send,
        log,
      }),
  });
  for (let count = 0; count < workerCount; count++) cluster.join();

  const settings = jobSettings(
    readOptions({
      streaming: true,
      parallelism,
      max_parallelism: 16,
      number_of_execution_retries: 1_000,
      execution_retry_delay: 20,
      ...(takesCheckpoints ? { checkpointing_interval: random.integer(20, 300) } : {}),
      ...(mode === "aligned" ? { num_concurrent_checkpoints: random.pick([1, 2, 3]) } : {}),
      ...(mode === "aligned" ? {} : { unaligned_checkpoint_enabled: true }),
      ...(mode === "timeout" ? { aligned_checkpoint_timeout: random.integer(1, 60) } : {}),
    }),
  );
  const tell = (text: string) => options.onMessage?.(time.elapsedMs, text);
  let outcome: JobOutcome | undefined;
  const execution = new StreamingExecution(
    {
      registry: cluster,
      workerWaitMs: LIMIT_MS,
      checkpointDirectory: "/checkpoints",
      openCheckpoints: (path) => storage.directory(path),
      clock: time,
      log,
    },
    {
      jobId: JOB_ID,
      jobName: "counting",
      graph,
      settings,
      pipelineOptions: {},
      pipelineOptionsBytes: new Uint8Array(),
      retrievalToken: "token",
      artifactAddress: "server:2",
    },
    {
      message: (importance, text) => {
        if (/restarts from/.test(text)) {
          restarts++;
          if (text.includes("the rest goes on")) partialRestarts++;
          runningCheckpoints.clear();
          onRestart?.();
        }
        if (/restarts from checkpoint/.test(text)) restores++;
        if (/goes back to the checkpoint before it|checkpoint cannot be restored/.test(text)) {
          world.wentFurtherBack();
          if (hit["file lost"] === 0) world.complaints.push(`no file was lost, but: ${text}`);
        }
        tell(`${importance} ${text}`);
      },
      running: () => undefined,
      keepCopy: () => Promise.resolve(),
      checkpointed: () => undefined,
      formerlyCheckpointed: () => undefined,
      metrics: (_attempted, committed) => {
        world.elementCounts = elementCounts(committed);
      },
    },
  );
  let restarts = 0;
  let partialRestarts = 0;
  let onRestart: (() => void) | undefined;
  let restores = 0;
  const runningCheckpoints = new Set<bigint>();
  let atOnce = 0;
  cluster.onSend = (message) => {
    if (message.$case === "triggerCheckpoint") runningCheckpoints.add(message.value.checkpointId);
    else if (message.$case === "checkpointEnd") runningCheckpoints.delete(message.value.checkpointId);
    atOnce = Math.max(atOnce, runningCheckpoints.size);
  };
  const hit = Object.fromEntries(FAULTS.map((kind) => [kind, 0])) as Record<FaultKind, number>;
  if (withFaults) {
    const draw = random.fork();
    let left = draw.integer(1, 12);
    const soon = (delayMs: number) =>
      time.at(delayMs, () => {
        if (outcome !== undefined || left === 0) return;
        left--;
        strike(draw.pick(FAULTS));
      });
    // Some at any time, the others around steps of the checkpoint protocol.
    for (let atMs = draw.integer(1, 1_000), fault = left; fault > 1; fault--, atMs += draw.integer(1, 2_000))
      soon(atMs);
    cluster.onMessage = ($case) => {
      if (PROTOCOL_STEPS.has($case) && draw.chance(0.02)) soon(draw.next() * 30);
    };
    // And some soon after the job has begun again.
    onRestart = () => {
      if (draw.chance(0.5)) soon(draw.next() * 2_000);
    };
    // From some time on all is well, so that the job comes to its end.
    time.at(20_000, () => {
      failing = 0;
      left = 0;
    });
    const strike = (kind: FaultKind) => {
      const { living } = cluster;
      if (kind === "storage down") {
        storage.isDown = true;
        time.at(draw.integer(1, 1_000), () => {
          storage.isDown = false;
        });
      } else if (kind === "write failed")
        storage.failuresLeft[draw.pick(["state", "manifest"] as const)] = draw.integer(1, 3);
      else {
        if (living.length === 0 || (kind === "file lost" && !storage.loseFile())) return;
        const worker = draw.pick(living);
        if (kind === "worker killed" || kind === "file lost") cluster.kill(worker);
        else if (kind === "worker cut off") cluster.cutOff(worker);
        else if (!worker.killHarness()) return;
      }
      hit[kind]++;
      tell(`FAULT ${kind}`);
      // Trouble comes in pairs.
      if (draw.chance(0.5)) soon(draw.next() * 100);
    };
  }
  const finished = execution.run().then((reached) => {
    outcome = reached;
  });
  finished.catch((failure: unknown) => world.complaints.push(String(failure)));
  const ended = await time.run(() => outcome !== undefined || world.complaints.length > 0, LIMIT_MS);
  if (ended === "over" && outcome?.kind === "done") world.finish();
  else if (outcome === undefined && world.complaints.length === 0)
    world.complaints.push(`the job did not end (${ended}): ${standing(execution)}`);
  else if (outcome?.kind === "failed") world.complaints.push(`the job failed: ${outcome.message}`);
  else if (outcome !== undefined && outcome.kind !== "done") world.complaints.push(`the job was ${outcome.kind}`);
  return {
    seed,
    complaints: world.complaints,
    faults: hit,
    checkpoints: execution.progress.checkpoints?.completed ?? 0,
    atOnce,
    restarts,
    partialRestarts,
    restores,
    events: time.eventCount,
    elapsedMs: time.elapsedMs,
    finalizations: world.finalizations,
    inFlightRestores: storage.inFlightReads,
  };
}

function drawShape(random: SeededRandom, seed: number): CountingShape {
  return {
    partitions: random.integer(1, 4),
    elementsPerPartition: random.pick([1, 60, 200, 400]),
    keys: random.integer(1, 12),
    windowMs: random.pick([30, 100, 1000]),
    withGroupByKey: random.chance(0.5),
    withProcessingTimers: random.chance(0.5),
    withSideInput: random.chance(0.3),
    withStableInput: random.chance(0.3),
    slowMs: random.pick([0, 0, 2, 20]),
    finalization: random.chance(0.7),
    withOtherRegion: seed % 3 === 0,
  };
}

/** By PCollection. */
function elementCounts(committed: readonly Uint8Array[]): ReadonlyMap<string, number> {
  const infos = committed.map((bytes) => MonitoringInfo.decode(bytes));
  return new Map(
    infos
      .filter(({ urn }) => urn === "beam:metric:element_count:v1")
      .map(({ labels, payload }) => [labels["PCOLLECTION"] ?? "", readVarint(payload, 0, "a count")]),
  );
}

function standing(execution: StreamingExecution): string {
  return JSON.stringify(execution.progress.tasks, (_key, value: unknown) =>
    typeof value === "bigint" ? Number(value) : value,
  );
}
