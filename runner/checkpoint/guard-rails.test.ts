import test from "ava";
import { type CheckpointFacts, guardRailWarnings } from "./guard-rails.ts";

const MIB = 1024 * 1024;
const GOOD: CheckpointFacts = {
  intervalMs: 10_000,
  durationMs: 300,
  alignmentMs: 50,
  blockedMs: 50,
  commitWaitMs: 20,
  writes: [{ writeMs: 100, byteLength: MIB }],
  writtenBytes: MIB,
  stateBytes: 2048 * MIB,
  fullInARow: 0,
  inFlightBytes: 0,
  inFlightBefore: [],
  mostInFlight: undefined,
  storageDirectory: "/checkpoints",
  hasRemoteWorkers: false,
};

const railsOf = (facts: Partial<CheckpointFacts>) => guardRailWarnings({ ...GOOD, ...facts }).map(({ rail }) => rail);
const messageOf = (facts: Partial<CheckpointFacts>) =>
  guardRailWarnings({ ...GOOD, ...facts })
    .map(({ message }) => message)
    .join("\n");

test("a checkpoint that went well is warned of nothing", (t) => {
  t.deepEqual(railsOf({}), []);
  t.deepEqual(railsOf({ storageDirectory: undefined, hasRemoteWorkers: true }), []);
  t.deepEqual(railsOf({ durationMs: 10_000, blockedMs: 1_000 }), []);
  t.deepEqual(railsOf({ alignmentMs: 9_000, blockedMs: 0 }), []);
});

test("each setting that hurts is named with what was measured and a value that suits", (t) => {
  t.regex(messageOf({ intervalMs: 500, blockedMs: 0 }), /--checkpointing_interval is 500 ms.*10000 suits/);
  const slow = { durationMs: 25_000, writes: [{ writeMs: 400, byteLength: MIB }], commitWaitMs: 24_000 };
  t.deepEqual(railsOf(slow), ["slower-than-interval"]);
  t.regex(messageOf(slow), /took 25000 ms.*10000 ms.*bundles 24000 ms.*more workers.*75000 ms/);
  t.regex(messageOf({ durationMs: 25_000, writes: [{ writeMs: 24_000, byteLength: 300 * MIB }] }), /faster storage/);
  t.regex(messageOf({ blockedMs: 1_200 }), /1200 ms.*a tenth .*10000 ms.*12000 ms or more/);
  t.regex(messageOf({ hasRemoteWorkers: true }), /directory \/checkpoints.*--state_backend_storage_path/);
});

test("storage is slow where no task's file was there soon, for its bytes", (t) => {
  const writes = [
    { writeMs: 1_500, byteLength: 1_000 },
    { writeMs: 1_300, byteLength: 1_000 },
  ];
  t.deepEqual(railsOf({ writes }), ["slow-storage"]);
  t.deepEqual(railsOf({ writes: [...writes, { writeMs: 40, byteLength: 1_000 }] }), []);
  t.deepEqual(railsOf({ writes: [{ writeMs: 4_000, byteLength: 100 * MIB }] }), []);
  t.deepEqual(railsOf({ writes: [] }), []);
});

test("large state that is written whole again and again is told of, small state and a new base are not", (t) => {
  const full = { writtenBytes: 2000 * MIB };
  t.deepEqual(railsOf(full), []);
  t.deepEqual(railsOf({ ...full, fullInARow: 2 }), ["full-snapshots"]);
  t.deepEqual(railsOf({ writtenBytes: 10 * MIB, stateBytes: 10 * MIB, fullInARow: 9 }), []);
});

test("data in flight that grows from checkpoint to checkpoint is told of, once there is much of it", (t) => {
  const grown = {
    inFlightBytes: 80 * MIB,
    inFlightBefore: [20 * MIB, 40 * MIB, 60 * MIB],
    mostInFlight: "subtask 1 of [slow]",
  };
  t.deepEqual(railsOf(grown), ["growing-in-flight"]);
  t.regex(
    messageOf(grown),
    /20 MiB, 40 MiB, 60 MiB, 80 MiB, most of it at subtask 1 of \[slow\].*--limit exchangeCreditBytes/,
  );
  t.deepEqual(railsOf({ ...grown, inFlightBytes: 60 * MIB }), []);
  t.deepEqual(railsOf({ ...grown, inFlightBefore: [20 * MIB, 60 * MIB] }), []);
  t.deepEqual(railsOf({ inFlightBytes: 8 * MIB, inFlightBefore: [2 * MIB, 4 * MIB, 6 * MIB] }), []);
});
