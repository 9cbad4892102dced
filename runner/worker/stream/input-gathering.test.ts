import test from "ava";
import { ManualClock } from "../../job-server/streaming-fixture.ts";
import { MAX_TIMESTAMP } from "../../time/timestamp.ts";
import { InputGathering } from "./input-gathering.ts";
import { StageQueue } from "./stage-queue.ts";

function setUp() {
  const clock = new ManualClock();
  const queue = new StageQueue((_bytes, position) => position + 1);
  const woken = { count: 0 };
  const gathering = new InputGathering({
    maxBytes: 10,
    maxElements: () => 4,
    maxMs: 100,
    clock,
    wake: () => void woken.count++,
  });
  const data = (elementCount: number, byteLength = elementCount) =>
    queue.data({ data: new Uint8Array(byteLength), elementCount });
  const takeAll = () => queue.take({ maxElements: 100, maxBytes: 100 }, undefined);
  return { clock, queue, gathering, woken, data, takeAll };
}

test("input waits until a mark comes behind it", (t) => {
  const { queue, gathering, data, clock } = setUp();
  t.false(gathering.waits(queue));
  data(1);
  t.true(gathering.waits(queue));
  data(1);
  t.true(gathering.waits(queue));
  t.is(clock.sleeping, 1);
  queue.mark({ kind: "watermark", timestamp: MAX_TIMESTAMP });
  t.false(gathering.waits(queue));
  t.is(clock.sleeping, 0);
});

test("input that fills a bundle, in elements or in bytes, does not wait", (t) => {
  const elements = setUp();
  elements.data(3);
  t.true(elements.gathering.waits(elements.queue));
  elements.data(1);
  t.false(elements.gathering.waits(elements.queue));
  elements.takeAll();
  elements.data(1);
  t.true(elements.gathering.waits(elements.queue));
  elements.gathering.close();

  const bytes = setUp();
  bytes.data(1, 10);
  t.false(bytes.gathering.waits(bytes.queue));
});

test("the wait ends by time, and begins anew for later input", async (t) => {
  const { queue, gathering, data, takeAll, clock, woken } = setUp();
  data(1);
  t.true(gathering.waits(queue));
  await clock.advance(99);
  t.true(gathering.waits(queue));
  await clock.advance(1);
  t.is(woken.count, 1);
  t.false(gathering.waits(queue));
  takeAll();
  data(1);
  t.true(gathering.waits(queue));
  gathering.close();
  t.is(clock.sleeping, 0);
});
