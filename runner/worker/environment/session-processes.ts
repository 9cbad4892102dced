/**
 * Which processes live in the session of a process that was started detached: all its descendants, also those that
 * were orphaned or that moved to a process group of their own, as the workers of Beam's Go boot command do. Only a
 * descendant that calls setsid itself escapes.
 *
 * Source: /proc/PID/stat, proc_pid_stat(5). Where there is no /proc, the process group is all that we know.
 */
import { readFileSync, readdirSync } from "node:fs";

/** Sends `signal` to every process of the session that `leaderPid` leads. @returns false when none is left. */
export function signalSession(leaderPid: number, signal: NodeJS.Signals | 0): boolean {
  const members = sessionMembers(leaderPid);
  if (members === undefined) return sendSignal(-leaderPid, signal);
  let anyLeft = false;
  for (const pid of members) anyLeft = sendSignal(pid, signal) || anyLeft;
  return anyLeft;
}

/** Live processes of the session; undefined where there is no /proc. Zombies are only waiting to be reaped. */
function sessionMembers(leaderPid: number): number[] | undefined {
  let names: string[];
  try {
    names = readdirSync("/proc");
  } catch {
    return undefined;
  }
  if (!names.includes("self")) return undefined;
  return names.filter((name) => /^\d+$/.test(name) && isMember(name, leaderPid)).map(Number);
}

function isMember(pid: string, leaderPid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The command's name is in parentheses and may itself hold parentheses and blanks.
    const [state, , , session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return Number(session) === leaderPid && state !== "Z" && state !== "X";
  } catch {
    // It has ended since the folder was listed.
    return false;
  }
}

function sendSignal(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (failure) {
    return (failure as NodeJS.ErrnoException).code === "EPERM";
  }
}
