import test from "ava";
import type { Clock } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import type { CheckpointStorage } from "./checkpoint-storage.ts";
import { RetryingStorage } from "./retrying-storage.ts";

const PATIENCE = { attempts: 4, firstDelayMs: 100, maxDelayMs: 150 };

function failing(code: "UNAVAILABLE" | "NOT_FOUND"): WeirError {
  return new WeirError({ code, domain: "external", message: `It is ${code}.`, retry: code === "UNAVAILABLE" });
}

function storageOf(read: () => Promise<Uint8Array>, sleeps: number[]): RetryingStorage {
  const clock: Clock = {
    nowMs: () => 0,
    monotonicMs: () => 0,
    sleep: async (delayMs) => void sleeps.push(delayMs),
  };
  return new RetryingStorage({ read } as unknown as CheckpointStorage, PATIENCE, clock);
}

test("what another attempt may mend is tried again, with growing pauses, and then thrown", async (t) => {
  const sleeps: number[] = [];
  let attempts = 0;
  const storage = storageOf(() => {
    attempts++;
    return attempts < 3 ? Promise.reject(failing("UNAVAILABLE")) : Promise.resolve(new Uint8Array([1]));
  }, sleeps);
  t.deepEqual(await storage.read("x"), new Uint8Array([1]));
  t.is(attempts, 3);
  t.true((sleeps[0] as number) >= 50 && (sleeps[0] as number) <= 100);
  t.true((sleeps[1] as number) >= 75 && (sleeps[1] as number) <= 150);
  attempts = -100;
  await t.throwsAsync(storage.read("x"), { message: "It is UNAVAILABLE." });
  t.is(attempts, -100 + PATIENCE.attempts);
});

test("what no other attempt can mend is thrown at once", async (t) => {
  const sleeps: number[] = [];
  await t.throwsAsync(storageOf(() => Promise.reject(failing("NOT_FOUND")), sleeps).read("x"), { code: "NOT_FOUND" });
  t.deepEqual(sleeps, []);
});

test("only a few files are on their way at once, and all of them come", async (t) => {
  let atOnce = 0;
  let most = 0;
  const uploaded: string[] = [];
  const slow = {
    upload: async (location: string) => {
      most = Math.max(most, ++atOnce);
      await new Promise((resolve) => setImmediate(resolve));
      atOnce--;
      uploaded.push(location);
      if (location === "5") throw failing("NOT_FOUND");
    },
  };
  const storage = new RetryingStorage(slow as unknown as CheckpointStorage);
  const names = Array.from({ length: 20 }, (_, index) => String(index));
  const results = await Promise.allSettled(names.map((name) => storage.upload(name, "")));
  t.is(most, 4);
  t.deepEqual(uploaded.toSorted(), names.toSorted());
  t.deepEqual(
    results.flatMap(({ status }, index) => (status === "rejected" ? [index] : [])),
    [5],
  );
});
