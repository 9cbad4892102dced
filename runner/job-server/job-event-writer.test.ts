import test from "ava";
import type { JobId } from "../base/ids.ts";
import { silentLog } from "../base/log.ts";
import { type JobEvent, JobEventLog } from "./job-event-log.ts";
import { JobEventWriter } from "./job-event-writer.ts";
import { ManualClock, settle } from "./streaming-fixture.ts";

function message(sequence: number): JobEvent {
  return { kind: "message", sequence, timeMs: 0, importance: "BASIC", text: `message ${sequence}` };
}

class Store {
  isFull = false;
  attempts = 0;
  readonly sequences: number[] = [];

  appendEvents(_jobId: JobId, events: readonly JobEvent[]): void {
    this.attempts++;
    if (this.isFull) throw new Error("database or disk is full");
    this.sequences.push(...events.map(({ sequence }) => sequence));
  }
}

function open() {
  const [store, events, clock] = [new Store(), new JobEventLog(1_000_000), new ManualClock()];
  const told: string[] = [];
  const writer = new JobEventWriter({
    jobId: "job" as JobId,
    events,
    store,
    onRefused: (reason) => told.push(reason),
    onStoredAgain: () => told.push("stored"),
    clock,
    log: silentLog(),
  });
  const add = (count: number) => {
    for (let left = count; left > 0; left--) writer.appended(events.append(message(events.nextSequence)));
  };
  return { store, events, clock, writer, told, add };
}

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

test("what a full disk refuses is stored when there is room, in order, each once", async (t) => {
  const { store, events, clock, writer, told, add } = open();
  add(3);
  await settle();
  t.deepEqual(store.sequences, numbers(3));
  store.isFull = true;
  add(700);
  await settle();
  const { attempts } = store;
  add(500);
  await settle();
  // It is not asked for every message.
  t.is(store.attempts, attempts);
  t.false(writer.flush(message(1_204)));
  events.append(message(1_204));
  t.deepEqual(told, ["database or disk is full"]);
  await clock.advance(60_000);
  t.is(told.length, 1);
  store.isFull = false;
  await clock.advance(5_000);
  t.deepEqual(store.sequences, numbers(1_204));
  t.deepEqual(told, ["database or disk is full", "stored"]);
  add(1);
  await settle();
  t.deepEqual(store.sequences, numbers(1_205));
  t.is(clock.sleeping, 0);
});

test("a server that ends tries once more", async (t) => {
  const { store, clock, writer, add } = open();
  store.isFull = true;
  add(2);
  await settle();
  store.isFull = false;
  writer.close();
  t.deepEqual(store.sequences, [1, 2]);
  await settle();
  t.is(clock.sleeping, 0);
});
