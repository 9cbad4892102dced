import test from "ava";
import { serverLimits } from "../base/limits.ts";
import { boundedText, type JobEvent, JobEventLog } from "./job-event-log.ts";

function message(log: JobEventLog, text: string): JobEvent {
  return { kind: "message", sequence: log.nextSequence, timeMs: 0, importance: "BASIC", text };
}

async function all(log: JobEventLog): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for await (const batch of log.follow(new AbortController().signal)) events.push(...batch);
  return events;
}

test("a log stays bounded: the oldest messages go, states stay, and a late subscriber is told what it missed", async (t) => {
  const log = new JobEventLog(serverLimits().jobMessageBytes);
  log.append({ kind: "state", sequence: 1, timeMs: 0, state: "RUNNING" });
  let keptFrom: number | undefined;
  for (let index = 0; index < 25_000; index++) keptFrom = log.append(message(log, `m${index}`)) ?? keptFrom;
  log.end();
  const events = await all(log);
  t.true(events.length <= 10_002);
  t.deepEqual([events[0]?.kind, events[0]?.sequence], ["state", 1]);
  const [, gap, first] = events;
  t.is(first?.sequence, keptFrom);
  t.deepEqual(gap?.kind === "message" && gap.text, `${(keptFrom ?? 0) - 2} earlier message(s) are no longer kept.`);
  t.is(events.at(-1)?.sequence, 25_001);
});

test("long texts bound the log too", async (t) => {
  const log = new JobEventLog(serverLimits().jobMessageBytes);
  for (let index = 0; index < 1_000; index++) log.append(message(log, boundedText("x".repeat(1_000_000))));
  log.end();
  let length = 0;
  for (const event of await all(log)) length += event.kind === "message" ? event.text.length : 0;
  t.true(length <= 17 * 1024 * 1024, `${length}`);
});

test("a cut text keeps its end, where a traceback says what went wrong", (t) => {
  const text = boundedText(`Traceback\n${"x".repeat(1_000_000)}\nValueError: here`);
  t.true(text.startsWith("Traceback\n") && text.endsWith("ValueError: here") && text.length < 140_000);
});

test("an aborted subscription returns while the log goes on", async (t) => {
  const log = new JobEventLog(serverLimits().jobMessageBytes);
  const abort = new AbortController();
  const seen: JobEvent[] = [];
  const following = (async () => {
    for await (const batch of log.follow(abort.signal)) seen.push(...batch);
  })();
  log.append(message(log, "one"));
  await new Promise((resolve) => setImmediate(resolve));
  abort.abort();
  await following;
  log.append(message(log, "two"));
  t.deepEqual(
    seen.map(({ sequence }) => sequence),
    [1],
  );
});
