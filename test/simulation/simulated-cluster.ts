/**
 * The workers of a simulation as the job server sees them, and what becomes of them: they are killed, cut off, and
 * replaced. Messages take their time in both directions, in order.
 */
import type { CoordinatorMessage, WorkerMessage } from "../../proto/gen/worker.ts";
import type { WorkerId } from "../../runner/base/ids.ts";
import type { RegisteredWorker, WorkerListener } from "../../runner/job-server/worker-registry.ts";
import { type LinkDelays, SimulatedLink } from "./simulated-link.ts";
import type { SeededRandom, SimulatedTime } from "./simulated-time.ts";
import type { SimulatedWorker } from "./simulated-worker.ts";

interface Member {
  readonly worker: SimulatedWorker;
  readonly registered: RegisteredWorker;
  isKnown: boolean;
}

export interface SimulatedClusterInit {
  readonly time: SimulatedTime;
  readonly random: SeededRandom;
  readonly delays: LinkDelays;
  readonly start: (workerId: string, send: (message: NonNullable<WorkerMessage["message"]>) => void) => SimulatedWorker;
}

/** The job server notices a lost worker within so long. */
const NOTICE_MS = 400;
/** A replacement is there within so long after that. */
const REPLACE_MS = 600;

export class SimulatedCluster {
  readonly #init: SimulatedClusterInit;
  #members: Member[] = [];
  readonly #listeners = new Set<WorkerListener>();
  #startedCount = 0;
  /** Told of each message between job server and workers when it arrives. */
  onMessage: (($case: string) => void) | undefined;
  /** Told of each message to a worker when the job server sends it. */
  onSend: ((message: NonNullable<CoordinatorMessage["message"]>) => void) | undefined;

  constructor(init: SimulatedClusterInit) {
    this.#init = init;
  }

  get workers(): RegisteredWorker[] {
    return this.#members.filter(({ isKnown }) => isKnown).map(({ registered }) => registered);
  }

  /** Those that live and are known to the job server. */
  get living(): SimulatedWorker[] {
    return this.#members.filter(({ isKnown, worker }) => isKnown && worker.isAlive).map(({ worker }) => worker);
  }

  isKnown(workerId: string): boolean {
    return this.#members.some(({ isKnown, registered }) => isKnown && registered.workerId === workerId);
  }

  listen(listener: WorkerListener): void {
    this.#listeners.add(listener);
  }

  unlisten(listener: WorkerListener): void {
    this.#listeners.delete(listener);
  }

  join(): void {
    const { time, random, delays, start } = this.#init;
    const workerId = `w${++this.#startedCount}`;
    const forth = new SimulatedLink(time, random.fork(), delays);
    const back = new SimulatedLink(time, random.fork(), delays);
    const worker = start(workerId, (message) =>
      back.send(() => {
        if (!member.isKnown) return;
        this.onMessage?.(message.$case);
        for (const listener of [...this.#listeners]) listener.workerMessage(registered, message);
      }),
    );
    const registered: RegisteredWorker = {
      workerId: workerId as WorkerId,
      exchangeAddress: worker.exchangeAddress,
      slots: 1,
      local: true,
      pid: 1,
      send: (message: NonNullable<CoordinatorMessage["message"]>) => {
        this.onSend?.(message);
        forth.send(() => {
          this.onMessage?.(message.$case);
          worker.onMessage(message);
        });
      },
    };
    const member: Member = { worker, registered, isKnown: true };
    this.#members.push(member);
    for (const listener of [...this.#listeners]) listener.workerJoined(registered);
  }

  /** `kill -9`: noticed after a while, and replaced after another. */
  kill(worker: SimulatedWorker): void {
    const { time, random } = this.#init;
    worker.kill();
    time.at(random.next() * NOTICE_MS, () => this.#lose(worker, "it was killed"));
  }

  /** The job server gives up a worker that goes on for a while: what it does from now on must not count. */
  cutOff(worker: SimulatedWorker): void {
    const { time, random } = this.#init;
    this.#lose(worker, "no heartbeat");
    time.at(random.next() * 2_000, () => worker.kill());
  }

  #lose(worker: SimulatedWorker, reason: string): void {
    const member = this.#members.find((candidate) => candidate.worker === worker);
    if (member?.isKnown !== true) return;
    member.isKnown = false;
    for (const listener of [...this.#listeners]) listener.workerLost(member.registered, reason);
    const { time, random } = this.#init;
    time.at(random.next() * REPLACE_MS, () => this.join());
  }
}
