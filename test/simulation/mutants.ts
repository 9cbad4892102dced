/**
 * Known-bad changes of the checkpoint protocol's code, one at a time: what the simulation must find. A mutant that it
 * does not find shows a part of the protocol that it does not look at.
 *
 * Invariant: `find` occurs exactly once in its file (mutants.test.ts sees to it), so that no mutant is silently none.
 */
import type { CheckpointMode } from "./run-schedule.ts";

export interface Mutant extends Change {
  /** What is wrong with it. */
  readonly title: string;
  /** From the root of the repository. */
  readonly file: string;
  /** In the same file. */
  readonly also?: Change;
  /** Schedules of this mode only: others have nothing to do with it. */
  readonly mode?: CheckpointMode;
}

interface Change {
  readonly find: string;
  readonly replace: string;
}

const GATE = "runner/worker/stream/input-gate.ts";
const TASK = "runner/worker/stream/stream-task.ts";
const CHECKPOINTS = "runner/worker/stream/task-checkpoints.ts";
const RECORDING = "runner/worker/stream/in-flight/channel-recording.ts";
const STAGE = "runner/worker/stream/stream-stage.ts";
const BUNDLES = "runner/worker/stream/bundle-runner.ts";
const RESIDUALS = "runner/worker/stream/residuals.ts";
const FINALIZERS = "runner/worker/stream/finalizers.ts";
const TIMERS = "runner/worker/stream/timers/keyed-timers.ts";
const STABLE = "runner/worker/stream/stable-input.ts";
const COORDINATOR = "runner/job-server/checkpoint-coordinator.ts";
const CLEANUP = "runner/job-server/checkpoint-cleanup.ts";
const EXECUTION = "runner/job-server/streaming-execution.ts";
const RESTORE = "runner/job-server/restore-points.ts";
const METRICS = "runner/job-server/stream-metrics.ts";
const SCHEDULE = "runner/checkpoint/checkpoint-schedule.ts";
const RETAINED = "runner/checkpoint/retained-checkpoints.ts";
const ORPHANS = "runner/checkpoint/orphaned-files.ts";

