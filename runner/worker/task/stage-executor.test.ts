import test from "ava";
import { Elements, type InstructionRequest, type ProcessBundleResponse } from "../../../proto/gen/beam_fn_api.ts";
import type { Chunk } from "../../base/chunk.ts";
import type { Clock } from "../../base/clock.ts";
import type { HarnessId } from "../../base/ids.ts";
import { silentLog } from "../../base/log.ts";
import { WeirError } from "../../base/errors.ts";
import { HarnessConnection } from "./harness-connection.ts";
import { encodeData } from "./encode-elements.ts";
import { StageExecutor, type StageOutput } from "./stage-executor.ts";

const SOURCE = "source";
const SINK = "sink";

type BundleScript = (bundle: {
  readonly elements: readonly number[];
  readonly number: number;
  emit(element: number): void;
  die(): void;
}) => Partial<ProcessBundleResponse> | { readonly error: string } | undefined;

/** An SDK harness in this process: elements are single bytes; `script` is its user code. */
function fakeHarness(script: BundleScript): () => HarnessConnection {
  let bundleNumber = 0;
  let incarnation = 0;
  const start = (): HarnessConnection => {
    const connection = new HarnessConnection(`h${++incarnation}` as HarnessId);
    const inputs = new Map<string, number[]>();
    const answer = (instructionId: string, response: Partial<ProcessBundleResponse>, error = "") =>
      connection.onInstructionResponse({
        instructionId,
        error,
        response: {
          $case: "processBundle",
          value: {
            residualRoots: [],
            monitoringInfos: [],
            requiresFinalization: false,
            monitoringData: {},
            elements: undefined,
            ...response,
          },
        },
      });
    const finish = async (instructionId: string) => {
      const number = ++bundleNumber;
      const emitted: number[] = [];
      let dead = false;
      const result = script({
        elements: inputs.get(instructionId) ?? [],
        number,
        emit: (element) => emitted.push(element),
        die: () => {
          dead = true;
        },
      });
      const send = (isLast: boolean) =>
        connection.onElements(
          Elements.decode(
            encodeData(instructionId, SINK, emitted.length > 0 ? [Uint8Array.from(emitted)] : [], isLast),
          ),
        );
      if (dead) {
        await send(false);
        connection.lose("it was killed");
        return;
      }
      if (result !== undefined && "error" in result) {
        await send(false);
        answer(instructionId, {}, result.error);
        return;
      }
      if (result?.elements === undefined) await send(true);
      else for (const part of result.elements.data) part.instructionId = instructionId;
      answer(instructionId, result ?? {});
    };
    connection.attachControl({
      write: ({ instructionId }: InstructionRequest) => {
        inputs.set(instructionId, []);
        return true;
      },
      once: () => undefined,
      end: () => undefined,
    });
    connection.attachData({
      write: (message: Buffer) => {
        for (const part of Elements.decode(message).data) {
          inputs.get(part.instructionId)?.push(...part.data);
          if (part.isLast) queueMicrotask(() => void finish(part.instructionId));
        }
        return true;
      },
      once: () => undefined,
      end: () => undefined,
    });
    return connection;
  };
  let current: HarnessConnection | undefined;
  return () => {
    if (current === undefined || current.lostError !== undefined) current = start();
    return current;
  };
}

/** Collects what was committed, in order of commits. */
function collector(): { output: StageOutput; committed: number[][]; aborted: () => number } {
  const committed: number[][] = [];
  let aborts = 0;
  const output: StageOutput = {
    begin() {
      const held: number[] = [];
      return {
        accept: (_sink, data) => {
          held.push(...data);
        },
        commit: () => {
          committed.push(held);
        },
        abort: () => {
          aborts++;
        },
      };
    },
  };
  return { output, committed, aborted: () => aborts };
}

/** Time that passes only when somebody sleeps. */
function steppingClock(): Clock & { slept: number[] } {
  let nowMs = 1_000;
  const slept: number[] = [];
  return {
    slept,
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: async (delayMs) => {
      slept.push(delayMs);
      nowMs += delayMs;
    },
  };
}

async function* chunksOf(...chunks: number[][]): AsyncGenerator<Chunk> {
  for (const chunk of chunks) yield { data: Uint8Array.from(chunk), elementCount: chunk.length };
}

