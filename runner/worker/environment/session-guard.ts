/**
 * Ends the harnesses of a worker that was killed outright. A harness ends by itself when its streams do, but not one
 * that is busy in user code, and a process that gets SIGKILL can clean up nothing. So a small shell, in a session of
 * its own, holds the other end of a pipe to the worker: it is told of each session of harness processes, and when the
 * pipe closes it kills what is left of them and removes the worker's temporary folder.
 *
 * Protocol, one line each: `+ SESSION` started, `- SESSION` reaped. The kernel closes the pipe, however we end.
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Log } from "../../base/log.ts";

/** Membership as in session-processes.ts; twice, since a process that is just being forked can miss the first. */
const SCRIPT = `
trap '' TERM INT HUP
directory=$1
sessions=" "
while read -r verb id; do
  case $verb in
    +) sessions="$sessions$id " ;;
    -) case $sessions in *" $id "*) sessions="\${sessions%% $id *} \${sessions#* $id }" ;; esac ;;
  esac
done
for session in $sessions $sessions; do
  for stat in /proc/[0-9]*/stat; do
    read -r line 2>/dev/null < "$stat" || continue
    set -- \${line##*) }
    if [ "$4" = "$session" ]; then kill -KILL "\${line%% *}"; fi
  done
  kill -KILL -- "-$session"
done 2>/dev/null
rm -rf -- "$directory"
`;

export class SessionGuard {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  private constructor(child: ChildProcess, ended: Promise<void>) {
    this.#child = child;
    this.#ended = ended;
  }

  /** @param directory is removed when this process ends. Where there is no shell, nothing is guarded. */
  static open(init: { readonly directory: string; readonly log: Log }): SessionGuard {
    const child = spawn("/bin/sh", ["-c", SCRIPT, "weir-session-guard", init.directory], {
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
    });
    const ended = new Promise<void>((resolve) => {
      child.once("error", (failure) => {
        init.log.warn({ err: failure }, "harnesses would outlive this worker if it were killed");
        resolve();
      });
      child.once("exit", () => resolve());
    });
    // The guard is gone when its pipe breaks; the harnesses that live are still ours to reap.
    child.stdin?.on("error", () => undefined);
    return new SessionGuard(child, ended);
  }

  /** A session of harness processes has started, led by `leaderPid`. */
  watch(leaderPid: number): void {
    this.#child.stdin?.write(`+ ${leaderPid}\n`);
  }

  /** Nothing of the session is left; its number may be used again by others. */
  unwatch(leaderPid: number): void {
    this.#child.stdin?.write(`- ${leaderPid}\n`);
  }

  /** Kills what is still watched and waits for the guard's end. Idempotent. */
  async close(): Promise<void> {
    this.#child.stdin?.end();
    await this.#ended;
  }
}
