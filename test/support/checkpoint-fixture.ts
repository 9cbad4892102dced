/** A streaming job on fake workers whose checkpoints are complete when the test says so. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { silentLog } from "../../runner/base/log.ts";
import type { ExecutionGraph } from "../../runner/graph/execution-graph.ts";
import type { JobOutcome } from "../../runner/job-server/job-executor.ts";
import {
  diamond,
  FakeWorkers,
  type FakeWorker,
  ManualClock,
  RecordingObserver,
  runOf,
} from "../../runner/job-server/streaming-fixture.ts";
import { settle } from "../../runner/job-server/streaming-fixture.ts";
import { StreamingExecution } from "../../runner/job-server/streaming-execution.ts";

/** Waits for files: they take their time, whatever the clock of the job says. */
export async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 20_000 && !condition(); turn++) await settle();
  if (!condition()) throw new Error("it never happened");
}

export function start(t: ExecutionContext, options: Record<string, unknown> = {}, ...names: string[]) {
  return startGraph(t, diamond(), options, ...names);
}

export async function startGraph(
  t: ExecutionContext,
  graph: ExecutionGraph,
  options: Record<string, unknown> = {},
  ...names: string[]
) {
  const directory = mkdtempSync(join(tmpdir(), "weir-checkpoints-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const workers = new FakeWorkers(...(names.length === 0 ? ["w0"] : names));
  const clock = new ManualClock();
  const observer = new RecordingObserver();
  const init = { registry: workers, workerWaitMs: 60_000, checkpointDirectory: directory, clock, log: silentLog() };
  const run = runOf(graph, { checkpointing_interval: 1_000, execution_retry_delay: 0, ...options });
  const execution = new StreamingExecution(init, run, observer);
  const job = join(directory, "job-1");
  let outcome: JobOutcome | undefined;
  const ended = execution.run().then((result) => (outcome = result));
  const worker = workers.workers[0] as FakeWorker;
  await until(() => worker.all("deployStreamTasks").length === 1);
  return { workers, worker, clock, observer, execution, ended, outcome: () => outcome, job };
}

export type Started = Awaited<ReturnType<typeof start>>;

/** All tasks of the worker acknowledge a checkpoint, the last one that was triggered by default, each with a file of its own. */
export function acknowledge({ workers, worker, job }: Started, failure = "", of = worker, id?: number): void {
  const checkpointId = id === undefined ? (worker.all("triggerCheckpoint").at(-1)?.checkpointId ?? 0n) : BigInt(id);
  const tasks = of.deployed.flatMap((deployed) =>
    deployed.tasks.map((task) => ({ ...task, executionAttempt: deployed.executionAttempt })),
  );
  for (const { vertexId, subtaskIndex, executionAttempt } of tasks) {
    const path = join(job, "state", `${vertexId}.${subtaskIndex}-${checkpointId}`);
    if (failure === "") writeFileSync(path, "abc");
    workers.hear(of, {
      $case: "checkpointAck",
      value: {
        jobId: "job-1",
        executionAttempt,
        checkpointId,
        vertexId,
        subtaskIndex,
        files: failure === "" ? [{ path, byteLength: 3n, sha256: "00", inFlight: false }] : [],
        failure,
        alignmentMs: 20n,
        commitWaitMs: 5n,
        writeMs: 10n,
        inFlightBytes: 7n,
        unaligned: true,
        waitedFor: "a running bundle",
      },
    });
  }
}

export async function takeCheckpoint(started: Started): Promise<void> {
  const { worker, clock } = started;
  const count = worker.all("triggerCheckpoint").length;
  const ended = worker.all("checkpointEnd").length;
  await clock.advance(1_000);
  await until(() => worker.all("triggerCheckpoint").length === count + 1);
  acknowledge(started);
  await until(() => worker.all("checkpointEnd").length === ended + 1);
}

export const manifests = ({ job }: Started) =>
  readdirSync(job)
    .filter((name) => /^checkpoint-.*\.json$/.test(name))
    .sort();
