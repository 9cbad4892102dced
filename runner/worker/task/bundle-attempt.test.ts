import test from "ava";
import {
  Elements,
  type InstructionRequest,
  InstructionResponse,
  ProcessBundleSplitResponse,
} from "../../../proto/gen/beam_fn_api.ts";
import type { HarnessId } from "../../base/ids.ts";
import { BundleAttempt, type BundleHandlers, type BundleSplit } from "./bundle-attempt.ts";
import { bundleInputOf } from "./bundle-input.ts";
import { type BundleExtras, sdkAbilities } from "./bundle-messages.ts";
import { HarnessConnection } from "./harness-connection.ts";

const FAMILY = { transformId: "dofn", timerFamilyId: "family" };

/** Runs one bundle of `sizes` chunks without sinks; returns what the SDK was sent on either stream. */
async function run(sizes: readonly number[], embedsElements: boolean, extras?: BundleExtras) {
  const requests: NonNullable<InstructionRequest["request"]>[] = [];
  const sent: Elements[] = [];
  const connection = new HarnessConnection("h" as HarnessId);
  connection.attachControl({
    write: ({ instructionId, request }: InstructionRequest) => {
      if (request !== undefined) requests.push(request);
      setImmediate(() => connection.onInstructionResponse({ instructionId, error: "", response: undefined }));
      return true;
    },
    once: () => undefined,
    end: () => undefined,
  });
  connection.attachData({
    write: (message: Buffer) => {
      sent.push(Elements.decode(message));
      return true;
    },
    once: () => undefined,
    end: () => undefined,
  });
  const plan = {
    descriptorId: "d",
    sourceTransformId: "source",
    sinkTransformIds: [],
    chunkBytes: 1024 * 1024,
    skip: (_bytes: Uint8Array, position: number) => position + 1,
    embedsElements,
  };
  const input = bundleInputOf(sizes.map((size, at) => ({ data: new Uint8Array(size).fill(at), elementCount: size })));
  const handlers = { onOutput: () => undefined, onState: () => ({ kind: "clear" }) as const };
  const attempt = new BundleAttempt(connection, plan, input, handlers, extras);
  await attempt.run(new AbortController().signal);
  const [request] = requests;
  return { embedded: request?.$case === "processBundle" ? request.value.elements : undefined, sent, attempt };
}

test("small input goes with its request, each stream ended, where the SDK takes it so", async (t) => {
  const { embedded, sent, attempt } = await run([2, 3], true);
  const part = (data: number[], isLast: boolean) => ({
    instructionId: attempt.instructionId as string,
    transformId: "source",
    data: Uint8Array.from(data),
    isLast,
  });
  t.deepEqual(embedded, { data: [part([0, 0], false), part([1, 1, 1], false), part([], true)], timers: [] });
  t.deepEqual(sent, []);
});

test("large input, and any for an SDK that does not say that it takes it, goes over the data stream", async (t) => {
  for (const { embedded, sent } of [await run([2], false), await run([10_000, 10_000], true)]) {
    t.is(embedded, undefined);
    t.true(sent.at(-1)?.data[0]?.isLast);
  }
});

test("fired timers count with the input", async (t) => {
  const timers = new Uint8Array(10_000);
  const extras = (count: number): BundleExtras => ({
    timers: Array.from({ length: count }, () => ({ ...FAMILY, timers })),
    cacheTokens: [],
  });
  const { embedded } = await run([], true, extras(1));
  t.deepEqual(
    embedded?.timers.map(({ timerFamilyId, isLast, timers: { length } }) => [timerFamilyId, isLast, length]),
    [["family", false, 10_000]],
  );
  t.is((await run([], true, extras(2))).embedded, undefined);
});

test("an environment says by its capabilities what its SDK can do", (t) => {
  t.deepEqual(
    [["control_request_elements_embedding"], ["sdk_consuming_received_data"], ["progress_reporting"], undefined]
      .map((names) => names && { capabilities: names.map((name) => `beam:protocol:${name}:v1`) })
      .map(sdkAbilities),
    [
      { embedsElements: true, tellsConsumption: false },
      { embedsElements: false, tellsConsumption: true },
      { embedsElements: false, tellsConsumption: false },
      { embedsElements: false, tellsConsumption: false },
    ],
  );
});

