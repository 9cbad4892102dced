import test from "ava";
import { limitsFor, readLimit } from "./limits.ts";

const MIB = 1024 * 1024;

test("the memory of a worker is shared out within its budget", (t) => {
  const limits = limitsFor(512 * MIB);
  const resident =
    limits.partitionMemoryBytes + limits.bundleMemoryBytes + limits.groupingMemoryBytes + limits.sideInputMemoryBytes;
  t.true(resident <= 512 * MIB);
});

test("single limits can be set by name, and only sensible ones", (t) => {
  t.is(limitsFor(512 * MIB, 4, readLimit("statePageBytes=4096")).statePageBytes, 4096);
  t.throws(() => readLimit("pageBytes=1"), { message: /no limit "pageBytes".*statePageBytes/ });
  t.throws(() => readLimit("chunkBytes=many"), { message: /chunkBytes must be a positive number/ });
  t.throws(() => limitsFor(512 * MIB, 4, { exchangeCreditBytes: 10 }), { message: /exchangeCreditBytes/ });
});
