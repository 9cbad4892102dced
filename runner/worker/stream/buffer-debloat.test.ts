import test from "ava";
import { BufferDebloat } from "./buffer-debloat.ts";

class Channel {
  nowMs = 0;
  readonly debloat: BufferDebloat;

  constructor(maxBytes: number) {
    this.debloat = new BufferDebloat(maxBytes, { monotonicMs: () => this.nowMs });
  }

  /** Something waits all the time, and each so many milliseconds so much of it is taken. */
  busy(times: number, bytes: number, everyMs: number): number {
    this.debloat.filled();
    for (let count = 0; count < times; count++) {
      this.nowMs += everyMs;
      this.debloat.taken(bytes, count === times - 1);
    }
    return this.debloat.capacityBytes;
  }
}

test("a channel should hold what its consumer takes in a short time, within bounds", (t) => {
  const channel = new Channel(8 << 20);
  t.is(channel.debloat.capacityBytes, 512 * 1024);
  const fast = channel.busy(200, 100_000, 10);
  t.true(Math.abs(fast - 250_000) < 2_500, `${fast} bytes of 10,000 in a millisecond`);
  t.is(channel.busy(50, 1_000, 1_000), 16 * 1024, "a slow one's has room for some elements");
  t.is(channel.busy(400, 10_000_000, 5), 8 << 20);
  t.is(new Channel(4_000).debloat.capacityBytes, 4_000);
});

test("time in which nothing waited says nothing of the consumer", (t) => {
  const channel = new Channel(8 << 20);
  const before = channel.busy(200, 100_000, 10);
  for (let count = 0; count < 30; count++) {
    channel.nowMs += 10_000;
    channel.busy(1, 100_000, 10);
  }
  t.is(channel.debloat.capacityBytes, before);
});
