import test from "ava";
import { Elements, type InstructionRequest, type InstructionResponse } from "../../../proto/gen/beam_fn_api.ts";
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import type { Chunk } from "../../base/chunk.ts";
import type { Clock } from "../../base/clock.ts";
import type { HarnessId } from "../../base/ids.ts";
import { silentLog } from "../../base/log.ts";
import { encodeData } from "./encode-elements.ts";
import { HarnessConnection, type InstructionBody } from "./harness-connection.ts";
import { StageExecutor } from "./stage-executor.ts";

const SOURCE = "source";
const SINK = "sink";
const INFO: MonitoringInfo = {
  urn: "u",
  type: "beam:metrics:sum_int64:v1",
  payload: Uint8Array.of(3),
  labels: {},
  startTime: undefined,
};

type Response = NonNullable<InstructionResponse["response"]>;

const PROCESSED: Response = {
  $case: "processBundle",
  value: {
    residualRoots: [],
    monitoringInfos: [],
    requiresFinalization: false,
    monitoringData: {},
    elements: undefined,
  },
};

async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** A stage over a harness whose bundles run until they are ended; time passes when it is told to. */
function openStage(
  answer: (request: InstructionBody) => Response | { readonly error: string } | undefined,
  input: { readonly chunks: number; readonly failsAfter?: number } = { chunks: 1 },
) {
  let nowMs = 0;
  let sleepers: { readonly atMs: number; readonly wake: () => void }[] = [];
  const clock: Clock = {
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: (delayMs, signal) =>
      new Promise((resolve, reject) => {
        sleepers.push({ atMs: nowMs + delayMs, wake: resolve });
        signal?.addEventListener("abort", () => reject(signal.reason as Error));
      }),
  };
  const asked: string[] = [];
  const inputs = new Map<string, number[]>();
  const connection = new HarnessConnection("h" as HarnessId);
  connection.attachControl({
    write: ({ instructionId, request }: InstructionRequest) => {
      if (request === undefined) return true;
      asked.push(request.$case);
      if (request.$case === "processBundle") inputs.set(instructionId, []);
      const response = answer(request);
      if (response !== undefined)
        queueMicrotask(() =>
          connection.onInstructionResponse(
            "error" in response
              ? { instructionId, error: response.error, response: undefined }
              : { instructionId, error: "", response },
          ),
        );
      return true;
    },
    once: () => undefined,
    end: () => undefined,
  });
  connection.attachData({
    write: (message: Buffer) => {
      for (const part of Elements.decode(message).data) inputs.get(part.instructionId)?.push(...part.data);
      return true;
    },
    once: () => undefined,
    end: () => undefined,
  });
  const committed: number[][] = [];
  const failed: MonitoringInfo[] = [];
  let told = 0;
  const executor = new StageExecutor({
    stageName: "Stage [Test]",
    plan: {
      descriptorId: "d",
      sourceTransformId: SOURCE,
      sinkTransformIds: [SINK],
      chunkBytes: 1024,
      skip: (_bytes, position) => position + 1,
    },
    lanes: [{ harness: () => Promise.resolve(connection) }],
    inputElements: 4 * input.chunks,
    output: {
      begin: () => {
        const held: number[] = [];
        return {
          accept: (_sink, data) => void held.push(...data),
          commit: () => void committed.push(held),
          abort: () => undefined,
        };
      },
    },
    onState: () => ({ kind: "clear" }),
    onCommitted: () => undefined,
    onFailed: (infos) => void failed.push(...infos),
    onProgress: () => void told++,
    limits: {
      maxBundleBytes: 1024,
      maxBundleElements: 4,
      maxBundleAttempts: 2,
      splitAfterMs: 1e9,
      superviseMs: 1_000,
      maxBundleTimeMs: 3_000,
    },
    clock,
    log: silentLog(),
    signal: new AbortController().signal,
  });
  const done = executor.run(
    (async function* () {
      for (let at = 0; at < input.chunks; at++) {
        if (at === input.failsAfter) throw new Error("the input is lost");
        yield { data: Uint8Array.of(1, 2, 3, 4), elementCount: 4 };
      }
    })(),
  );
  done.catch(() => undefined);
  return {
    executor,
    done,
    asked,
    committed,
    failed,
    told: () => told,
    pass: async (durationMs: number) => {
      await settle();
      for (const untilMs = nowMs + durationMs; nowMs < untilMs;) {
        nowMs += 500;
        const due = sleepers.filter(({ atMs }) => atMs <= nowMs);
        sleepers = sleepers.filter(({ atMs }) => atMs > nowMs);
        for (const { wake } of due) wake();
        await settle();
      }
    },
    /** Ends the bundle that was started last, with its first `count` elements as output. */
    end: async (count: number, error = "") => {
      await settle();
      const [instructionId, input] = [...inputs].at(-1) ?? ["", []];
      const output = Uint8Array.from(input.slice(0, count));
      await connection.onElements(Elements.decode(encodeData(instructionId, SINK, [output], true)));
      connection.onInstructionResponse({ instructionId, error, response: PROCESSED });
      await settle();
    },
  };
}

