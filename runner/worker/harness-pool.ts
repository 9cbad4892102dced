/**
 * The SDK harnesses of one environment of one job on this worker: started when a lane first needs one, started again
 * when one is lost, ended with the job. Lane i always gets the same harness while it lives.
 *
 * Invariant: a harness that did not connect in time, or died at its start, gives one message with the last lines of
 * its own output; nothing waits for it any more.
 */
import type { Clock } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import type { HarnessId, JobId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { EnvironmentSpec } from "../graph/execution-graph.ts";
import { HarnessConnection } from "./fn-api/harness-connection.ts";
import type { HarnessEndpoints, HarnessLauncher, StartedHarness } from "./task/ports.ts";

export interface HarnessPoolInit {
  readonly jobId: JobId;
  readonly environmentId: string;
  readonly environment: EnvironmentSpec;
  readonly pipelineOptions: Readonly<Record<string, unknown>>;
  readonly endpoints: HarnessEndpoints;
  readonly launcher: HarnessLauncher;
  /** The client runs the harness itself: when it is gone, so is the environment. */
  readonly loopback: boolean;
  /** A harness must connect within this time. */
  readonly connectTimeoutMs: number;
  /** How long a pool that does not answer is waited for. */
  readonly environmentWaitMs: number;
  readonly newHarnessId: () => HarnessId;
  readonly onConnection: (connection: HarnessConnection) => void;
  readonly onGone: (harnessId: HarnessId) => void;
  readonly clock: Clock;
  readonly log: Log;
}

interface Running {
  readonly connection: HarnessConnection;
  readonly started: StartedHarness;
}

/** The environment is gone for good: the job cannot go on. */
export class EnvironmentLostError extends WeirError {}

export class HarnessPool {
  readonly #init: HarnessPoolInit;
  readonly #lanes = new Map<number, Promise<Running>>();
  #everConnected = false;
  #closed = false;

  constructor(init: HarnessPoolInit) {
    this.#init = init;
  }

  /** The lane's harness, connected. @throws EnvironmentLostError, or a WeirError that says why it did not start. */
  async lane(index: number, signal: AbortSignal): Promise<HarnessConnection> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#closed) throw new WeirError({ code: "CANCELLED", domain: "internal", message: "The job has ended." });
      let starting = this.#lanes.get(index);
      if (starting === undefined) {
        starting = this.#start(signal);
        this.#lanes.set(index, starting);
        starting.catch(() => {
          if (this.#lanes.get(index) === starting) this.#lanes.delete(index);
        });
      }
      const running = await starting;
      if (running.connection.lostError === undefined) return running.connection;
      if (this.#lanes.get(index) === starting) this.#lanes.delete(index);
    }
  }

  async #start(signal: AbortSignal): Promise<Running> {
    const { clock, environmentWaitMs, loopback } = this.#init;
    const giveUpMs = clock.monotonicMs() + environmentWaitMs;
    for (let delayMs = 100; ; delayMs = Math.min(delayMs * 2, 5_000)) {
      try {
        return await this.#startOnce(signal);
      } catch (failure) {
        const error = WeirError.from(failure);
        if (loopback && this.#everConnected)
          throw new EnvironmentLostError({
            code: "UNAVAILABLE",
            domain: "external",
            message: `The client that ran this LOOPBACK job's SDK harness is gone: ${error.message}`,
            hint: "A LOOPBACK job ends with its client; use PROCESS, DOCKER or EXTERNAL for jobs that must live on.",
            cause: error,
          });
        if (!error.retry || clock.monotonicMs() + delayMs > giveUpMs || signal.aborted) throw error;
        this.#init.log.warn({ err: error.message }, "SDK harness did not start, trying again");
        await clock.sleep(delayMs, signal);
      }
    }
  }

  async #startOnce(signal: AbortSignal): Promise<Running> {
    const { environment, endpoints, clock, connectTimeoutMs } = this.#init;
    const harnessId = this.#init.newHarnessId();
    const connection = new HarnessConnection(harnessId);
    this.#init.onConnection(connection);
    let started: StartedHarness | undefined;
    const timer = new AbortController();
    try {
      started = await this.#init.launcher.start({
        jobId: this.#init.jobId,
        harnessId,
        environment,
        endpoints,
        pipelineOptions: this.#init.pipelineOptions,
        signal,
      });
      const running: Running = { connection, started };
      // A harness that dies before it connects would die again: only one that worked is worth another try.
      let wasConnected = false;
      started.exited.then(
        (exit) => connection.lose(this.#describeExit(exit.reason, exit.lastOutput), wasConnected),
        (failure: unknown) => connection.lose(WeirError.from(failure).message, wasConnected),
      );
      const late = clock.sleep(connectTimeoutMs, AbortSignal.any([timer.signal, signal])).then(() => {
        throw new WeirError({
          code: "DEADLINE_EXCEEDED",
          domain: "external",
          message: `The SDK harness of environment ${environment.urn} did not connect within ${connectTimeoutMs / 1000} s.`,
          hint: "Look at its own output; is the control endpoint reachable from where it runs?",
        });
      });
      late.catch(() => undefined);
      await Promise.race([connection.connected, late]);
      wasConnected = true;
      this.#everConnected = true;
      void connection.lost.then(async () => {
        this.#init.onGone(harnessId);
        await running.started.stop().catch((failure: unknown) => {
          this.#init.log.warn({ err: failure }, "a lost harness could not be reaped");
        });
      });
      return running;
    } catch (failure) {
      connection.lose(WeirError.from(failure).message);
      this.#init.onGone(harnessId);
      await started?.stop();
      throw failure;
    } finally {
      timer.abort();
    }
  }

  #describeExit(reason: string, lastOutput: readonly string[]): string {
    return lastOutput.length === 0 ? reason : `${reason}; its last output:\n${lastOutput.join("\n")}`;
  }

  /** Ends all harnesses. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const lanes = [...this.#lanes.values()];
    this.#lanes.clear();
    await Promise.allSettled(
      lanes.map(async (starting) => {
        const running = await starting;
        await running.started.stop();
        running.connection.lose("the job has ended", false);
      }),
    );
  }
}
