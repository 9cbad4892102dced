import { resolve } from "node:path";
import test from "ava";
import { openServer, submit } from "../../test/support/job-server-fixture.ts";
import { takeSavepoint } from "./control-client.ts";

const STREAMING = { "beam:option:streaming:v1": true };

test("the command line asks for a savepoint by the job's id; a folder is that of its own process", async (t) => {
  const { client, server, executor } = await openServer(t);
  const jobId = await submit(client, STREAMING);
  t.is(await takeSavepoint(server.jobAddress, jobId, undefined, false), "/chosen");
  t.is(await takeSavepoint(server.jobAddress, jobId, "relative", false), resolve("relative"));
  t.is(await takeSavepoint(server.jobAddress, jobId, "s3://bucket/one", false), "s3://bucket/one");
  t.deepEqual(
    executor.savepoints.map(({ path, stop }) => ({ path, stop })),
    [undefined, resolve("relative"), "s3://bucket/one"].map((path) => ({ path, stop: false })),
  );
});

test("a job that is stopped with a savepoint has ended when the command is answered", async (t) => {
  const { client, server } = await openServer(t);
  const jobId = await submit(client, STREAMING);
  await takeSavepoint(server.jobAddress, jobId, "/one", true);
  await t.throwsAsync(takeSavepoint(server.jobAddress, jobId, "/two", false), {
    message: /is DONE: only a running job can have a savepoint/,
  });
});

test("unknown jobs, folders that cannot be, and job servers that are not there are told by name", async (t) => {
  const { client, server } = await openServer(t);
  await t.throwsAsync(takeSavepoint(server.jobAddress, "job-x", undefined, false), { message: /job-x/ });
  const jobId = await submit(client, STREAMING);
  await t.throwsAsync(takeSavepoint(server.jobAddress, jobId, "ftp://host/one", false), { message: /ftp/ });
  await t.throwsAsync(takeSavepoint("localhost:1", jobId, undefined, false), { message: /localhost:1/ });
});