export const MUTANTS: readonly Mutant[] = [
  {
    title: "only the first channel's barrier is waited for",
    file: GATE,
    find: `if (front?.kind !== "barrier") return undefined;`,
    replace: `if (front?.kind !== "barrier") { if (barrier === undefined) return undefined; else continue; }`,
    also: {
      find: `for (const { queue } of this.#channels) queue.shift();
    return barrier;`,
      replace: `for (const { queue } of this.#channels) if (queue.peek()?.kind === "barrier") queue.shift();
    return barrier;`,
    },
  },
  {
    title: "the gate is open while a barrier is inside",
    file: CHECKPOINTS,
    find: `    const { stage } = this.#init;
    this.#inside = barrier;`,
    replace: `    const { stage } = this.#init;`,
  },
  {
    title: "a barrier overtakes the input that waits in its stage",
    file: STAGE,
    find: `this.#queue.mark({ kind: "barrier", barrier });`,
    replace: `this.#init.onBarrier(barrier);`,
  },
  {
    title: "rows are frozen after the task has gone on",
    file: CHECKPOINTS,
    find: `environment.snapshot(checkpointId, { inFlight: rows, savepointPath }).then(`,
    replace: `new Promise((go) => setImmediate(go)).then(() => environment.snapshot(checkpointId, { inFlight: rows, savepointPath })).then(`,
  },
  {
    title: "a task acknowledges before its snapshot is stored",
    file: CHECKPOINTS,
    find: `environment.snapshot(checkpointId, { inFlight: rows, savepointPath }).then(`,
    replace: `environment.snapshot(checkpointId, { inFlight: rows, savepointPath }).catch(() => undefined);
    Promise.resolve([]).then(`,
  },
  {
    title: "input of the running bundle and of the stage that a barrier has overtaken is not in the snapshot",
    mode: "unaligned",
    file: CHECKPOINTS,
    find: `stage: stage?.inFlight ?? [],`,
    replace: `stage: [],`,
  },
  {
    title: "output that a barrier has overtaken is not in the snapshot",
    mode: "unaligned",
    file: CHECKPOINTS,
    find: `output: outputs.overtake({ checkpointId, overtakesAfterMs: 0 }),`,
    replace: `output: outputs.overtake({ checkpointId, overtakesAfterMs: 0 }).slice(0, 0),`,
  },
  {
    title: "output that an aligned barrier overtakes on its way out is not in the snapshot",
    mode: "timeout",
    file: CHECKPOINTS,
    find: `output.resolve(outputs.overtake({ checkpointId, overtakesAfterMs: 0 }, true));`,
    replace: `output.resolve(outputs.overtake({ checkpointId, overtakesAfterMs: 0 }, true).slice(0, 0));`,
  },
  {
    title: "what comes before the barrier on a channel after the freeze is not recorded",
    mode: "unaligned",
    file: RECORDING,
    find: `else items.push(item);`,
    replace: ``,
  },
  {
    title: "what was recorded of a channel is not read after a restore",
    mode: "unaligned",
    file: GATE,
    find: `replay: [...(channel.restored?.items ?? [])],`,
    replace: `replay: [],`,
  },
  {
    title: "a checkpoint is complete when all tasks but one have acknowledged it",
    file: SCHEDULE,
    find: `if (running.waitingFor.size > 0) return`,
    replace: `if (running.waitingFor.size > 1) return`,
  },
  {
    title: "the manifest lists no files of a task",
    file: SCHEDULE,
    find: `running.files.set(task, files);`,
    replace: `running.files.set(task, running.files.size === 1 ? [] : files);`,
  },
  {
    title: "workers hear that a checkpoint is complete before its manifest is durable",
    file: COORDINATOR,
    find: `crashPoint("before-manifest");`,
    replace: `this.#init.workers.send({ $case: "checkpointEnd", value: { jobId: this.#jobId,
        executionAttempt: manifest.executionAttempt, checkpointId: BigInt(id), complete: true } });`,
  },
  {
    title: "a checkpoint whose manifest could not be written counts as complete",
    file: COORDINATOR,
    find: `      this.#abort(id, WeirError.from(thrown).message);`,
    replace: `      this.#ended(id, true);`,
  },
  {
    title: "of checkpoints at the same time an older one is complete after a newer one",
    mode: "aligned",
    file: COORDINATOR,
    find: `this.#manifestWritten.then(() => this.#write(id, manifest));`,
    replace: `(id % 2 === 0 ? Promise.resolve() : this.#init.clock.sleep(200)).then(() => this.#write(id, manifest));`,
  },
  {
    title: "a checkpoint that was given up finalizes its bundles",
    file: TASK,
    find: `if (!complete) return;`,
    replace: ``,
  },
  {
    title: "bundles are finalized when they commit",
    file: FINALIZERS,
    find: `if (!this.#checkpoints) this.#run(finalize);`,
    replace: `if (this.#checkpoints) this.#run(finalize);`,
  },
  {
    title: "bundles behind a barrier are finalized with its checkpoint",
    file: FINALIZERS,
    find: `  complete(checkpointId: number): void {`,
    replace: `  complete(checkpointId: number): void {
    this.barrier(checkpointId);`,
  },
  {
    title: "a restart goes back to the oldest kept checkpoint",
    file: RESTORE,
    find: `for (const [index, { checkpointId }] of candidates.entries()) {`,
    replace: `for (const { checkpointId } of candidates.toReversed()) {`,
  },
  {
    title: "files that the newest checkpoint needs are deleted",
    file: RETAINED,
    find: `const needed = new Set(this.#kept.flatMap(`,
    replace: `const needed = new Set(this.#kept.slice(0, -1).flatMap(`,
  },
  {
    title: "files that the running attempt has written are deleted as orphans",
    file: ORPHANS,
    find: `Number(attempt) < current && !needed.has(location)`,
    replace: `Number(attempt) <= current && !needed.has(location)`,
  },
  {
    title: "files that a kept checkpoint of an earlier attempt needs are deleted as orphans",
    file: ORPHANS,
    find: `Number(attempt) < current && !needed.has(location)`,
    replace: `Number(attempt) < current`,
  },
  {
    title: "files that a region writes which goes on are deleted as orphans when another one has restarted",
    file: CLEANUP,
    find: `attemptOf: (vertexId) => attemptOf(attempt, vertexId)`,
    replace: `attemptOf: () => attempt.executionAttempt`,
    mode: "aligned",
  },
  {
    title: "regions that go on are taken for moved when another one restarts",
    file: EXECUTION,
    find: `successivePlacement(registry.workers, this.#placement, this.#regions.isAnyUp)`,
    replace: `successivePlacement(registry.workers, this.#placement.slice(1), false)`,
  },
  {
    title: "a lost worker restarts one region only of those that had tasks there",
    file: EXECUTION,
    find: `const lost = this.#regions.on(worker.workerId);`,
    replace: `const lost = this.#regions.on(worker.workerId).slice(0, 1);`,
  },
  {
    title: "a source's old position stays in the snapshot when it was read on",
    file: RESIDUALS,
    find: `this.#table.delete(rowKey);`,
    replace: ``,
  },
  {
    title: "a source's position is in no snapshot",
    file: RESIDUALS,
    find: `this.#table.put(rowKey, row);`,
    replace: ``,
  },
  {
    title: "a restored source does not hold the watermark",
    file: RESIDUALS,
    find: `hold: view.getFloat64(8) as Timestamp,`,
    replace: `hold: MAX_TIMESTAMP,`,
  },
  {
    title: "a source whose restriction is being read does not hold the watermark",
    file: RESIDUALS,
    find: `this.#runningCount++;`,
    replace: `this.#runningCount++;
    this.#holds.remove(residual.hold);`,
  },
  {
    title: "timers are not restored",
    file: TIMERS,
    find: `for (const [rowKey, value] of table.entries()) this.#index(this.#familyOfRow(rowKey).changeOfRow(rowKey, value));`,
    replace: ``,
  },
  {
    title: "timers do not hold the watermark",
    file: TIMERS,
    find: `this.#holds.add(hold);`,
    replace: `this.#holds.add(MAX_TIMESTAMP);`,
  },
  {
    title: "a timer that has fired is restored and fires again",
    file: TIMERS,
    find: `    this.#table.delete(timer.rowKey);
    this.#expiries`,
    replace: `    if (!timer.firing) this.#table.delete(timer.rowKey);
    this.#expiries`,
  },
  {
    title: "the impulse comes again after a restore",
    file: TASK,
    find: `this.#impulsed = this.#marks.get("impulse") === MAX_TIMESTAMP;`,
    replace: `this.#impulsed = false;`,
  },
  {
    title: "groups in memory are not in the snapshot",
    file: TASK,
    find: `this.#grouping?.flush();`,
    replace: ``,
  },
  {
    title: "metrics in memory are not in the snapshot",
    file: TASK,
    find: `this.metrics.flush();`,
    replace: ``,
  },
  {
    title: "metrics of bundles that were rolled back still count",
    file: METRICS,
    find: `attempted.mergeAll(this.#earlier);`,
    replace: `committed.mergeAll(this.#earlier);`,
  },
  {
    title: "state that a failed bundle has written stays",
    file: BUNDLES,
    find: `stateBundle?.abort();`,
    replace: `stateBundle?.commit();`,
  },
  {
    title: "output of a failed bundle goes out",
    file: BUNDLES,
    find: `output.abort();`,
    replace: `output.commit();`,
  },
  {
    title: "what an accepted split gave back is in the retried bundle too",
    file: BUNDLES,
    find: `retainedInput: attempt.retainedInput };`,
    replace: `retainedInput: input };`,
  },
  {
    title: "stable input runs before a complete checkpoint has it",
    file: STABLE,
    find: `    this.#countAt.set(checkpointId, this.#rows.count);`,
    replace: `    this.#stableCount = this.#rows.count;`,
  },
];

/** The source with the change made. @throws Error when its place is not there exactly once */
export function mutate({ title, file, find, replace, also }: Mutant, source: string): string {
  const changes = also === undefined ? [{ find, replace }] : [{ find, replace }, also];
  return changes.reduce((text, change) => {
    const count = text.split(change.find).length - 1;
    if (count !== 1) throw new Error(`${title}: its place is ${count} times in ${file}: ${change.find}`);
    return text.replace(change.find, () => change.replace);
  }, source);
}
