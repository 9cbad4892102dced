// A server on the store of one that was killed: which jobs go on, and what their clients see.
import { join } from "node:path";
import test from "ava";
import Database from "better-sqlite3";
import {
  GetJobMetricsResponse,
  type JobMessagesResponse,
  type JobState_Enum,
  type JobStateEvent,
} from "../../proto/gen/beam_job_api.ts";
import { unaryCall } from "../base/grpc.ts";
import { encodeExecutionGraph } from "../graph/execution-graph-json.ts";
import type { JobRun } from "./job-executor.ts";
import { collect, newDirectory, openServer, stateName, submit, texts } from "../../test/support/job-server-fixture.ts";

/** As kill -9 leaves a job's rows: the last state that was stored is `state`. */
function killed(directory: string, jobId: string, state: string, columns: Record<string, number> = {}) {
  const database = new Database(join(directory, "data", "weir.sqlite"));
  database.prepare("UPDATE jobs SET state = ?, metrics = NULL WHERE job_id = ?").run(state, jobId);
  database
    .prepare(
      `DELETE FROM events WHERE job_id = @jobId AND sequence >=
         (SELECT min(sequence) FROM events WHERE job_id = @jobId AND text LIKE 'The job server is ending%')`,
    )
    .run({ jobId });
  for (const [column, value] of Object.entries(columns))
    database.prepare(`UPDATE jobs SET ${column} = ? WHERE job_id = ?`).run(value, jobId);
  database.close();
}

test("a restarted server takes up the job that was running: same id, one history, metrics at once", async (t) => {
  const directory = newDirectory(t);
  const first = await openServer(t, directory);
  const options = { "beam:option:streaming:v1": true, "beam:option:checkpointing_interval:v1": 1000 };
  const jobId = await submit(first.client, options);
  const before = first.executor.started[0];
  before?.observer.message("BASIC", "before");
  await unaryCall(first.client, "drain", { jobId });
  await first.server.close();
  killed(directory, jobId, "DRAINING");
  const database = new Database(join(directory, "data", "weir.sqlite"));
  database
    .prepare("UPDATE jobs SET metrics = ?, checkpointed = 1")
    .run(
      GetJobMetricsResponse.encode(
        GetJobMetricsResponse.fromPartial({ metrics: { committed: [{ urn: "stored" }] } }),
      ).finish(),
    );
  database.close();

  const { client, executor } = await openServer(t, directory);
  const after = executor.started[0];
  const plain = ({ pipelineOptionsBytes, graph, artifactAddress: _address, ...run }: JobRun) => ({
    ...run,
    graph: Buffer.from(encodeExecutionGraph(graph)).toString(),
    options: Buffer.from(pipelineOptionsBytes).toString("hex"),
  });
  const takeUp = { count: 1, checkpointed: true, draining: true };
  t.deepEqual(plain(after?.run as JobRun), { ...plain(before?.run as JobRun), takeUp });
  const { metrics } = await unaryCall<object, GetJobMetricsResponse>(client, "getJobMetrics", { jobId });
  t.is(metrics?.committed[0]?.urn, "stored");
  const stream = collect<JobMessagesResponse>(client, "getMessageStream", jobId);
  after?.observer.message("BASIC", "after");
  after?.end({ kind: "drained" });
  const drains = "3: The job drains by request: its sources end, and what they have read is processed.";
  const taken = "4: The job server ended while the job was DRAINING, and has been started again: it takes the job up.";
  const lines = ["STOPPED", "STARTING", "RUNNING", "3: before", "DRAINING", drains, taken, "3: after", "DRAINED"];
  t.deepEqual(texts(await stream), lines);
});

test("a job that was being cancelled when its server ended is cancelled by the next one", async (t) => {
  const directory = newDirectory(t);
  const first = await openServer(t, directory);
  const jobId = await submit(first.client);
  await first.server.close();
  killed(directory, jobId, "CANCELLING");
  const { client } = await openServer(t, directory);
  const states = await collect<JobStateEvent>(client, "getStateStream", jobId);
  t.is(stateName(states.at(-1)?.state as JobState_Enum), "CANCELLED");
});

test("a job is not taken up for ever, nor against its user's will: it fails and says why", async (t) => {
  const directory = newDirectory(t);
  const first = await openServer(t, directory);
  const worn = await submit(first.client);
  const unwilling = await submit(first.client, { "beam:option:number_of_execution_retries:v1": 0 });
  await first.server.close();
  killed(directory, worn, "RUNNING", { take_ups: 3 });
  killed(directory, unwilling, "RUNNING");
  const { client, executor } = await openServer(t, directory);
  t.is(executor.started.length, 0);
  const ends = await Promise.all(
    [worn, unwilling].map(async (jobId) =>
      texts(await collect<JobMessagesResponse>(client, "getMessageStream", jobId)).slice(-2),
    ),
  );
  const because = "5: The job server ended while the job was RUNNING, and it is not taken up again:";
  t.deepEqual(ends, [
    [`${because} it was taken up 3 times already without a complete checkpoint in between. Submit it again.`, "FAILED"],
    [`${because} it would begin again, which its options forbid (no restarts). Submit it again.`, "FAILED"],
  ]);
});

test("take-ups are counted, and a complete checkpoint starts the count anew", async (t) => {
  const directory = newDirectory(t);
  let server = await openServer(t, directory);
  const jobId = await submit(server.client, { "beam:option:streaming:v1": true });
  const counts: (number | undefined)[] = [];
  for (let restart = 0; restart < 5; restart++) {
    if (restart === 2) server.executor.started[0]?.observer.checkpointed();
    await server.server.close();
    killed(directory, jobId, "RUNNING");
    server = await openServer(t, directory);
    counts.push(server.executor.started[0]?.run.takeUp?.count);
    // It finds that the one before had completed a checkpoint: this take-up still counts.
    if (restart === 3) server.executor.started[0]?.observer.formerlyCheckpointed();
  }
  t.deepEqual(counts, [1, 2, 1, 2, 2]);
});
