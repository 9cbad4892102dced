/**
 * `make simulate SEED=n SCHEDULES=m`: runs m schedules from a seed and prints how many, the crashes that hit, and for
 * one that went wrong its seed, which replays it: `make simulate SEED=<that> SCHEDULES=1 VERBOSE=1`. UNTIL_FAILURE=1 ends
 * with the first that goes wrong.
 */
import { systemClock } from "../../runner/base/clock.ts";
import { createLog, silentLog } from "../../runner/base/log.ts";
import { type CheckpointMode, type FaultKind, runSchedule } from "./run-schedule.ts";

function number(name: string, fallback: number): number {
  const text = process.env[name];
  const value = text === undefined || text === "" ? fallback : Number(text);
  if (!Number.isInteger(value)) throw new Error(`${name} must be a whole number, not "${text}".`);
  return value;
}

const seed = number("SEED", 1);
const schedules = number("SCHEDULES", 200);
/** aligned, unaligned, timeout; empty: drawn. */
const mode = process.env.MODE ?? "";
const verbose = number("VERBOSE", 0);
const untilFailure = number("UNTIL_FAILURE", 0) === 1;
const began = systemClock.monotonicMs();
const hit = new Map<FaultKind, number>();
let failed = 0;
let restarts = 0;
let partialRestarts = 0;
let restores = 0;
let checkpoints = 0;
let concurrent = 0;
let events = 0;
let finalizations = 0;
let inFlightRestores = 0;
for (let index = 0; index < schedules; index++) {
  const result = await runSchedule({
    seed: seed + index,
    faults: number("FAULTS", 1) === 1,
    ...(mode === "" ? {} : { mode: mode as CheckpointMode }),
    log: verbose > 1 ? createLog("simulation", "debug") : silentLog(),
    ...(verbose > 0
      ? { onMessage: (atMs: number, text: string) => console.log(`${atMs.toFixed(1)} ms: ${text}`) }
      : {}),
  });
  for (const [kind, count] of Object.entries(result.faults))
    hit.set(kind as FaultKind, (hit.get(kind as FaultKind) ?? 0) + count);
  restarts += result.restarts;
  partialRestarts += result.partialRestarts;
  restores += result.restores;
  checkpoints += result.checkpoints;
  concurrent += result.atOnce > 1 ? 1 : 0;
  events += result.events;
  finalizations += result.finalizations;
  inFlightRestores += result.inFlightRestores;
  if (result.complaints.length === 0) continue;
  failed++;
  console.log(`seed ${result.seed} went wrong after ${result.elapsedMs.toFixed(1)} ms, ${result.events} events:`);
  for (const complaint of result.complaints.slice(0, 5)) console.log(`  ${complaint}`);
  if (untilFailure) break;
}
const seconds = (systemClock.monotonicMs() - began) / 1000;
const crashes = [...hit].map(([kind, count]) => `${count} × ${kind}`).join(", ");
console.log(
  `seed ${seed}: ${schedules} schedules in ${seconds.toFixed(1)} s (${Math.round((schedules / seconds) * 60)} a minute), ${events} events`,
);
console.log(
  `crashes that hit: ${crashes}; ${restarts} restarts (${restores} from a checkpoint, ${partialRestarts} of one region of two), ${checkpoints} checkpoints (in ${concurrent} schedules some at once), ${inFlightRestores} tasks restored with in-flight data, ${finalizations} finalizations`,
);
console.log(`${schedules - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
