import test from "ava";
import fc from "fast-check";
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { type ChannelItem, ChannelQueue } from "./channel-queue.ts";
import { type GateEvent, InputGate } from "./input-gate.ts";

const at = (ms: number) => ms as Timestamp;
const watermark = (ms: number): ChannelItem => ({ kind: "watermark", timestamp: at(ms) });
const barrier = (checkpointId: number): ChannelItem => ({ kind: "barrier", barrier: { checkpointId } });
const data = (...bytes: number[]): ChannelItem => ({
  kind: "data",
  chunk: { data: Uint8Array.from(bytes), elementCount: 1 },
});

function queue(name: string): ChannelQueue {
  const id = {
    jobId: "job",
    executionAttempt: 1,
    datasetId: name,
    producerSubtask: 0,
    consumerVertexId: "v",
    consumerSubtask: 0,
  };
  return new ChannelQueue(id, 1000);
}

function channels(main: number, side: number) {
  return [
    ...Array.from({ length: main }, () => ({ datasetId: "main", side: false, queue: queue("main") })),
    ...Array.from({ length: side }, () => ({ datasetId: "side", side: true, queue: queue("side") })),
  ];
}

function drain(gate: InputGate, wantsMain = true): GateEvent[] {
  const events: GateEvent[] = [];
  for (let event = gate.next(wantsMain); event !== undefined; event = gate.next(wantsMain)) events.push(event);
  return events;
}

test("the main watermark is the least over the channels and never moves back", (t) => {
  const [first, second] = channels(2, 0);
  if (first === undefined || second === undefined) throw new Error("two channels");
  const gate = new InputGate([first, second]);
  first.queue.push(watermark(10));
  t.deepEqual(drain(gate), []);
  second.queue.push(watermark(5));
  second.queue.push(data(1));
  second.queue.push(watermark(20));
  first.queue.push(watermark(7));
  t.deepEqual(
    drain(gate).flatMap((event) => (event.kind === "watermark" ? [event.timestamp as number] : [])),
    [5, 10],
  );
});

test("a channel with a barrier waits until the barrier is at the front of all; then it is given once", (t) => {
  const [first, second] = channels(1, 1);
  if (first === undefined || second === undefined) throw new Error("two channels");
  const gate = new InputGate([first, second]);
  first.queue.push(data(1));
  first.queue.push(barrier(7));
  first.queue.push(data(2));
  second.queue.push(data(3));
  t.deepEqual(
    drain(gate).map((event) => (event.kind === "data" ? event.chunk.data[0] : event.kind)),
    [1, 3],
  );
  t.true(gate.isAligning);
  second.queue.push(barrier(7));
  t.deepEqual(
    drain(gate).map((event) => (event.kind === "data" ? event.chunk.data[0] : event.kind)),
    ["barrier", 2],
  );
  t.false(gate.isAligning);
});

test("a barrier of a checkpoint that was given up is overtaken by a newer one", (t) => {
  const [first, second] = channels(2, 0);
  if (first === undefined || second === undefined) throw new Error("two channels");
  const gate = new InputGate([first, second]);
  first.queue.push(barrier(1));
  first.queue.push(data(1));
  first.queue.push(barrier(2));
  second.queue.push(barrier(2));
  t.deepEqual(
    drain(gate).map((event) => (event.kind === "barrier" ? event.barrier.checkpointId : event.kind)),
    ["data", 2],
  );
});

test("AT_LEAST_ONCE: channels are read on behind a barrier, which is given when it has come on all", (t) => {
  const [first, second] = channels(2, 0);
  if (first === undefined || second === undefined) throw new Error("two channels");
  const gate = new InputGate([first, second], undefined, false);
  first.queue.push(barrier(1));
  first.queue.push(data(1));
  t.deepEqual(
    drain(gate).map((event) => event.kind),
    ["data"],
  );
  // Checkpoint 1 was given up: its barrier never comes on the second channel.
  first.queue.push(barrier(2));
  second.queue.push(barrier(2));
  second.queue.push(data(2));
  t.deepEqual(
    drain(gate).map((event) => (event.kind === "barrier" ? event.barrier.checkpointId : event.kind)),
    ["data", 2],
  );
});

test("side input is read while main input is not wanted", (t) => {
  const [main, side] = channels(1, 1);
  if (main === undefined || side === undefined) throw new Error("two channels");
  const gate = new InputGate([main, side]);
  main.queue.push(data(1));
  side.queue.push(data(2));
  side.queue.push({ kind: "watermark", timestamp: MAX_TIMESTAMP });
  t.deepEqual(
    drain(gate, false).map((event) => [event.kind, event.kind !== "barrier" && event.side]),
    [
      ["data", true],
      ["watermark", true],
    ],
  );
  t.true(gate.hasInput);
});

test("property: order within a channel is kept, nothing is lost, and no barrier is passed", (t) => {
  const items = fc.array(fc.oneof(fc.constant("data" as const), fc.nat(50)), { maxLength: 12 });
  fc.assert(
    fc.property(fc.array(items, { minLength: 1, maxLength: 4 }), fc.infiniteStream(fc.nat(3)), (plans, order) => {
      const all = channels(plans.length, 0);
      const gate = new InputGate(all);
      let pushed = 0;
      const waiting = plans.map((plan, channel) => [
        ...plan.map((item) => (item === "data" ? data(channel, pushed++ % 256) : watermark(item))),
        barrier(1),
        data(channel, 255),
      ]);
      const events: GateEvent[] = [];
      while (waiting.some((each) => each.length > 0)) {
        const channel = (order.next().value ?? 0) % plans.length;
        const item = waiting[channel]?.shift();
        if (item !== undefined) all[channel]?.queue.push(item);
        events.push(...drain(gate));
      }
      const barrierAt = events.findIndex((event) => event.kind === "barrier");
      t.is(events.filter((event) => event.kind === "barrier").length, 1);
      const before = events.slice(0, barrierAt).filter((event) => event.kind === "data");
      t.is(before.length, pushed);
      t.is(events.slice(barrierAt).filter((event) => event.kind === "data").length, plans.length);
      for (let channel = 0; channel < plans.length; channel++) {
        const seen = before.flatMap(({ chunk }) => (chunk.data[0] === channel ? [chunk.data[1] ?? 0] : []));
        t.deepEqual(
          seen,
          seen.toSorted((left, right) => left - right),
        );
      }
    }),
    { numRuns: 100 },
  );
});
