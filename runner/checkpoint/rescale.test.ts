import test from "ava";
import fc from "fast-check";
import { formerPartsOf, keyGroupsOf } from "./rescale.ts";

const layout = fc.integer({ min: 1, max: 300 }).chain((maxParallelism) =>
  fc.record({
    maxParallelism: fc.constant(maxParallelism),
    parallelism: fc.integer({ min: 1, max: Math.min(40, maxParallelism) }),
    former: fc.integer({ min: 1, max: Math.min(40, maxParallelism) }),
  }),
);

test("a subtask owns the key groups that the partitioner sends to it", (t) => {
  fc.assert(
    fc.property(layout, ({ maxParallelism, parallelism }) => {
      for (let keyGroup = 0; keyGroup < maxParallelism; keyGroup++) {
        // As `partitionOf` of the coders says it.
        const owner = Math.floor((keyGroup * parallelism) / maxParallelism);
        const { firstKeyGroup, endKeyGroup } = keyGroupsOf(owner, parallelism, maxParallelism);
        if (keyGroup < firstKeyGroup || keyGroup >= endKeyGroup) return false;
      }
      return true;
    }),
  );
  t.pass();
});

test("at any parallelism each key group is taken once, from the subtask that had it", (t) => {
  fc.assert(
    fc.property(layout, ({ maxParallelism, parallelism, former }) => {
      const takenFrom = new Map<number, number>();
      for (let subtask = 0; subtask < parallelism; subtask++) {
        const parts = formerPartsOf(subtask, parallelism, former, maxParallelism);
        if (parts.length !== former) return false;
        for (const { subtaskIndex, firstKeyGroup, endKeyGroup } of parts)
          for (let keyGroup = firstKeyGroup; keyGroup < endKeyGroup; keyGroup++) {
            if (takenFrom.has(keyGroup)) return false;
            takenFrom.set(keyGroup, subtaskIndex);
          }
      }
      return (
        takenFrom.size === maxParallelism &&
        [...takenFrom].every(([keyGroup, from]) => from === Math.floor((keyGroup * former) / maxParallelism))
      );
    }),
  );
  t.pass();
});

test("at the same parallelism a subtask takes its own rows and no others", (t) => {
  t.deepEqual(
    formerPartsOf(1, 2, 2, 128).map(({ firstKeyGroup, endKeyGroup }) => endKeyGroup - firstKeyGroup),
    [0, 64],
  );
});
