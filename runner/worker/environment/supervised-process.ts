/**
 * A child process in a session of its own, with the last lines of its output, and reaped as a whole: when it ends, or
 * is stopped, nothing that it started lives on and its folder is gone.
 *
 *     stop(): SIGTERM to the session ── grace ──► SIGKILL to what is left ──► folder removed ──► resolved
 *
 * The child's own end counts as the end of all: what it left behind is stopped in the same way.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { rm } from "node:fs/promises";
import type { Clock } from "../../base/clock.ts";
import { WeirError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { HarnessExit, StartedHarness } from "../task/ports.ts";
import { OutputTail } from "./output-tail.ts";
import type { SessionGuard } from "./session-guard.ts";
import { signalSession } from "./session-processes.ts";

export interface SupervisedProcessInit {
  /** For messages: which environment, and what the user can change. */
  readonly what: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The process's own folder: removed at its end. */
  readonly directory: string;
  readonly graceMs: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Ends the session if this process is killed. */
  readonly guard?: SessionGuard | undefined;
  /** What has to happen after the processes have ended, such as removing a container. */
  readonly afterEnd?: () => Promise<void>;
}

const POLL_MS = 25;
/** After SIGKILL a process is gone as soon as the kernel gets to it; one in uninterruptible sleep may take long. */
const KILL_WAIT_MS = 5_000;
/** How long the pipes are read after the last process has ended. */
const DRAIN_MS = 500;

/** @throws WeirError FAILED_PRECONDITION when the command cannot be run; the folder is removed then. */
export async function startSupervised(init: SupervisedProcessInit): Promise<StartedHarness> {
  const { log, directory } = init;
  const child = spawn(init.command, init.args, {
    detached: true,
    env: init.env as NodeJS.ProcessEnv,
    stdio: ["ignore", "pipe", "pipe"],
  });
  try {
    await spawned(child);
  } catch (failure) {
    await rm(directory, { recursive: true, force: true });
    throw notRunnable(init, failure as NodeJS.ErrnoException);
  }
  const pid = child.pid as number;
  init.guard?.watch(pid);
  const output = new OutputTail((line) => log.debug({ pid }, line));
  if (child.stdout !== null) output.follow(child.stdout);
  if (child.stderr !== null) output.follow(child.stderr);

  const ended = Promise.withResolvers<{ readonly reason: string; readonly isKilled: boolean }>();
  child.once("exit", (code, signal) =>
    ended.resolve({
      reason: signal === null ? `exited with code ${code}` : `was ended by ${signal}`,
      isKilled: signal === "SIGKILL",
    }),
  );
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));

  let reaping: Promise<void> | undefined;
  const reap = (): Promise<void> => (reaping ??= reapSession(init, pid, closed, child));
  const exited = ended.promise.then(async ({ reason, isKilled }): Promise<HarnessExit> => {
    await reap();
    return { reason: `${init.what} ${reason}`, lastOutput: output.lines(), isKilled };
  });
  exited.catch(() => undefined);
  return { exited, tellsExit: true, stop: reap };
}

/** Ends the session and waits until it is empty. */
async function reapSession(
  init: SupervisedProcessInit,
  pid: number,
  closed: Promise<void>,
  child: ChildProcess,
): Promise<void> {
  const { clock } = init;
  if (signalSession(pid, "SIGTERM") && !(await emptied(clock, pid, init.graceMs))) {
    init.log.warn({ pid }, `${init.what} did not end within ${init.graceMs} ms of SIGTERM: killed`);
    const killUntilMs = clock.monotonicMs() + KILL_WAIT_MS;
    // A process that is just being forked can miss a signal, so it is sent until nobody is left.
    while (signalSession(pid, "SIGKILL") && clock.monotonicMs() < killUntilMs) await clock.sleep(POLL_MS);
  }
  const drainEnd = new AbortController();
  const drainOver = clock.sleep(DRAIN_MS, drainEnd.signal).catch(() => undefined);
  await Promise.race([closed, drainOver]);
  drainEnd.abort();
  // Somebody outside of the session may hold the pipes; they must not keep us alive.
  child.stdout?.destroy();
  child.stderr?.destroy();
  await rm(init.directory, { recursive: true, force: true, maxRetries: 3 });
  await init.afterEnd?.();
  const anyLeft = signalSession(pid, 0);
  if (!anyLeft) init.guard?.unwatch(pid);
  if (anyLeft)
    throw new WeirError({
      code: "INTERNAL",
      domain: "external",
      message: `Processes of ${init.what} (session ${pid}) live on after SIGKILL.`,
    });
}

async function emptied(clock: Clock, pid: number, timeoutMs: number): Promise<boolean> {
  const untilMs = clock.monotonicMs() + timeoutMs;
  while (signalSession(pid, 0)) {
    if (clock.monotonicMs() >= untilMs) return false;
    await clock.sleep(POLL_MS);
  }
  return true;
}

function spawned(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", reject);
  });
}

function notRunnable(init: SupervisedProcessInit, failure: NodeJS.ErrnoException): WeirError {
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: "there is no such file, or its interpreter is missing",
    EACCES: "it is not executable",
    ENOEXEC: "it is no program; a script needs a first line such as #!/bin/sh",
  };
  return new WeirError({
    code: "FAILED_PRECONDITION",
    domain: "user",
    message: `${init.what} cannot be run: ${reasons[failure.code ?? ""] ?? failure.message}.`,
    cause: failure,
  });
}
