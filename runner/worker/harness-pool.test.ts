import { createServer } from "node:net";
import test from "ava";
import { ExternalPayload } from "../../proto/gen/beam_runner_api.ts";
import type { Clock } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import type { HarnessId, JobId } from "../base/ids.ts";
import { createLog } from "../base/log.ts";
import { startExternal } from "./environment/external.ts";
import type { HarnessConnection } from "./task/harness-connection.ts";
import { EnvironmentLostError, HarnessPool } from "./harness-pool.ts";
import type { HarnessExit, HarnessLauncher } from "./task/ports.ts";

/** Sleeping takes no time and moves the clock; sleeps that only bound a wait must not end before it does. */
function leapingClock(): Clock {
  let now = 0;
  return {
    nowMs: () => now,
    monotonicMs: () => now,
    sleep: (delayMs, signal) => {
      if (delayMs > 10_000)
        return new Promise((_, reject) =>
          signal?.addEventListener("abort", () => reject(signal.reason as Error), { once: true }),
        );
      now += delayMs;
      return new Promise((resolve) => setImmediate(resolve));
    },
  };
}

function openPool(
  launcher: HarnessLauncher,
  options: { loopback?: boolean; payload?: Uint8Array; onConnection?: (connection: HarnessConnection) => void } = {},
): HarnessPool {
  let count = 0;
  return new HarnessPool({
    jobId: "job" as JobId,
    environmentId: "e",
    environment: {
      urn: "beam:env:external:v1",
      payload: options.payload ?? new Uint8Array(),
      capabilities: [],
      dependencies: [],
      resourceHints: [],
    },
    pipelineOptions: {},
    endpoints: { control: "c:1", logging: "c:1", provision: "c:1", artifact: "c:1", status: "c:1" },
    launcher,
    loopback: options.loopback ?? false,
    connectTimeoutMs: 300_000,
    environmentWaitMs: 30_000,
    newHarnessId: () => `h${count++}` as HarnessId,
    onConnection: options.onConnection ?? (() => undefined),
    onGone: () => undefined,
    clock: leapingClock(),
    log: createLog("test", "silent", "json"),
  });
}

/** A port on which nobody listens. */
async function deadAddress(): Promise<string> {
  const server = createServer();
  const port = await new Promise<number>((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port));
  });
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${port}`;
}

for (const [loopback, words] of [
  [false, /waited for 30 s in vain/],
  [true, /client that ran this LOOPBACK job's SDK harness is gone/],
] as const) {
  test(`an unreachable ${loopback ? "LOOPBACK" : "EXTERNAL"} pool is waited for, and then the job cannot go on`, async (t) => {
    const address = await deadAddress();
    let starts = 0;
    const launcher: HarnessLauncher = { start: (request) => (starts++, startExternal(request)) };
    const payload = ExternalPayload.encode(ExternalPayload.fromPartial({ endpoint: { url: address } })).finish();
    const pool = openPool(launcher, { loopback, payload });
    const failure = await t.throwsAsync(pool.lane(0, new AbortController().signal), {
      instanceOf: EnvironmentLostError,
      message: words,
    });
    t.true(failure.message.includes(address), failure.message);
    t.false(failure.retry, "a task must not wait for it again");
    t.true(starts > 3, "it was asked more than once");
    await pool.close();
  });
}

test("a process that ends is lost by how it ended, not by its streams, which end first", async (t) => {
  const exited = Promise.withResolvers<HarnessExit>();
  let connection: HarnessConnection | undefined;
  const pool = openPool(
    {
      start: () => {
        connection?.attachControl({ write: () => true, once: () => undefined, end: () => undefined });
        return Promise.resolve({ exited: exited.promise, tellsExit: true, stop: () => Promise.resolve() });
      },
    },
    { onConnection: (opened) => (connection = opened) },
  );
  const lane = await pool.lane(0, new AbortController().signal);
  lane.streamEnded("it closed its control stream");
  exited.resolve({ reason: "exited with code 77", lastOutput: ["last words"] });
  const lost = await lane.lost;
  t.regex(lost.message, /exited with code 77[^]*last words/);
  await pool.close();
});

test("a task that is cancelled does not take the harness from another one that waits for it", async (t) => {
  const launched = Promise.withResolvers<void>();
  let connection: HarnessConnection | undefined;
  const pool = openPool(
    {
      start: async (request) => {
        await launched.promise;
        request.signal.throwIfAborted();
        connection?.attachControl({ write: () => true, once: () => undefined, end: () => undefined });
        return { exited: new Promise(() => undefined), stop: () => Promise.resolve() };
      },
    },
    { onConnection: (opened) => (connection = opened) },
  );
  const first = new AbortController();
  const cancelled = pool.lane(0, first.signal);
  const kept = pool.lane(0, new AbortController().signal);
  first.abort(new WeirError({ code: "CANCELLED", domain: "internal", message: "cancelled" }));
  await t.throwsAsync(cancelled, { message: "cancelled" });
  launched.resolve();
  t.is((await kept).harnessId, "h0" as HarnessId);
  await pool.close();
});

test("an EXTERNAL pool that was there before may come back: the job may be tried again", async (t) => {
  let isUp = true;
  const opened: HarnessConnection[] = [];
  const pool = openPool(
    {
      start: () => {
        if (!isUp)
          return Promise.reject(
            new WeirError({ code: "UNAVAILABLE", domain: "external", message: "Nobody answers.", retry: true }),
          );
        opened.at(-1)?.attachControl({ write: () => true, once: () => undefined, end: () => undefined });
        return Promise.resolve({ exited: new Promise(() => undefined), stop: () => Promise.resolve() });
      },
    },
    { onConnection: (connection) => void opened.push(connection) },
  );
  const { signal } = new AbortController();
  (await pool.lane(0, signal)).lose("the pool was killed");
  isUp = false;
  const failure = await t.throwsAsync(pool.lane(0, signal), { instanceOf: WeirError, message: /30 s in vain/ });
  t.true(failure.retry);
  t.false(failure instanceof EnvironmentLostError);
  isUp = true;
  t.is((await pool.lane(0, signal)).lostError, undefined);
  await pool.close();
});
