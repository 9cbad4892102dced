import test from "ava";
import fc from "fast-check";
import type { Chunk } from "../../base/chunk.ts";
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { type ChannelItem, ChannelQueue, type InFlightItem } from "./channel-queue.ts";
import { ChannelRecording } from "./in-flight/channel-recording.ts";
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
    region: 0,
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

const overtaking = (checkpointId: number, overtakesAfterMs = 0): ChannelItem => ({
  kind: "barrier",
  barrier: { checkpointId, overtakesAfterMs },
});

test("a barrier that may overtake is seen behind data, the one that waits the least, until it has been frozen", (t) => {
  const [first, second] = channels(2, 0);
  if (first === undefined || second === undefined) throw new Error("two channels");
  const gate = new InputGate([first, second]);
  first.queue.push(data(1));
  first.queue.push(overtaking(3, 50));
  t.is(gate.announced?.overtakesAfterMs, 50);
  second.queue.push(overtaking(3, 10));
  t.is(gate.announced?.overtakesAfterMs, 10);
  gate.freeze(3);
  t.is(gate.announced, undefined);
  // What is left of it is in nobody's way.
  t.deepEqual(
    drain(gate).map((event) => event.kind),
    ["data"],
  );
  t.false(gate.hasInput);
});

test("a barrier that has come on all channels has nothing to overtake in them", (t) => {
  const [only] = channels(1, 0);
  if (only === undefined) throw new Error("one channel");
  const gate = new InputGate([only]);
  only.queue.push(overtaking(3, 50));
  only.queue.push(data(1));
  t.is(gate.next(true)?.kind, "barrier");
  t.is(gate.announced, undefined);
  t.deepEqual(
    gate.freeze(3).map(({ items, isOpen }) => ({ items, isOpen })),
    [{ items: [], isOpen: false }],
  );
});

test("what a snapshot holds of a channel comes before anything else, and aligned barriers wait for it", (t) => {
  const [first, second] = channels(2, 0);
  if (first === undefined || second === undefined) throw new Error("two channels");
  const restored = { watermark: at(20), items: [data(1), watermark(30), data(2)] as InFlightItem[] };
  const gate = new InputGate([{ ...first, restored }, second], { main: at(10), side: new Map() });
  first.queue.push(barrier(1));
  second.queue.push(barrier(1));
  second.queue.push(watermark(25));
  t.is(gate.mainWatermark, at(10));
  t.true(gate.hasInput);
  t.deepEqual(
    drain(gate).map((event) => {
      if (event.kind === "watermark") return event.timestamp;
      return event.kind === "data" ? event.chunk.data[0] : event.kind;
    }),
    [1, 2, "barrier", 25],
  );
});

test("what is left of a chunk stays in its channel: it is in a snapshot, counts as full, and is read next", (t) => {
  const [first, second] = channels(2, 0);
  if (first === undefined || second === undefined) throw new Error("two channels");
  const halves = {
    cut: ({ data: bytes, elementCount }: Chunk) => {
      const head = { data: bytes.subarray(0, 1), elementCount: 1 };
      const rest = { data: bytes.subarray(1), elementCount: elementCount - 1 };
      return { head, rest: elementCount === 1 ? undefined : rest };
    },
  };
  const items: InFlightItem[] = [{ kind: "data", chunk: { data: Buffer.from([7, 8]), elementCount: 2 } }];
  const gate = new InputGate([{ ...first, restored: { watermark: at(0), items } }, second]);
  first.queue.push({ kind: "data", chunk: { data: Buffer.from([1, 2, 3]), elementCount: 3 } });
  first.queue.push(overtaking(1));
  const next = () => {
    const event = gate.next(true, halves);
    return event?.kind === "data" ? event.chunk.data[0] : event?.kind;
  };
  t.deepEqual([next(), next(), next()], [7, 8, 1]);
  t.true(first.queue.bytes > 64 + 3, "the chunk is in the channel until all of it was read");
  const frozen = gate.freeze(1)[0]?.items ?? [];
  t.deepEqual(
    frozen.map((item) => (item.kind === "data" ? [...item.chunk.data] : item.kind)),
    [[2, 3]],
  );
  t.deepEqual([next(), next(), next()], [2, 3, undefined]);
});

test("side input is left where it is while the task has enough of it, main input is read", (t) => {
  const [main, side] = channels(1, 1);
  if (main === undefined || side === undefined) throw new Error("two channels");
  const gate = new InputGate([main, side]);
  main.queue.push(data(1));
  side.queue.push(data(2));
  const next = (wantsSide: boolean) => {
    const event = gate.next(true, undefined, wantsSide);
    return event?.kind === "data" ? event.chunk.data[0] : undefined;
  };
  t.deepEqual([next(false), next(false), next(true), next(true)], [1, undefined, 2, undefined]);
});

test("property: before the barrier, what was read and what is frozen or recorded are together what was put in", async (t) => {
  const items = fc.array(fc.constantFrom("data" as const, "watermark" as const), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(items, { minLength: 1, maxLength: 4 }),
      fc.array(fc.nat(4), { minLength: 80, maxLength: 80 }),
      async (plans, order) => {
        const all = channels(plans.length, 0);
        const gate = new InputGate(all);
        let time = 0;
        const waiting = plans.map((plan, channel) => [
          ...plan.map((item) => (item === "data" ? data(channel, time++) : watermark(++time))),
          overtaking(1),
          data(channel, 255),
        ]);
        const read: GateEvent[] = [];
        let recording: ChannelRecording | undefined;
        let readBefore: GateEvent[] = [];
        // The last of the draws reads one event; as the task does, it looks for barriers first.
        for (const draw of [...order, ...Array.from({ length: 80 }, (_, index) => index % 5)]) {
          const item = draw === 4 ? undefined : waiting[draw % plans.length]?.shift();
          if (item !== undefined) {
            all[draw % plans.length]?.queue.push(item);
            continue;
          }
          if (recording === undefined && gate.announced !== undefined) {
            readBefore = [...read];
            recording = new ChannelRecording(1, gate.freeze(1), 1_000);
          }
          const event = gate.next(true);
          if (event !== undefined) read.push(event);
        }
        read.push(...drain(gate));
        const recorded = (await recording?.done) ?? [];
        const dataOf = (events: readonly (GateEvent | InFlightItem)[], channel: number) =>
          events.flatMap((event) =>
            event.kind === "data" && event.chunk.data[0] === channel ? [event.chunk.data[1]] : [],
          );
        for (const [channel, plan] of plans.entries()) {
          const before = dataOf(readBefore, channel);
          const inFlight = dataOf(recorded[channel]?.items ?? [], channel);
          const whole = dataOf(read, channel);
          t.deepEqual([...before, ...inFlight], whole.slice(0, -1));
          t.is(whole.length, plan.filter((item) => item === "data").length + 1);
        }
        t.false(read.some(({ kind }) => kind === "barrier"));
      },
    ),
  );
});
