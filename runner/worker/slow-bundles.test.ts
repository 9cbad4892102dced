import test from "ava";
import type { SlowBundle } from "../../proto/gen/worker.ts";
import type { MonitoringInfo } from "../../proto/gen/metrics.ts";
import { WeirError } from "../base/errors.ts";
import type { HarnessId, InstructionId, JobId, VertexId } from "../base/ids.ts";
import { silentLog } from "../base/log.ts";
import { SlowBundles } from "./slow-bundles.ts";
import { HarnessConnection } from "./task/harness-connection.ts";

async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

function info(urn: string, value: number): MonitoringInfo {
  return { urn, type: "t", payload: Uint8Array.of(value), labels: {}, startTime: undefined };
}

/** One bundle on one harness; time passes when it is told to. */
function watch(status: "told" | "none" | "silent" = "told") {
  let nowMs = 0;
  const told: SlowBundle[] = [];
  const connection = new HarnessConnection("h" as HarnessId);
  const bundle = {
    descriptorId: "job/v",
    activity: 0,
    awaitsInput: false,
    infos: [info("beam:metric:element_count:v1", 1)],
  };
  const open = (bundleId: string) =>
    connection.openBundle(bundleId as InstructionId, {
      watched: {
        descriptorId: bundle.descriptorId,
        get activity() {
          return bundle.activity;
        },
        get awaitsInput() {
          return bundle.awaitsInput;
        },
        progress: () => Promise.resolve(bundle.infos),
      },
      onData: () => undefined,
      onTimers: () => undefined,
      onState: () => ({ kind: "clear" }),
    });
  const silent = new WeirError({ code: "DEADLINE_EXCEEDED", domain: "external", message: "did not answer." });
  const slowBundles = new SlowBundles({
    harnesses: () => [{ connection, job: { description: { jobId: "job" as JobId }, vertexOf: () => "v" as VertexId } }],
    status: {
      has: () => status !== "none",
      requestStatus: () => (status === "silent" ? Promise.reject(silent) : Promise.resolve("all threads sleep")),
    },
    tell: (message) => void told.push(message),
    clock: { nowMs: () => nowMs, monotonicMs: () => nowMs, sleep: () => new Promise(() => undefined) },
    log: silentLog(),
  });
  /** @param each called before each second */
  const pass = async (seconds: number, each: () => void = () => undefined) => {
    for (let second = 0; second < seconds; second++) {
      each();
      nowMs += 1_000;
      slowBundles.look();
      await settle();
    }
  };
  return { connection, bundle, open, pass, told, close: (id: string) => connection.closeBundle(id as InstructionId) };
}

test("a bundle without progress is told of with its harness' stacks, again and again, and when it has ended", async (t) => {
  const { open, close, pass, told, bundle } = watch();
  open("b");
  let msecs = 0;
  await pass(10, () => (bundle.infos = [bundle.infos[0] as MonitoringInfo, info("user:total_msecs:v1", ++msecs)]));
  t.is(told.length, 0);
  await pass(2);
  t.is(told.length, 1);
  const [first] = told as [SlowBundle];
  t.deepEqual(
    [first.jobId, first.vertexId, first.bundleId, first.harnessId, first.stacks, first.ended],
    ["job", "v", "b", "h", "all threads sleep", false],
  );
  t.true(first.quietMs >= 10_000n, `${first.quietMs}`);
  await pass(31);
  t.is(told.length, 2);
  close("b");
  await pass(1);
  t.deepEqual([told.length, told[2]?.ended], [3, true]);
  await pass(100);
  t.is(told.length, 3);
});

test("a bundle whose SDK sends something, or whose counts grow, is not quiet; it is told of when it runs for long", async (t) => {
  const { open, pass, told, bundle } = watch();
  open("b");
  await pass(30, () => bundle.activity++);
  let count = 1;
  await pass(29, () => (bundle.infos = [info("beam:metric:element_count:v1", ++count)]));
  t.is(told.length, 0);
  await pass(3, () => bundle.activity++);
  t.is(told.length, 1);
  t.true((told[0]?.quietMs ?? 99_999n) < 10_000n);
});

test("of a bundle whose SDK has taken all that was sent, and which is not all, that is said", async (t) => {
  const { open, pass, told, bundle } = watch();
  bundle.awaitsInput = true;
  open("b");
  await pass(12);
  t.is(told[0]?.stacks, "It waits for input that has not reached it.\nall threads sleep");
});

test("a bundle that goes on again is withdrawn", async (t) => {
  const { open, pass, told, bundle } = watch();
  open("b");
  await pass(12);
  bundle.activity++;
  await pass(2);
  t.deepEqual(
    told.map(({ ended }) => ended),
    [false, true],
  );
});

test("where a harness has no status stream, or does not answer, that is said instead", async (t) => {
  for (const [status, expected] of [
    ["none", /no worker status stream[^]*LOOPBACK/],
    ["silent", /did not answer\. Native code/],
  ] as const) {
    const { open, pass, told } = watch(status);
    open("b");
    await pass(12);
    t.regex(told[0]?.stacks ?? "", expected);
  }
});

test("of many bundles that hang only the first are told of", async (t) => {
  const { open, pass, told } = watch();
  for (let number = 0; number < 40; number++) open(`b${number}`);
  await pass(12);
  t.is(told.length, 16);
});