test("a short bundle is asked nothing; a long one tells its metrics, which count as attempted when it fails", async (t) => {
  const progress: Response = {
    $case: "processBundleProgress",
    value: { monitoringInfos: [INFO], monitoringData: {}, consumingReceivedData: undefined },
  };
  const stage = openStage((request) => (request.$case === "processBundleProgress" ? progress : undefined));
  await stage.pass(500);
  t.deepEqual(stage.asked, ["processBundle"]);
  await stage.pass(1_500);
  t.true(stage.asked.includes("processBundleProgress"));
  t.deepEqual(stage.executor.runningInfos(), [INFO]);
  t.true(stage.told() > 0);
  await stage.end(0, "ValueError");
  t.deepEqual(stage.failed, [INFO]);
  await stage.end(4);
  await stage.done;
  t.deepEqual(stage.committed, [[1, 2, 3, 4]]);
  t.deepEqual(stage.executor.runningInfos(), []);
});

test("an SDK that does not answer is asked once for progress", async (t) => {
  const stage = openStage((request) =>
    request.$case === "processBundleSplit" ? { error: "cannot split" } : undefined,
  );
  await stage.pass(2_500);
  t.deepEqual(stage.asked, ["processBundle", "processBundleProgress"]);
  await stage.pass(2_000);
  t.true(stage.asked.filter((name) => name === "processBundleSplit").length >= 2, "a refused split is tried again");
  await stage.end(4);
  await stage.done;
  t.deepEqual(stage.committed, [[1, 2, 3, 4]]);
});

test("a bundle that has had its time gives back what it has not begun, once, and that runs next", async (t) => {
  const split: Response = {
    $case: "processBundleSplit",
    value: {
      primaryRoots: [],
      residualRoots: [],
      channelSplits: [{ transformId: SOURCE, lastPrimaryElement: 1n, firstResidualElement: 2n }],
    },
  };
  const stage = openStage((request) => (request.$case === "processBundleSplit" ? split : undefined));
  await stage.pass(6_000);
  t.is(stage.asked.filter((name) => name === "processBundleSplit").length, 1);
  await stage.end(2);
  t.deepEqual(stage.committed, [[1, 2]]);
  await stage.end(2);
  await stage.done;
  t.deepEqual(stage.committed, [
    [1, 2],
    [3, 4],
  ]);
});

const HALF: Response = {
  $case: "processBundleSplit",
  value: {
    primaryRoots: [],
    residualRoots: [],
    channelSplits: [{ transformId: SOURCE, lastPrimaryElement: 1n, firstResidualElement: 2n }],
  },
};

test("what a running bundle gives away for others is not run here, and the stage does not end before it is handed on", async (t) => {
  const stage = openStage((request) => (request.$case === "processBundleSplit" ? HALF : undefined));
  await settle();
  const given: number[] = [];
  const handed = Promise.withResolvers<void>();
  const giving = stage.executor.giveAway(async (chunks) => {
    given.push(...chunks.flatMap((chunk) => [...chunk.data]));
    await handed.promise;
  });
  await settle();
  t.deepEqual(given, [3, 4]);
  let isDone = false;
  void stage.done.then(() => (isDone = true));
  await stage.end(2);
  t.deepEqual(stage.committed, [[1, 2]]);
  t.false(isDone);
  handed.resolve();
  t.true(await giving);
  await stage.done;
  t.deepEqual(stage.committed, [[1, 2]]);
  t.false(await stage.executor.giveAway(() => Promise.reject(new Error("asked in vain"))));
});

test("what cannot be handed on runs here after all", async (t) => {
  const stage = openStage((request) => (request.$case === "processBundleSplit" ? HALF : undefined));
  await settle();
  t.false(await stage.executor.giveAway(() => Promise.reject(new Error("disk full"))));
  await stage.end(2);
  await stage.end(2);
  await stage.done;
  t.deepEqual(stage.committed.flat(), [1, 2, 3, 4]);
});

test("input that was not begun is given away first, half of it", async (t) => {
  const stage = openStage(() => undefined, { chunks: 9 });
  await settle();
  const given: number[][] = [];
  const hand = (chunks: readonly Chunk[]) => {
    given.push(chunks.flatMap((chunk) => [...chunk.data]));
    return Promise.resolve();
  };
  // The first bundle runs, and eight of the nine are left.
  t.true(await stage.executor.giveAway(hand));
  t.deepEqual(
    given.map((data) => data.length),
    [16],
  );
  t.false(stage.asked.includes("processBundleSplit"));
  for (let bundle = 0; bundle < 5; bundle++) await stage.end(4);
  await stage.done;
  t.is(stage.committed.flat().length + given.flat().length, 36);
});

test("input that cannot be read fails the stage, also when it was to be given away", async (t) => {
  const stage = openStage(() => undefined, { chunks: 9, failsAfter: 3 });
  await settle();
  t.false(await stage.executor.giveAway(() => Promise.resolve()));
  await t.throwsAsync(stage.done, { message: "the input is lost" });
});
