import test from "ava";
import { silentLog } from "../../base/log.ts";
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import { ManualClock, settle } from "../../job-server/streaming-fixture.ts";
import { BundleProgress, PROGRESS_INTERVAL_MS } from "./bundle-progress.ts";

function setUp() {
  const clock = new ManualClock();
  const told: string[] = [];
  const names = (infos: readonly MonitoringInfo[]) => infos.map(({ urn }) => urn).join();
  const metrics = {
    running: (infos: readonly MonitoringInfo[]) => void told.push(`runs ${names(infos)}`),
    failed: (infos: readonly MonitoringInfo[]) => void told.push(`failed ${names(infos)}`),
  };
  const end = new AbortController();
  return { clock, told, end, progress: new BundleProgress(metrics, { clock, log: silentLog() }, end.signal) };
}

/** A bundle that tells a metric with a number that grows. */
function bundle(name: string) {
  const asked = { count: 0, progress: () => Promise.resolve([info(`${name}${++asked.count}`)]) };
  return asked;
}

function info(urn: string): MonitoringInfo {
  return { urn, type: "", payload: new Uint8Array(), labels: {}, startTime: undefined };
}

test("a bundle that runs for long tells its metrics again and again, and nothing of it runs once it has committed", async (t) => {
  const { clock, told, progress } = setUp();
  progress.begin(bundle("a"));
  await clock.advance(2 * PROGRESS_INTERVAL_MS);
  progress.end(true);
  t.deepEqual(told, ["runs a1", "runs a2", "runs "]);
});

test("what a bundle that fails has told last is kept, and its next attempt begins anew", async (t) => {
  const { clock, told, progress } = setUp();
  progress.begin(bundle("a"));
  await clock.advance(PROGRESS_INTERVAL_MS);
  progress.end(false);
  progress.begin(bundle("b"));
  await clock.advance(PROGRESS_INTERVAL_MS);
  progress.end(true);
  t.deepEqual(told, ["runs a1", "runs ", "failed a1", "runs b1", "runs "]);
});

test("short bundles are asked nothing, and share one timer, which ends with them", async (t) => {
  const { clock, told, progress } = setUp();
  const bundles = Array.from({ length: 30 }, () => bundle("a"));
  for (const each of bundles) {
    progress.begin(each);
    await clock.advance(PROGRESS_INTERVAL_MS / 10);
    t.true(clock.sleeping <= 1);
    progress.end(true);
  }
  await clock.advance(PROGRESS_INTERVAL_MS);
  t.is(clock.sleeping, 0);
  t.deepEqual([told, bundles.filter(({ count }) => count > 0)], [[], []]);
});

test("an SDK that does not answer is asked once, and its answer counts for nothing when the bundle has ended", async (t) => {
  const { clock, told, progress } = setUp();
  const answer = Promise.withResolvers<MonitoringInfo[]>();
  let asked = 0;
  progress.begin({ progress: () => (asked++, answer.promise) });
  await clock.advance(5 * PROGRESS_INTERVAL_MS);
  t.is(asked, 1);
  progress.end(false);
  answer.resolve([info("late")]);
  await settle();
  t.deepEqual(told, []);
});

test("a harness that is lost, and a task that ends, end the questions", async (t) => {
  const { clock, told, end, progress } = setUp();
  progress.begin({ progress: () => Promise.reject(new Error("lost")) });
  await clock.advance(2 * PROGRESS_INTERVAL_MS);
  end.abort(new Error("the task has ended"));
  await settle();
  t.deepEqual([told, clock.sleeping], [[], 0]);
});
