/**
 * Temporary folders that belong to one process, named after it, so that what a killed process left behind can be told
 * from what is in use: `weir-KIND-NAMESPACE-PID-RANDOM` in the system's temporary folder.
 *
 * Invariant: a folder is swept only when its process is known to be dead: a process id says nothing outside of its
 * PID namespace (containers may share the folder), so folders of other namespaces are left alone.
 */
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type TemporaryKind = "data" | "worker" | "checkpoint" | "expansion";

/** Of this process: one with our own process id that we did not make is a dead process's too. */
const made = new Set<string>();

/** A new folder of this process's own. Those of dead processes of the same kind are removed first. */
export function makeTemporaryDirectory(kind: TemporaryKind, parent = tmpdir()): string {
  const prefix = `weir-${kind}-${pidNamespace()}-`;
  sweep(parent, prefix);
  const path = mkdtempSync(join(parent, `${prefix}${process.pid}-`));
  made.add(path);
  return path;
}

function sweep(parent: string, prefix: string): void {
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(prefix)) continue;
    const pid = Number(/^(\d+)-\w+$/.exec(name.slice(prefix.length))?.[1] ?? Number.NaN);
    const path = join(parent, name);
    if (Number.isNaN(pid) || made.has(path) || (pid !== process.pid && lives(pid))) continue;
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      // Another user's, or another process sweeps at the same time: it is not needed that we succeed.
    }
  }
}

/** The number of our PID namespace; 0 where there are none. */
function pidNamespace(): string {
  try {
    return /\d+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0";
  } catch {
    return "0";
  }
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (failure) {
    return (failure as NodeJS.ErrnoException).code !== "ESRCH";
  }
  try {
    // A zombie has ended: nobody has asked for its exit code yet, and in a container perhaps nobody will.
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return true;
  }
}