function executorFor(
  script: BundleScript,
  output: StageOutput,
  options: { maxBundleElements?: number; clock?: Clock; signal?: AbortSignal } = {},
): StageExecutor {
  const harness = fakeHarness(script);
  return new StageExecutor({
    stageName: "Stage [Test]",
    plan: {
      descriptorId: "d",
      sourceTransformId: SOURCE,
      sinkTransformIds: [SINK],
      chunkBytes: 1024,
      skip: (_bytes, position) => position + 1,
    },
    lanes: [{ harness: () => Promise.resolve(harness()) }],
    inputElements: 0,
    output,
    onState: () => ({ kind: "clear" }),
    onCommitted: () => undefined,
    onFailed: () => undefined,
    onProgress: () => undefined,
    limits: {
      maxBundleBytes: 1024,
      maxBundleElements: options.maxBundleElements ?? 1000,
      maxBundleAttempts: 4,
      splitAfterMs: 1000,
      superviseMs: undefined,
      maxBundleTimeMs: Infinity,
    },
    clock: options.clock ?? steppingClock(),
    log: silentLog(),
    signal: options.signal ?? new AbortController().signal,
  });
}

test("all elements are processed once, in bundles of at most the given number of elements", async (t) => {
  const { output, committed } = collector();
  const sizes: number[] = [];
  const executor = executorFor(
    ({ elements, emit }) => {
      sizes.push(elements.length);
      elements.forEach(emit);
      return undefined;
    },
    output,
    { maxBundleElements: 2 },
  );
  await executor.run(chunksOf([1, 2, 3], [4], [5, 6, 7]));
  t.deepEqual(committed.flat(), [1, 2, 3, 4, 5, 6, 7]);
  t.true(Math.max(...sizes) <= 2);
});

test("a bundle that fails after it has emitted runs again, and its first outputs are dropped", async (t) => {
  const { output, committed, aborted } = collector();
  const executor = executorFor(({ elements, number, emit }) => {
    elements.forEach(emit);
    return number === 1 ? { error: "Traceback: boom" } : undefined;
  }, output);
  await executor.run(chunksOf([1, 2]));
  t.deepEqual(committed, [[1, 2]]);
  t.is(aborted(), 1);
});

test("a harness killed inside a bundle is replaced and only that bundle runs again", async (t) => {
  const { output, committed } = collector();
  const seen: number[] = [];
  const executor = executorFor(
    ({ elements, number, emit, die }) => {
      seen.push(...elements);
      elements.forEach(emit);
      if (number === 2) die();
      return undefined;
    },
    output,
    { maxBundleElements: 1 },
  );
  await executor.run(chunksOf([1, 2, 3]));
  t.deepEqual(committed.flat(), [1, 2, 3]);
  t.deepEqual(seen, [1, 2, 2, 3]);
});

test("a bundle that always fails ends the stage with the first error after four attempts", async (t) => {
  const { output, committed } = collector();
  let attempts = 0;
  const executor = executorFor(() => ({ error: `ValueError number ${++attempts}` }), output);
  const failure = await t.throwsAsync(executor.run(chunksOf([1])), { instanceOf: WeirError });
  t.is(attempts, 4);
  t.regex(failure?.message ?? "", /Stage \[Test\] failed 4 times.*ValueError number 1$/s);
  t.deepEqual(committed, []);
});

test("a deferred residual runs after its delay, and the stage ends only then", async (t) => {
  const { output, committed } = collector();
  const clock = steppingClock();
  const executor = executorFor(
    ({ elements, emit }) => {
      elements.forEach(emit);
      const [element] = elements;
      if (element !== 1) return undefined;
      return {
        residualRoots: [
          {
            application: {
              transformId: "sdf",
              inputId: "in",
              element: Uint8Array.from([9]),
              outputWatermarks: {},
              isBounded: 0,
            },
            requestedTimeDelay: { seconds: 5n, nanos: 0 },
          },
        ],
      };
    },
    output,
    { clock },
  );
  await executor.run(chunksOf([1]));
  t.deepEqual(committed.flat(), [1, 9]);
  t.true(clock.slept.reduce((sum, ms) => sum + ms, 0) >= 5000);
});

test("outputs that the SDK embeds in its answer count as those of the data stream", async (t) => {
  const { output, committed } = collector();
  const part = (data: number[], isLast: boolean) => ({
    instructionId: "",
    transformId: SINK,
    data: Uint8Array.from(data),
    isLast,
  });
  const executor = executorFor(
    ({ elements }) => ({ elements: { data: [part([...elements, 7], false), part([], true)], timers: [] } }),
    output,
  );
  await executor.run(chunksOf([1, 2]));
  t.deepEqual(committed, [[1, 2, 7]]);
});
