import test from "ava";
import type { Clock } from "../base/clock.ts";
import { withSilenceLimit } from "./silence-limit.ts";

/** Time passes when it is told to. */
class StepClock implements Clock {
  #wake: (() => void)[] = [];
  nowMs = () => 0;
  monotonicMs = () => 0;

  sleep(_delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#wake.push(resolve);
      signal?.addEventListener("abort", () => reject(signal.reason as Error));
    });
  }

  async pass(): Promise<void> {
    for (const wake of this.#wake.splice(0)) wake();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("a transfer goes on as long as something moves, and is ended when nothing does", async (t) => {
  const clock = new StepClock();
  const transfer = withSilenceLimit(
    1_000,
    async ({ signal, moved }) => {
      for (let count = 0; count < 3; count++) {
        moved();
        await clock.pass();
        t.false(signal.aborted);
      }
      await clock.pass();
      t.true(signal.aborted);
      signal.throwIfAborted();
    },
    clock,
  );
  await t.throwsAsync(transfer, { message: /nothing has moved for 1 s/ });
});

test("bytes that pass a meter are movement", async (t) => {
  const clock = new StepClock();
  await withSilenceLimit(
    1_000,
    async ({ signal, meter }) => {
      const stream = meter();
      for (let count = 0; count < 3; count++) {
        stream.write("x");
        t.is(String(stream.read()), "x");
        await clock.pass();
        t.false(signal.aborted);
      }
    },
    clock,
  );
});
