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
import { HarnessConnection } from "./task/harness-connection.ts";
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
  /** One harness more than the lanes use is started, for the next lane that needs one. */
  readonly keepsStandby?: boolean;
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

/** A client that submitted its job is there already: what does not answer soon is gone. */
const LOOPBACK_WAIT_MS = 3_000;
/** Streams end before the process does; how it ended says more than that they did. */
const EXIT_WAIT_MS = 2_000;

/** After a harness has come to work: it has the processors for itself until then. */
const STANDBY_AFTER_MS = 2_000;

/** One that was killed at its start is started again; not for ever, since a kernel short of memory kills it again. */
const MAX_KILLED_STARTS = 4;

/** The environment is gone for good: the job cannot go on. */
export class EnvironmentLostError extends WeirError {}

export class HarnessPool {
  readonly #init: HarnessPoolInit;
  readonly #lanes = new Map<number, Promise<Running>>();
  readonly #abort = new AbortController();
  #standby: Promise<Running> | undefined;
  /** Until it is started. */
  #standbyTimer: AbortController | undefined;
  /** A harness of this environment has worked before. */
  #hasWorked = false;
  /** In a row: harnesses that were killed before they had connected. */
  #killedStarts = 0;

  constructor(init: HarnessPoolInit) {
    this.#init = init;
  }

  /** The lane's harness, connected. @throws EnvironmentLostError, or a WeirError that says why it did not start. */
  async lane(index: number, signal: AbortSignal): Promise<HarnessConnection> {
    for (let isNew = false; ;) {
      signal.throwIfAborted();
      if (this.#abort.signal.aborted)
        throw new WeirError({ code: "CANCELLED", domain: "internal", message: "The job has ended." });
      let starting = this.#lanes.get(index);
      if (starting === undefined) {
        isNew = true;
        starting = this.#takeStandby() ?? this.#start();
        this.#lanes.set(index, starting);
        starting.then(
          () => this.#prepareStandby(),
          () => {
            if (this.#lanes.get(index) === starting) this.#lanes.delete(index);
          },
        );
      }
      const running = await unlessAborted(starting, signal);
      const isLost = running.connection.lostError !== undefined;
      if (isLost && this.#lanes.get(index) === starting) this.#lanes.delete(index);
      // One that was lost right after its start is the bundle's failed attempt, so that it counts.
      if (!isLost || isNew) return running.connection;
    }
  }

  /** By the pool's own signal: a task that is cancelled must not take the harness from another one that waits. */
  async #start(): Promise<Running> {
    const { clock, environmentWaitMs, loopback } = this.#init;
    const { signal } = this.#abort;
    const waitMs = loopback ? Math.min(LOOPBACK_WAIT_MS, environmentWaitMs) : environmentWaitMs;
    const giveUpMs = clock.monotonicMs() + waitMs;
    for (let delayMs = 100; ; delayMs = Math.min(delayMs * 2, 5_000)) {
      try {
        return await this.#startOnce();
      } catch (failure) {
        const error = WeirError.from(failure);
        if (!error.retry || signal.aborted) throw error;
        if (clock.monotonicMs() + delayMs > giveUpMs)
          throw loopback ? clientGone(error) : environmentGone(error, waitMs, this.#hasWorked);
        this.#init.log.warn({ err: error.message }, "SDK harness did not start, trying again");
        await clock.sleep(delayMs, signal);
      }
    }
  }

  #takeStandby(): Promise<Running> | undefined {
    const standby = this.#standby;
    this.#standby = undefined;
    this.#standbyTimer?.abort();
    this.#standbyTimer = undefined;
    return standby?.then(
      (running) => (running.connection.lostError === undefined ? running : this.#start()),
      () => this.#start(),
    );
  }

  /** It is the job's in all but work: it ends with it, and one that is lost meanwhile is nobody's loss. */
  #prepareStandby(): void {
    const { signal } = this.#abort;
    const isThere = this.#standby !== undefined || this.#standbyTimer !== undefined;
    if (this.#init.keepsStandby !== true || isThere || signal.aborted) return;
    const timer = new AbortController();
    this.#standbyTimer = timer;
    this.#init.clock.sleep(STANDBY_AFTER_MS, AbortSignal.any([timer.signal, signal])).then(
      () => this.#startStandby(),
      () => undefined,
    );
  }

  #startStandby(): void {
    this.#standbyTimer = undefined;
    const standby = this.#startOnce();
    this.#standby = standby;
    standby.catch((failure: unknown) => {
      if (this.#standby === standby) this.#standby = undefined;
      if (this.#abort.signal.aborted) return;
      this.#init.log.warn({ err: WeirError.from(failure).message }, "there is no standby harness");
    });
  }

  async #startOnce(): Promise<Running> {
    const { environment, endpoints, clock, connectTimeoutMs } = this.#init;
    const { signal } = this.#abort;
    const harnessId = this.#init.newHarnessId();
    const connection = new HarnessConnection(harnessId, clock);
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
      const { exited } = started;
      // A harness that ends before it connects would do so again: only one that worked, or was killed, is worth another try.
      let wasConnected = false;
      exited.then(
        ({ reason, lastOutput, isKilled = false }) => {
          if (isKilled && !wasConnected) this.#killedStarts++;
          const again = wasConnected || (isKilled && this.#killedStarts < MAX_KILLED_STARTS);
          connection.lose(this.#describeExit(reason, lastOutput), again);
        },
        (failure: unknown) => connection.lose(WeirError.from(failure).message, wasConnected),
      );
      // After the reaction above, so that the exit's own reason comes first.
      if (started.tellsExit === true)
        connection.delayLoss = () =>
          Promise.race([exited.then(noop, noop), clock.sleep(EXIT_WAIT_MS, signal).catch(noop)]);
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
      this.#hasWorked = true;
      this.#killedStarts = 0;
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
    this.#abort.abort(new Error("the job has ended"));
    const lanes = [...this.#lanes.values(), ...(this.#standby === undefined ? [] : [this.#standby])];
    this.#lanes.clear();
    this.#standby = undefined;
    await Promise.allSettled(
      lanes.map(async (starting) => {
        const running = await starting;
        // Its user code is in the client, which may look at once for what teardown has done.
        if (this.#init.loopback) await running.connection.finish();
        await running.started.stop();
        running.connection.lose("the job has ended", false);
      }),
    );
  }
}

function clientGone(cause: WeirError): EnvironmentLostError {
  return new EnvironmentLostError({
    code: "UNAVAILABLE",
    domain: "external",
    message: `The client that ran this LOOPBACK job's SDK harness is gone: ${cause.message}`,
    hint: "A LOOPBACK job ends with its client; use PROCESS, DOCKER or EXTERNAL for jobs that must live on.",
    cause,
  });
}

/** An environment that was there may come back: the job's restart strategy decides. One that never was will not. */
function environmentGone(cause: WeirError, waitedMs: number, hasWorked: boolean): WeirError {
  const init = {
    code: cause.code,
    domain: "external",
    message: `The job's environment was waited for ${waitedMs / 1_000} s in vain. ${cause.message}`,
    cause,
  } as const;
  return hasWorked ? new WeirError({ ...init, retry: true }) : new EnvironmentLostError(init);
}

function unlessAborted<Value>(value: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    signal.addEventListener("abort", abort, { once: true });
    void value.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function noop(): void {}
