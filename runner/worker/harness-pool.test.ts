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
  options: {
    loopback?: boolean;
    keepsStandby?: boolean;
    payload?: Uint8Array;
    onConnection?: (connection: HarnessConnection) => void;
    clock?: Clock;
  } = {},
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
    keepsStandby: options.keepsStandby ?? false,
    connectTimeoutMs: 300_000,
    environmentWaitMs: 30_000,
    newHarnessId: () => `h${count++}` as HarnessId,
    onConnection: options.onConnection ?? (() => undefined),
    onGone: () => undefined,
    clock: options.clock ?? leapingClock(),
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

test("a harness that is killed before it has connected is started again, a few times", async (t) => {
  const killed = { reason: "was ended by SIGKILL", lastOutput: [], isKilled: true };
  for (const [kills, isEnough] of [
    [3, false],
    [4, true],
  ] as const) {
    let starts = 0;
    let connection: HarnessConnection | undefined;
    const pool = openPool(
      {
        start: () => {
          const isKilled = ++starts <= kills;
          if (!isKilled) connection?.attachControl({ write: () => true, once: () => undefined, end: () => undefined });
          const exited = isKilled ? Promise.resolve<HarnessExit>(killed) : new Promise<HarnessExit>(() => undefined);
          return Promise.resolve({ exited, tellsExit: true, stop: () => Promise.resolve() });
        },
      },
      { onConnection: (opened) => (connection = opened) },
    );
    const lane = pool.lane(0, new AbortController().signal);
    if (isEnough) t.false((await t.throwsAsync(lane, { instanceOf: WeirError, message: /SIGKILL/ })).retry);
    else t.is((await lane).lostError, undefined);
    t.is(starts, 4);
    await pool.close();
  }
});

test("a standby harness takes the place of one that is lost, and is followed by another", async (t) => {
  const opened: HarnessConnection[] = [];
  const stopped = new Set<number>();
  const pool = openPool(
    {
      start: () => {
        const index = opened.length - 1;
        opened[index]?.attachControl({ write: () => true, once: () => undefined, end: () => undefined });
        const stop = () => (stopped.add(index), Promise.resolve());
        return Promise.resolve({ exited: new Promise<HarnessExit>(() => undefined), stop });
      },
    },
    { keepsStandby: true, onConnection: (connection) => void opened.push(connection) },
  );
  const { signal } = new AbortController();
  const isConnected = async (count: number) => {
    while (opened.length < count) await new Promise(setImmediate);
    await opened[count - 1]?.connected;
  };
  const first = await pool.lane(0, signal);
  t.is(opened.length, 1, "it is started after the first one works");
  await isConnected(2);
  first.lose("it was killed");
  const second = await pool.lane(0, signal);
  t.is(second, opened[1] as HarnessConnection);
  await isConnected(3);
  // A standby that is lost is not given out.
  opened[2]?.lose("it was killed, too");
  second.lose("it was killed");
  t.is((await pool.lane(0, signal)).lostError, undefined);
  t.is(await pool.lane(0, signal), opened[3] as HarnessConnection);
  await isConnected(5);
  await pool.close();
  t.deepEqual(
    [...stopped].toSorted((left, right) => left - right),
    [0, 1, 2, 3, 4],
    "nothing is left",
  );
});

/** Sleeping ends when it is given up only. */
const standingClock: Clock = {
  nowMs: () => 0,
  monotonicMs: () => 0,
  sleep: (_, signal) =>
    new Promise((_resolve, reject) =>
      signal?.addEventListener("abort", () => reject(signal.reason as Error), { once: true }),
    ),
};

for (const hangs of [false, true])
  test(`a LOOPBACK job's harness ${hangs ? "that hangs is waited for a while" : "has closed its streams before it is stopped"}`, async (t) => {
    const told: string[] = [];
    let connection: HarnessConnection | undefined;
    const sink = (name: string) => ({
      write: () => true,
      once: () => undefined,
      end: () => void told.push(`end ${name}`),
    });
    const pool = openPool(
      {
        start: () => {
          connection?.attachControl(sink("control"));
          connection?.attachData(sink("data"));
          const stop = () => (told.push("stop"), Promise.resolve());
          return Promise.resolve({ exited: new Promise<HarnessExit>(() => undefined), stop });
        },
      },
      {
        loopback: true,
        onConnection: (opened) => (connection = opened),
        clock: hangs ? leapingClock() : standingClock,
      },
    );
    await pool.lane(0, new AbortController().signal);
    const closed = pool.close();
    if (!hangs) {
      for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
      t.deepEqual(told, ["end control"], "its data stream is not cut");
      connection?.dataEnded();
    }
    await closed;
    t.deepEqual(told.slice(0, 2), ["end control", "stop"]);
  });
