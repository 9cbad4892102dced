import test from "ava";
import { WeirError } from "../base/errors.ts";
import { ManualClock, settle } from "../job-server/streaming-fixture.ts";
import { silentLog } from "../base/log.ts";
import { fullDiskMessages } from "../worker/full-disk-messages.ts";
import { DiskRoom } from "./disk-room.ts";

const NEVER = new AbortController().signal;

function full(): Error {
  return Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
}

test("a write to a full disk is tried until there is room, and the jobs are told so once", async (t) => {
  const clock = new ManualClock();
  const room = new DiskRoom(60_000, clock);
  const told: string[] = [];
  const send = ({ value }: { value: { importance: number; text: string } }) =>
    told.push(`${value.importance} ${value.text}`);
  room.listen(fullDiskMessages({ workerId: "w0", jobIds: () => ["job"], send, clock, log: silentLog() }));
  let hasRoom = false;
  const write = (result: string) => async () => {
    await Promise.resolve();
    if (!hasRoom) throw full();
    return result;
  };
  const writes = [room.writing("/spill", NEVER, write("a")), room.writing("/spill", NEVER, write("b"))];
  await clock.advance(10_000);
  t.is(told.length, 1);
  t.regex(told[0] ?? "", /^4 The disk of worker w0 is full: .*room in \/spill, for 60 seconds at most/);
  hasRoom = true;
  await clock.advance(1_000);
  t.deepEqual(await Promise.all(writes), ["a", "b"]);
  t.regex(told[1] ?? "", /^3 The disk of worker w0 has room again/);
  hasRoom = false;
  const again = room.writing("/spill", NEVER, write("c"));
  await clock.advance(1_000);
  hasRoom = true;
  await clock.advance(1_000);
  t.is(await again, "c");
  t.is(told.length, 2);
});

test("waiting has an end: the limit, the file's, or another failure", async (t) => {
  const clock = new ManualClock();
  const room = new DiskRoom(60_000, clock, () => 10);
  const outcome = t.throwsAsync(
    room.writing("/spill", NEVER, () => Promise.reject(full())),
    { code: "ENOSPC" },
  );
  const noRoom = t.throwsAsync(room.available("/spill", 11, NEVER), {
    instanceOf: WeirError,
    message: /Cannot write state in the spill directory \/spill: the disk.*TMPDIR/,
  });
  await clock.advance(61_000);
  await outcome;
  await noRoom;
  const closed = new AbortController();
  const aborted = t.throwsAsync(
    room.writing("/spill", closed.signal, () => Promise.reject(full())),
    { name: "AbortError" },
  );
  await settle();
  closed.abort();
  await aborted;
  await t.throwsAsync(
    room.writing("/spill", NEVER, () => Promise.reject(new Error("broken"))),
    { message: "broken" },
  );
  await t.notThrowsAsync(room.available("/spill", 10, NEVER));
  t.is(clock.sleeping, 0);
});