/** A bundle of two elements that runs until the test answers its requests. */
function slowBundle(handlers: Partial<BundleHandlers> = {}) {
  const asked = new Map<string, string>();
  const connection = new HarnessConnection("h" as HarnessId);
  connection.attachControl({
    write: ({ instructionId, request }: InstructionRequest) => {
      asked.set(request?.$case ?? "", instructionId);
      return true;
    },
    once: () => undefined,
    end: () => undefined,
  });
  connection.attachData({ write: () => true, once: () => undefined, end: () => undefined });
  const plan = {
    descriptorId: "d",
    sourceTransformId: "source",
    sinkTransformIds: handlers.onOutput === undefined ? [] : ["sink"],
    timerFamilies: handlers.onTimers === undefined ? [] : [FAMILY],
    chunkBytes: 1024,
    skip: (_bytes: Uint8Array, position: number) => position + 1,
  };
  const input = bundleInputOf([{ data: Uint8Array.of(1, 2), elementCount: 2 }]);
  const taken = { onOutput: () => undefined, onState: () => ({ kind: "clear" }) as const, ...handlers };
  const attempt = new BundleAttempt(connection, plan, input, taken);
  const answer = (request: string, response: InstructionResponse["response"], error = "") =>
    connection.onInstructionResponse(
      InstructionResponse.create({ instructionId: asked.get(request) ?? "", error, response }),
    );
  const answerSplit = (value: ProcessBundleSplitResponse) =>
    answer("processBundleSplit", { $case: "processBundleSplit", value });
  return { attempt, answer, answerSplit, connection };
}

const root = (byte: number) => ({ element: Uint8Array.of(byte), transformId: "dofn", inputId: "in" });
/** The first element is split, the second given back whole, as Java's SDK tells it: without the source's name. */
const SPLIT = ProcessBundleSplitResponse.create({
  primaryRoots: [root(11)],
  residualRoots: [{ application: root(12) }],
  channelSplits: [{ transformId: "", lastPrimaryElement: -1n, firstResidualElement: 1n }],
});

for (const [outcome, error] of [
  ["has committed", ""],
  ["has failed", "user code raised"],
] as const)
  test(`a split that is answered after its bundle ${outcome} is still taken before the bundle's end`, async (t) => {
    const { attempt, answer, answerSplit } = slowBundle();
    const events: string[] = [];
    const splits: BundleSplit[] = [];
    const running = attempt.run(new AbortController().signal).then(
      () => events.push("end"),
      () => events.push("failure"),
    );
    const split = attempt.split(0, (accepted) => {
      splits.push(accepted);
      events.push("split");
    });
    answer("processBundle", undefined, error);
    await new Promise((resolve) => setImmediate(resolve));
    t.deepEqual(events, []);
    answerSplit(SPLIT);
    t.true(await split);
    await running;
    t.deepEqual(events, ["split", error === "" ? "end" : "failure"]);
    t.deepEqual(
      splits.map(({ residuals, residualChannel }) => [
        residuals.map(({ element }) => [...element]),
        residualChannel.chunks.map(({ data }) => [...data]),
      ]),
      [[[[12]], [[2]]]],
    );
    t.deepEqual(
      attempt.retainedInput.chunks.map(({ data }) => [...data]),
      [[11]],
    );
  });

test("a split whose place in the input is not told fails the bundle, and gives nothing back", async (t) => {
  const { attempt, answer, answerSplit } = slowBundle();
  const running = attempt.run(new AbortController().signal);
  const split = attempt.split(0, () => t.fail());
  answerSplit({ ...SPLIT, channelSplits: [] });
  t.false(await split);
  answer("processBundle", undefined);
  await t.throwsAsync(running, { message: /split a bundle of source/ });
  t.is(attempt.retainedInput.elementCount, 2);
});

/** Output in three messages, the last of them the stream's end. */
function outputOf(attempt: BundleAttempt, transformId: string): Elements {
  const { instructionId } = attempt;
  const part = { instructionId, transformId, data: Uint8Array.of(1), isLast: false };
  const end = { instructionId, transformId: "sink", data: new Uint8Array(), isLast: true };
  return Elements.fromPartial({ data: [part, part, end] });
}

test("output that cannot be taken fails its bundle with what was wrong, and the harness lives on", async (t) => {
  const refuse = () => {
    throw new Error("no such coder");
  };
  const { attempt, answer, connection } = slowBundle({ onOutput: refuse });
  const running = attempt.run(new AbortController().signal);
  await connection.onElements(outputOf(attempt, "sink"));
  answer("processBundle", undefined);
  await t.throwsAsync(running, { message: "no such coder" });
  t.is(connection.lostError, undefined);
});

test("output of a transform that is no sink of the bundle is not dropped but fails it", async (t) => {
  const { attempt, answer, connection } = slowBundle({ onOutput: () => undefined });
  const running = attempt.run(new AbortController().signal);
  await connection.onElements(outputOf(attempt, "other"));
  answer("processBundle", undefined);
  await t.throwsAsync(running, { message: /"other", which is no sink/ });
});

