import test from "ava";
import { silentLog } from "../base/log.ts";
import { CheckpointRemovals } from "./checkpoint-removals.ts";
import { ManualClock, settle } from "./streaming-fixture.ts";

/** Deletes nothing the first few times. */
class Folder {
  readonly path: string;
  asked = 0;
  #failures: number;

  constructor(path: string, failures: number) {
    this.path = path;
    this.#failures = failures;
  }

  async remove(): Promise<void> {
    await Promise.resolve();
    this.asked++;
    if (this.#failures-- > 0) throw new Error("the store is down");
  }
}

test("a folder that could not be deleted is tried again, less and less often, until it is gone", async (t) => {
  const clock = new ManualClock();
  const removals = new CheckpointRemovals({ clock, log: silentLog() });
  const folder = new Folder("s3://bucket/job", 3);
  await removals.remove(folder, false);
  t.deepEqual(removals.pending, ["s3://bucket/job"]);
  for (const [pauseMs, asked] of [
    [60_000, 2],
    [120_000, 3],
    [239_000, 3],
    [1_000, 4],
  ] as const) {
    await clock.advance(pauseMs);
    await settle();
    t.is(folder.asked, asked);
  }
  t.deepEqual(removals.pending, []);
  t.is(clock.sleeping, 0);
});

test("after a lost worker the folder is looked at once more; what waits ends with the server", async (t) => {
  const clock = new ManualClock();
  const removals = new CheckpointRemovals({ clock, log: silentLog() });
  const folder = new Folder("/job", 0);
  await removals.remove(folder, true);
  await clock.advance(300_000);
  await settle();
  t.is(folder.asked, 2);
  t.is(clock.sleeping, 0);
  await removals.remove(folder, true);
  removals.close();
  await clock.advance(300_000);
  t.is(folder.asked, 3);
  t.is(clock.sleeping, 0);
});
