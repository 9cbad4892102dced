/**
 * The worker processes that the job server keeps on its own machine: starts them, starts another when one dies, and
 * ends them with itself.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { type Clock, randomHex } from "../base/clock.ts";
import type { Log } from "../base/log.ts";

export interface LocalWorkersInit {
  readonly count: number;
  /** Command line of one worker, without its --worker-id. */
  readonly command: readonly [string, ...string[]];
  readonly clock: Clock;
  readonly log: Log;
}

/** A worker that dies again at once is not started in a tight loop. */
const RESTART_DELAY_MS = 200;
const RESTART_DELAY_MAX_MS = 10_000;
/** After SIGTERM a worker has so long to end its harnesses. */
const STOP_GRACE_MS = 5_000;
const REPLACE_GRACE_MS = 1_000;

export class LocalWorkers {
  readonly #init: LocalWorkersInit;
  readonly #children = new Map<string, ChildProcess>();
  readonly #abort = new AbortController();
  readonly #keepers: Promise<void>[] = [];

  private constructor(init: LocalWorkersInit) {
    this.#init = init;
  }

  /** Starts the processes; they register by themselves. */
  static open(init: LocalWorkersInit): LocalWorkers {
    const workers = new LocalWorkers(init);
    for (let index = 0; index < init.count; index++) workers.#keepers.push(workers.#keep());
    return workers;
  }

  /**
   * Replaces a worker that the job server has given up: one that ends by itself has a moment for it, one that hangs
   * is killed. Does nothing when it is gone already, or is not ours.
   */
  replace(workerId: string): void {
    if (!this.#children.has(workerId) || this.#abort.signal.aborted) return;
    this.#init.clock.sleep(REPLACE_GRACE_MS, this.#abort.signal).then(
      () => this.#children.get(workerId)?.kill("SIGKILL"),
      () => undefined,
    );
  }

  async #keep(): Promise<void> {
    const { clock, log } = this.#init;
    let delayMs = RESTART_DELAY_MS;
    while (!this.#abort.signal.aborted) {
      const startedMs = clock.monotonicMs();
      const exit = await this.#runOne();
      if (this.#abort.signal.aborted) return;
      log.warn({ exit }, "a local worker ended, starting another");
      delayMs =
        clock.monotonicMs() - startedMs > 10_000 ? RESTART_DELAY_MS : Math.min(delayMs * 2, RESTART_DELAY_MAX_MS);
      await clock.sleep(delayMs, this.#abort.signal).catch(() => undefined);
    }
  }

  #runOne(): Promise<string> {
    const [program, ...args] = this.#init.command;
    const workerId = `worker-${randomHex(4)}`;
    return new Promise((resolve) => {
      const child = spawn(program, [...args, "--worker-id", workerId], { stdio: ["pipe", "ignore", "inherit"] });
      this.#children.set(workerId, child);
      const ended = (how: string) => {
        this.#children.delete(workerId);
        resolve(how);
      };
      child.once("error", (failure) => ended(failure.message));
      child.once("exit", (code, signal) => ended(signal ?? `exit code ${code}`));
    });
  }

  /** Ends all and waits for them. Idempotent. */
  async close(): Promise<void> {
    this.#abort.abort();
    const children = [...this.#children.values()];
    for (const child of children) child.kill("SIGTERM");
    const grace = new AbortController();
    void this.#init.clock.sleep(STOP_GRACE_MS, grace.signal).then(
      () => {
        for (const child of this.#children.values()) child.kill("SIGKILL");
      },
      () => undefined,
    );
    await Promise.all(this.#keepers);
    grace.abort();
  }
}
