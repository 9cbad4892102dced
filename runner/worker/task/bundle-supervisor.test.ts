import test from "ava";
import { Elements, type InstructionRequest, type InstructionResponse } from "../../../proto/gen/beam_fn_api.ts";
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
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
function openStage(answer: (request: InstructionBody) => Response | { readonly error: string } | undefined) {
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
      maxBundleElements: 100,
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
      yield { data: Uint8Array.of(1, 2, 3, 4), elementCount: 4 };
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