test("timers that cannot be taken fail their bundle", async (t) => {
  const refuse = () => {
    throw new Error("no timers");
  };
  const { attempt, answer, connection } = slowBundle({ onTimers: refuse });
  const running = attempt.run(new AbortController().signal);
  const { instructionId } = attempt;
  const timers = { instructionId, ...FAMILY, timers: Uint8Array.of(1), isLast: true };
  await connection.onElements(Elements.fromPartial({ timers: [timers] }));
  answer("processBundle", undefined);
  await t.throwsAsync(running, { message: "no timers" });
  t.is(connection.lostError, undefined);
});

test("a bundle that is given up before the SDK has answered is remembered as such, one that was answered is not", async (t) => {
  const { attempt, connection } = slowBundle({ onOutput: () => undefined });
  const abort = new AbortController();
  const running = attempt.run(abort.signal);
  abort.abort(new Error("the attempt is over"));
  await t.throwsAsync(running, { message: "the attempt is over" });
  t.true(connection.isAbandoned(attempt.instructionId));
  const failed = slowBundle({ onOutput: () => undefined });
  const failing = failed.attempt.run(new AbortController().signal);
  await failed.connection.onElements(outputOf(failed.attempt, "other"));
  failed.answer("processBundle", undefined);
  await t.throwsAsync(failing);
  t.false(failed.connection.isAbandoned(failed.attempt.instructionId));
});

/** A bundle of `chunks` messages beside `others` bundles; its SDK answers progress with what `consuming` says next. */
function largeBundle(chunks: number, others: number, consuming: (boolean | undefined)[], tellsConsumption = true) {
  const sent: Elements[] = [];
  const pauses: number[] = [];
  let asked = 0;
  const clock = {
    nowMs: () => 0,
    monotonicMs: () => 0,
    sleep: (delayMs: number) => {
      pauses.push(sent.length);
      return Promise.resolve(void delayMs);
    },
  };
  const connection = new HarnessConnection("h" as HarnessId, clock);
  const answer = (instructionId: string, response: InstructionResponse["response"]) =>
    setImmediate(() => connection.onInstructionResponse({ instructionId, error: "", response }));
  let bundleId = "";
  connection.attachControl({
    write: ({ instructionId, request }: InstructionRequest) => {
      if (request?.$case === "processBundle") bundleId = instructionId;
      if (request?.$case !== "processBundleProgress") return true;
      asked++;
      const value = { monitoringInfos: [], monitoringData: {}, consumingReceivedData: consuming.shift() };
      answer(instructionId, { $case: "processBundleProgress", value });
      return true;
    },
    once: () => undefined,
    end: () => undefined,
  });
  connection.attachData({
    write: (message: Buffer) => {
      const elements = Elements.decode(message);
      sent.push(elements);
      if (elements.data[0]?.isLast === true) answer(bundleId, undefined);
      return true;
    },
    once: () => undefined,
    end: () => undefined,
  });
  const plan = {
    descriptorId: "d",
    sourceTransformId: "source",
    sinkTransformIds: [],
    chunkBytes: 1,
    skip: (_bytes: Uint8Array, position: number) => position + 1,
    tellsConsumption,
  };
  const input = Array.from({ length: chunks }, (_, at) => ({ data: Uint8Array.of(at), elementCount: 1 }));
  const handlers = { onOutput: () => undefined, onState: () => ({ kind: "clear" }) as const };
  for (let other = 0; other < others; other++)
    connection.openBundle(connection.newInstructionId(), {
      watched: { descriptorId: "d", activity: 0, awaitsInput: false, progress: () => Promise.resolve(undefined) },
      onData: () => undefined,
      onTimers: () => undefined,
      onState: handlers.onState,
    });
  const attempt = new BundleAttempt(connection, plan, bundleInputOf(input), handlers);
  return { attempt, sent, pauses, asked: () => asked };
}

test("no more is sent to an SDK that still consumes what it has, where other bundles share the stream", async (t) => {
  const { attempt, sent, pauses } = largeBundle(7, 1, [true, true, false, true, false, false]);
  await attempt.run(new AbortController().signal);
  t.is(sent.length, 8);
  // The fifth message waits twice, the sixth once.
  t.deepEqual(pauses, [4, 4, 5]);
});

test("an SDK whose bundle is alone, or which does not tell what it consumes, is sent all and asked nothing", async (t) => {
  for (const { attempt, sent, pauses, asked } of [largeBundle(7, 0, []), largeBundle(7, 1, [], false)]) {
    await attempt.run(new AbortController().signal);
    t.deepEqual([sent.length, pauses, asked()], [8, [], 0]);
  }
});

test("a bundle awaits input when its SDK has consumed what was sent and that is not all", async (t) => {
  const { attempt } = largeBundle(7, 1, [false, ...Array.from({ length: 3 }, () => false)]);
  t.false(attempt.awaitsInput);
  const running = attempt.run(new AbortController().signal);
  await attempt.progress();
  t.true(attempt.awaitsInput);
  await running;
  t.false(attempt.awaitsInput);
});
