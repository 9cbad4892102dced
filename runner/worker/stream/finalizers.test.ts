// When and in which order bundles are finalized.
import test from "ava";
import { Finalizers } from "./finalizers.ts";

/** Finalizations that are answered when the test says so. */
class Harness {
  readonly asked: string[] = [];
  readonly #answers: (() => void)[] = [];

  finalize(name: string): () => Promise<void> {
    return () => {
      this.asked.push(name);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#answers.push(resolve);
      return promise;
    };
  }

  /** Answers the oldest, and lets go on what waited for it. */
  async answer(): Promise<void> {
    this.#answers.shift()?.();
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

test("bundles are finalized one after the other, in the order in which they committed, over checkpoints too", async (t) => {
  const harness = new Harness();
  const finalizers = new Finalizers(true);
  finalizers.add(harness.finalize("1a"));
  finalizers.add(harness.finalize("1b"));
  finalizers.barrier(1);
  finalizers.add(harness.finalize("2a"));
  finalizers.barrier(2);
  finalizers.add(harness.finalize("3a"));
  t.deepEqual(harness.asked, []);

  finalizers.complete(1);
  t.deepEqual(harness.asked, ["1a"]);
  finalizers.complete(2);
  await harness.answer();
  t.deepEqual(harness.asked, ["1a", "1b"]);
  await harness.answer();
  t.deepEqual(harness.asked, ["1a", "1b", "2a"]);
  await harness.answer();
  await finalizers.settled();
  t.deepEqual(harness.asked, ["1a", "1b", "2a"]);
});

test("a checkpoint that was given up is covered by the next complete one", async (t) => {
  const harness = new Harness();
  const finalizers = new Finalizers(true);
  finalizers.add(harness.finalize("1"));
  finalizers.barrier(1);
  finalizers.add(harness.finalize("2"));
  finalizers.barrier(2);
  finalizers.complete(2);
  await harness.answer();
  t.deepEqual(harness.asked, ["1", "2"]);
});

test("without checkpoints a bundle is finalized when it has committed", async (t) => {
  const harness = new Harness();
  const finalizers = new Finalizers(false);
  finalizers.add(harness.finalize("1"));
  finalizers.add(harness.finalize("2"));
  t.deepEqual(harness.asked, ["1"]);
  await harness.answer();
  t.deepEqual(harness.asked, ["1", "2"]);
});
