/**
 * One worker of a simulation: the real StreamJob with its tasks and the real channels, on simulated time, network and
 * storage, with SDK harnesses in this process.
 *
 * Invariant: from the moment in which it is killed nothing of it happens any more: its callbacks, its sleeps, its
 * writes; only what it had sent may still arrive.
 */
import { ProcessBundleDescriptor } from "../../proto/gen/beam_fn_api.ts";
import type { CoordinatorMessage, WorkerMessage } from "../../proto/gen/worker.ts";
import type { Clock } from "../../runner/base/clock.ts";
import type { WorkerId } from "../../runner/base/ids.ts";
import type { Limits } from "../../runner/base/limits.ts";
import type { Log } from "../../runner/base/log.ts";
import type { ExecutionGraph } from "../../runner/graph/execution-graph.ts";
import { StreamChannels } from "../../runner/worker/exchange/stream-channels.ts";
import { StreamJob } from "../../runner/worker/stream/stream-job.ts";
import { StreamRegions } from "../../runner/worker/stream/stream-regions.ts";
import type { HarnessConnection } from "../../runner/worker/task/harness-connection.ts";
import type { FunctionRegistry } from "../../sdk-harness/user-functions.ts";
import { type InProcessHarness, startInProcessHarness, type WireStream } from "../support/in-process-harness.ts";
import type { SimulatedExchange } from "./simulated-exchange.ts";
import { type LinkDelays, SimulatedLink } from "./simulated-link.ts";
import { SimulatedRows, type SimulatedStorage, type Tables, tablesOf } from "./simulated-storage.ts";
import type { SeededRandom, SimulatedTime } from "./simulated-time.ts";

export interface SimulatedWorkerInit {
  readonly workerId: string;
  readonly jobId: string;
  readonly graph: ExecutionGraph;
  readonly maxParallelism: number;
  readonly maxBundleElements: number;
  readonly maxBundleTimeMs: number;
  readonly maxQueuedBytes: number;
  readonly channelCapacityBytes: number;
  readonly limits: Limits;
  readonly functions: FunctionRegistry;
  readonly time: SimulatedTime;
  readonly random: SeededRandom;
  readonly storage: SimulatedStorage;
  readonly exchange: SimulatedExchange;
  readonly harnessDelays: LinkDelays;
  /** Of a harness' message with output. */
  readonly messageBytes: number;
  readonly send: (message: NonNullable<WorkerMessage["message"]>) => void;
  readonly log: Log;
}

/** A harness needs up to so long to start. */
const HARNESS_START_MS = 200;

export class SimulatedWorker {
  readonly workerId: WorkerId;
  readonly exchangeAddress: string;
  readonly #init: SimulatedWorkerInit;
  readonly #channels: StreamChannels;
  readonly #job: StreamRegions;
  readonly #clock: Clock;
  readonly #descriptors = new Map<string, ProcessBundleDescriptor>();
  readonly #harnesses = new Map<string, InProcessHarness>();
  #harnessCount = 0;
  #fileCount = 0;
  #alive = true;

