import test from "ava";
import { LIMIT_NAMES, limitsFor, readLimit, SERVER_LIMIT_NAMES, serverLimits } from "./limits.ts";

const MIB = 1024 * 1024;

test("the memory of a worker is shared out within its budget", (t) => {
  const limits = limitsFor(512 * MIB);
  const resident =
    limits.partitionMemoryBytes + limits.bundleMemoryBytes + limits.groupingMemoryBytes + limits.sideInputMemoryBytes;
  t.true(resident <= 512 * MIB);
});

test("single limits can be set by name, and only sensible ones", (t) => {
  const read = (text: string, before = {}) => readLimit(text, LIMIT_NAMES, before);
  t.is(limitsFor(512 * MIB, 4, read("statePageBytes=4096")).statePageBytes, 4096);
  t.deepEqual(read("chunkBytes=2", read("statePageBytes=1")), { statePageBytes: 1, chunkBytes: 2 });
  t.throws(() => read("pageBytes=1"), { message: /no limit "pageBytes".*statePageBytes/ });
  t.throws(() => read("jobMessageBytes=1"), { message: /no limit "jobMessageBytes"/ }, "it is the server's");
  t.throws(() => read("chunkBytes=many"), { message: /chunkBytes must be a positive number/ });
  t.throws(() => limitsFor(512 * MIB, 4, { exchangeCreditBytes: 10 }), { message: /exchangeCreditBytes/ });
});

test("a name may be a worker's limit, the server's, or both", (t) => {
  const overrides = { metricsBytes: 7, jobMessageBytes: 8, chunkBytes: 9 };
  const worker = limitsFor(512 * MIB, 4, overrides);
  t.deepEqual([worker.metricsBytes, worker.chunkBytes, "jobMessageBytes" in worker], [7, 9, false]);
  const server = serverLimits(overrides);
  t.deepEqual([server.metricsBytes, server.jobMessageBytes, "chunkBytes" in server], [7, 8, false]);
});

test("what waits for a bundle follows what a bundle may have", (t) => {
  t.is(limitsFor(512 * MIB, 4, { bundleInputBytes: 2 * MIB }).queuedInputBytes, 2 * MIB);
  t.is(limitsFor(512 * MIB, 4, { bundleInputBytes: 2 * MIB, queuedInputBytes: MIB }).queuedInputBytes, MIB);
});

test("every byte budget can be set by its name", (t) => {
  const settable = [...new Set<string>([...LIMIT_NAMES, ...SERVER_LIMIT_NAMES, "maxBundleAttempts"])];
  const all = [...new Set([...Object.keys(limitsFor(512 * MIB)), ...Object.keys(serverLimits())])];
  t.deepEqual(all.toSorted(), settable.toSorted());
});
