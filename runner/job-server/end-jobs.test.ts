import test from "ava";
import type { Clock } from "../base/clock.ts";
import type { JobId } from "../base/ids.ts";
import { endJobs, type EndJobsInit, type OnShutdown } from "./end-jobs.ts";
import type { Job } from "./job.ts";

/** Time passes as soon as somebody waits for it. */
const clock: Clock = { nowMs: () => 0, monotonicMs: () => 0, sleep: () => Promise.resolve() };

/** What is done to jobs by id. One whose name begins with "hung" never ends by itself. */
async function ended(
  onShutdown: OnShutdown,
  states: Readonly<Record<string, string>>,
): Promise<Record<string, string[]>> {
  const done: Record<string, string[]> = {};
  const live = Object.entries(states).map(([jobId, state]) => {
    const told: string[] = (done[jobId] = []);
    const job = {
      jobId,
      state,
      message: (_: string, text: string) => told.push(/suspended|cancelled/.exec(text)?.[0] ?? text),
      finish: ({ kind }: { kind: string }) => told.push(`finish ${kind}`),
      close: () => told.push("close"),
    };
    const isHung = jobId.startsWith("hung");
    return { job: job as unknown as Job, ended: isHung ? new Promise<void>(() => undefined) : Promise.resolve() };
  });
  const init: EndJobsInit = {
    onShutdown,
    executor: { suspend: (jobId) => jobId.includes("streaming") },
    cancel: (jobId: JobId) => void done[jobId]?.push("cancel"),
    clock,
  };
  await endJobs(live, init);
  return done;
}

const CANCELLED = ["cancelled", "cancel", "finish cancelled", "close"];

test("jobs that could go on are suspended and stay what they are, others are cancelled, hung ones too", async (t) => {
  const states = {
    streaming: "RUNNING",
    "streaming-draining": "DRAINING",
    "hung-streaming": "RUNNING",
    batch: "RUNNING",
  };
  const suspended = ["suspended", "close"];
  t.deepEqual(await ended("suspend", { ...states, "streaming-cancelling": "CANCELLING", "hung-batch": "RUNNING" }), {
    streaming: suspended,
    "streaming-draining": suspended,
    "hung-streaming": suspended,
    batch: CANCELLED,
    "streaming-cancelling": CANCELLED,
    "hung-batch": CANCELLED,
  });
});

test("where jobs are to be cancelled all are", async (t) => {
  t.deepEqual(await ended("cancel", { streaming: "RUNNING" }), { streaming: CANCELLED });
});