  constructor(init: SimulatedWorkerInit) {
    this.#init = init;
    this.workerId = init.workerId as WorkerId;
    this.exchangeAddress = `${init.workerId}:1`;
    const { time, graph } = init;
    this.#clock = {
      nowMs: () => time.nowMs(),
      monotonicMs: () => time.monotonicMs(),
      sleep: (delayMs, signal) => time.sleep(delayMs, signal).then(() => this.#untilAlive()),
    };
    for (const { id, stage } of graph.vertices) {
      if (stage !== undefined) this.#descriptors.set(id, ProcessBundleDescriptor.decode(stage.descriptor));
      if (stage?.truncate !== undefined)
        this.#descriptors.set(`${id}/truncate`, ProcessBundleDescriptor.decode(stage.truncate.descriptor));
    }
    const endpoint = () => ({ channels: this.#channels, isAlive: () => this.#alive });
    this.#channels = new StreamChannels({
      workerId: init.workerId,
      clock: this.#clock,
      connections: init.exchange.connections(() => this.#endpoint),
    });
    this.#endpoint = endpoint();
    init.exchange.join(this.exchangeAddress, this.#endpoint);
    this.#job = new StreamRegions((region) => this.#openRegion(region));
  }

  #openRegion(region: number): StreamJob {
    const init = this.#init;
    const { graph, log } = init;
    return new StreamJob({
      jobId: init.jobId,
      region,
      channels: this.#channels,
      channelCapacityBytes: () => init.channelCapacityBytes,
      environment: {
        jobId: init.jobId,
        graph,
        maxParallelism: init.maxParallelism,
        maxBundleElements: init.maxBundleElements,
        maxBundleTimeMs: init.maxBundleTimeMs,
        limits: init.limits,
        spillDirectory: undefined,
        maxQueuedBytes: init.maxQueuedBytes,
        clock: this.#clock,
        log,
        schedule: (run) => this.#later(init.random.next() * 0.5, run),
        harness: (environmentId, lane, signal) => this.#harness(`${environmentId}/${lane}`, signal),
        descriptorId: (vertexId) => vertexId,
        barriersBlock: true,
        firesTimersAtEnd: false,
        gathersInput: false,
        truncateDescriptorId: (vertexId) => `${vertexId}/truncate`,
        windowMerger: () => undefined,
      },
      openRows: async ({ deployment, executionAttempt, checkpointDirectory }) => {
        const { storage } = init;
        // Every snapshot is whole: the last file, and what was in flight.
        const restored: Tables[] = [];
        for (const { path } of deployment.restore) restored.push(await storage.readState(path));
        await this.#untilAlive();
        const task = `${deployment.vertexId}.${deployment.subtaskIndex}.${executionAttempt}`;
        return new SimulatedRows(restored, async (checkpointId, tables, inFlight) => {
          // As real ones end: what no checkpoint needs is found by its name.
          const name = (kind: string) =>
            `${checkpointDirectory}/${task}-${checkpointId}.${kind}.${init.workerId}.${this.#fileCount++}`;
          const stored = await storage.writeState(name("base"), tables, () => this.#alive);
          await this.#untilAlive();
          const rows = await inFlight;
          if (rows === undefined) return [stored];
          const more = await storage.writeState(name("in-flight"), tablesOf(rows), () => this.#alive);
          await this.#untilAlive();
          return [stored, { ...more, inFlight: true }];
        });
      },
      send: (message) => {
        if (this.#alive) init.send(message);
      },
      isEnvironmentLost: () => false,
      clock: this.#clock,
      log,
    });
  }

  readonly #endpoint: { readonly channels: StreamChannels; isAlive(): boolean };

  get isAlive(): boolean {
    return this.#alive;
  }

  get harnessCount(): number {
    return this.#harnesses.size;
  }

  #later(delayMs: number, run: () => void): void {
    this.#init.time.at(delayMs, () => {
      if (this.#alive) run();
    });
  }

  /** Never resolves on a worker that is dead. */
  #untilAlive(): Promise<void> {
    return this.#alive ? Promise.resolve() : new Promise(() => undefined);
  }

  async #harness(key: string, signal: AbortSignal): Promise<HarnessConnection> {
    const known = this.#harnesses.get(key);
    if (known !== undefined && known.connection.lostError === undefined) return known.connection;
    await this.#clock.sleep(this.#init.random.next() * HARNESS_START_MS, signal);
    const meanwhile = this.#harnesses.get(key);
    if (meanwhile !== undefined && meanwhile.connection.lostError === undefined) return meanwhile.connection;
    const started = this.#startHarness();
    this.#harnesses.set(key, started);
    return started.connection;
  }

  #startHarness(): InProcessHarness {
    const { functions, time, random, harnessDelays, messageBytes, workerId } = this.#init;
    const links = new Map<string, SimulatedLink>();
    const link = (stream: WireStream, direction: string) => {
      const key = `${stream} ${direction}`;
      let existing = links.get(key);
      if (existing === undefined) links.set(key, (existing = new SimulatedLink(time, random.fork(), harnessDelays)));
      return existing;
    };
    return startInProcessHarness({
      harnessId: `${workerId}-h${++this.#harnessCount}`,
      functions,
      messageBytes,
      descriptor: (descriptorId) => this.#descriptors.get(descriptorId),
      nowMs: () => time.nowMs(),
      turn: () => this.#clock.sleep(random.next() * harnessDelays.usualMs),
      wire: {
        deliver: (stream, direction, arrive) =>
          link(stream, direction).send(() => {
            if (this.#alive) arrive();
          }),
      },
    });
  }

  /** One of its harnesses dies. @returns false when it has none */
  killHarness(): boolean {
    const living = [...this.#harnesses.values()].filter(({ connection }) => connection.lostError === undefined);
    if (living.length === 0) return false;
    this.#init.random.pick(living).kill("it was killed");
    return true;
  }

  /** As `kill -9`, of its harnesses too. */
  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const { harness } of this.#harnesses.values()) harness.close();
    this.#init.exchange.broke(this.#endpoint);
  }

  /** What WorkerJob does with messages about streaming tasks. */
  onMessage(message: NonNullable<CoordinatorMessage["message"]>): void {
    if (!this.#alive) return;
    if (this.#job.onMessage(message)) return;
    switch (message.$case) {
      case "releaseJob":
        void this.#job
          .close()
          .then(() => this.#init.send({ $case: "jobReleased", value: { jobId: message.value.jobId } }));
        break;
      default:
        // Of the blocking engine, or nothing that a streaming job needs.
        break;
    }
  }
}
