import test from "ava";
import fc from "fast-check";
import type { JobId, WorkerId } from "../base/ids.ts";
import { QuiescenceDetector } from "./quiescence.ts";
import { FakeWorker, ManualClock, settle } from "./streaming-fixture.ts";
import { TestStreamDriver } from "./test-stream-driver.ts";

interface Answer {
  sent: number;
  received: number;
  idle: boolean;
  activity: number;
}

const quiet: Answer = { sent: 0, received: 0, idle: true, activity: 0 };

/** Workers that answer each probe at once with what `answers` has for them. */
function open(count: number) {
  const clock = new ManualClock();
  const workers = Array.from({ length: count }, (_, index) => new FakeWorker(`w${index}`));
  const answers = workers.map(() => ({ ...quiet }));
  const driver = new TestStreamDriver({
    jobId: "job" as JobId,
    executionAttempt: 3,
    workers,
    testStreamWorkers: new Set([workers[0]?.workerId as WorkerId]),
    clock,
  });
  for (const [index, worker] of workers.entries())
    worker.onTold = (message) => {
      const answer = answers[index];
      if (message.$case === "advanceTestStream") answers[0] = { ...quiet, idle: false };
      if (message.$case !== "streamProbe" || answer === undefined) return;
      driver.replied(worker.workerId, {
        ...message.value,
        sentItems: BigInt(answer.sent),
        receivedItems: BigInt(answer.received),
        idle: answer.idle,
        activity: BigInt(answer.activity),
      });
    };
  return { clock, workers, answers, driver, advances: () => workers[0]?.all("advanceTestStream").length };
}

test("the TestStream goes on once the whole job is quiet, and only its worker is told", async (t) => {
  const { clock, workers, answers, driver, advances } = open(2);
  answers[1] = { ...quiet, idle: false };
  const run = driver.run();
  await clock.advance(100);
  t.is(advances(), 0);
  answers[1] = { ...quiet, sent: 2 };
  await clock.advance(100);
  t.is(advances(), 0);
  answers[0] = { ...quiet, received: 2, activity: 1 };
  await clock.advance(60);
  t.is(advances(), 1);
  t.is(workers[1]?.all("advanceTestStream").length, 0);
  await clock.advance(1_000);
  t.is(advances(), 1);
  answers[0] = { ...quiet, received: 2, activity: 2 };
  await clock.advance(60);
  t.is(advances(), 2);
  driver.close();
  await run;
});

test("a job that is busy for long is asked less and less often", async (t) => {
  const { clock, workers, answers, driver } = open(1);
  answers[0] = { ...quiet, idle: false };
  const run = driver.run();
  await clock.advance(10);
  const early = workers[0]?.all("streamProbe").length ?? 0;
  t.true(early >= 5);
  await clock.advance(10_000);
  const all = workers[0]?.all("streamProbe").length ?? 0;
  t.true(all < 300, `${all} probes`);
  driver.close();
  await run;
});

test("processing time reaches all workers before the next round, and spoils the round that it fell into", async (t) => {
  const { workers, driver } = open(2);
  const [first, second] = workers as [FakeWorker, FakeWorker];
  const answered: bigint[] = [];
  const reply = (worker: FakeWorker) => {
    const { probeId } = worker.all("streamProbe").at(-1) as { probeId: bigint };
    answered.push(probeId);
    driver.replied(worker.workerId, {
      jobId: "job",
      executionAttempt: 3,
      probeId,
      sentItems: 0n,
      receivedItems: 0n,
      idle: true,
      activity: 0n,
    });
  };
  first.onTold = undefined;
  second.onTold = undefined;
  const run = driver.run();
  await settle();
  reply(first);
  reply(second);
  await settle();
  reply(second);
  driver.setProcessingTime(70n);
  reply(first);
  await settle();
  t.is(first.all("advanceTestStream").length, 0);
  t.deepEqual(
    second.told.map(({ $case }) => $case),
    ["streamProbe", "streamProbe", "setProcessingTime", "streamProbe"],
  );
  for (let round = 0; round < 2; round++) {
    reply(first);
    reply(second);
    await settle();
  }
  t.is(first.all("advanceTestStream").length, 1);
  driver.close();
  await run;
});

/**
 * A random world: workers with items in their queues and on their way, asked one after another while it goes on. Told
 * quiet, it must really be quiet.
 */
test("a job is never called quiet while an item is on its way or being worked on", (t) => {
  let quietRuns = 0;
  const step = fc.record({
    worker: fc.nat({ max: 2 }),
    action: fc.constantFrom<"arrive" | "work" | "ask">("arrive", "work", "ask", "ask"),
    to: fc.nat({ max: 2 }),
    fanOut: fc.nat({ max: 1 }),
  });
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 30, maxLength: 120, size: "max" }),
      fc.nat({ max: 3 }),
      (steps, initial) => {
        const world = [0, 1, 2].map(() => ({ sent: 0, received: 0, inTransit: 0, queued: 0, activity: 0 }));
        const at = (index: number) => world[index] as (typeof world)[number];
        at(0).queued = initial;
        const detector = new QuiescenceDetector();
        let answers = new Map<number, Parameters<QuiescenceDetector["round"]>[0][number]>();
        for (const { worker, action, to, fanOut } of steps) {
          const self = at(worker);
          if (action === "arrive" && self.inTransit > 0) {
            self.inTransit--;
            self.received++;
            self.queued++;
            self.activity++;
          } else if (action === "work" && self.queued > 0) {
            self.queued--;
            self.activity++;
            self.sent += fanOut;
            at(to).inTransit += fanOut;
          } else if (action === "ask") {
            // Workers answer in an order of their own.
            const asked = [worker, to, 0, 1, 2].find((index) => !answers.has(index)) as number;
            const self = at(asked);
            answers.set(asked, {
              workerId: String(asked) as WorkerId,
              sentItems: BigInt(self.sent),
              receivedItems: BigInt(self.received),
              idle: self.queued === 0,
              activity: BigInt(self.activity),
            });
            if (answers.size < 3) continue;
            const found = detector.round([...answers.values()]);
            answers = new Map();
            if (found !== "quiet") continue;
            quietRuns++;
            if (world.some(({ inTransit, queued }) => inTransit > 0 || queued > 0)) return false;
          }
        }
        return true;
      },
    ),
    { numRuns: 2_000 },
  );
  t.true(quietRuns > 50, `${quietRuns} runs became quiet`);
});
