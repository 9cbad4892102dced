/**
 * One stage of a pipeline on a TypeScript harness in this process, with the runner's own user state: for tests of the
 * harness, one bundle at a time.
 */
import { ProcessBundleDescriptor, type ProcessBundleResponse } from "../../proto/gen/beam_fn_api.ts";
import { limitsFor } from "../../runner/base/limits.ts";
import { compileSkip } from "../../runner/coders/element-boundary.ts";
import { buildExecutionGraph } from "../../runner/graph/build-execution-graph.ts";
import type { ExecutableStageSpec, ExecutionGraph } from "../../runner/graph/execution-graph.ts";
import { MemoryRows } from "../../runner/state/state-rows.ts";
import type { Timestamp } from "../../runner/time/timestamp.ts";
import { KeyedUserState } from "../../runner/worker/stream/user-state.ts";
import { BundleAttempt } from "../../runner/worker/task/bundle-attempt.ts";
import { bundleInputOf } from "../../runner/worker/task/bundle-input.ts";
import { DescriptorPlan } from "../../sdk-harness/descriptor-plan.ts";
import { decodeAll, encodeWith } from "../../sdk-harness/element-coders.ts";
import { type DecodedTimer, decodeTimers } from "../../sdk-harness/timers.ts";
import type { FunctionRegistry } from "../../sdk-harness/user-functions.ts";
import type { WindowedValue } from "../../sdk-harness/windows.ts";
import type { TestPipeline } from "../pipelines/test-pipeline.ts";
import { type InProcessHarness, startInProcessHarness } from "./in-process-harness.ts";

export const NOW_MS = 1_700_000_000_000;
const signal = new AbortController().signal;

/** One stage of a pipeline on a harness in this process, with the runner's own user state. */
export class StageOnHarness {
  readonly stage: ExecutableStageSpec;
  readonly plan: DescriptorPlan;
  readonly graph: ExecutionGraph;
  readonly state: KeyedUserState | undefined;
  harness: InProcessHarness;
  /** Of the last bundle. */
  timers: DecodedTimer[] = [];

  constructor(pipeline: TestPipeline, transformId: string, functions: FunctionRegistry, turn?: () => Promise<void>) {
    this.graph = buildExecutionGraph(pipeline.pipeline);
    const stage = this.graph.vertices.find(
      (vertex) => vertex.stage?.transforms.some(({ id }) => id === transformId) === true,
    )?.stage;
    if (stage === undefined) throw new Error(`no stage runs ${transformId}`);
    this.stage = stage;
    const descriptor = ProcessBundleDescriptor.decode(stage.descriptor);
    this.plan = new DescriptorPlan(descriptor);
    this.state =
      stage.userStates.length === 0
        ? undefined
        : new KeyedUserState({
            rows: new MemoryRows(),
            stage,
            maxParallelism: 128,
            pageBytes: limitsFor(1 << 28).statePageBytes,
            mapEntryBytes: 1 << 26,
            cacheTokenPrefix: "test",
          });
    this.harness = startInProcessHarness({
      harnessId: "h1",
      functions,
      descriptor: () => descriptor,
      nowMs: () => NOW_MS,
      ...(turn === undefined ? {} : { turn }),
    });
  }

  encode(value: unknown, timestamp = 0): Uint8Array {
    const element: WindowedValue = {
      value,
      timestamp: timestamp as Timestamp,
      windows: ["global"],
      pane: Uint8Array.of(0x0f),
    };
    return encodeWith(this.plan.source.coder, element);
  }

  attempt(
    elements: readonly Uint8Array[],
    outputs: Map<string, WindowedValue[]>,
    timers: { readonly transformId: string; readonly timerFamilyId: string; readonly timers: Uint8Array }[] = [],
    state = this.state?.beginBundle(),
  ): BundleAttempt {
    this.timers = [];
    return new BundleAttempt(
      this.harness.connection,
      {
        descriptorId: "d",
        sourceTransformId: this.stage.sourceTransformId,
        sinkTransformIds: this.stage.sinks.map(({ transformId }) => transformId),
        timerFamilies: this.stage.timers,
        chunkBytes: 1 << 20,
        skip: compileSkip(this.graph.coders, this.stage.inputCoderId),
      },
      bundleInputOf(elements.map((data) => ({ data, elementCount: 1 }))),
      {
        onOutput: (sink, data) => {
          const { pcollectionId, coder } = this.plan.sinks.find(({ transformId }) => transformId === sink)!;
          outputs.set(pcollectionId, [
            ...(outputs.get(pcollectionId) ?? []),
            ...(decodeAll(coder, data) as WindowedValue[]),
          ]);
        },
        onTimers: (_transformId, family, data) => {
          const { coders } = this.plan.timerFamilies.find((candidate) => candidate.family === family)!;
          this.timers.push(...decodeTimers(data, family, coders));
        },
        onState: (request) => {
          if (state === undefined) throw new Error("no state");
          return state.answer(request);
        },
      },
      { timers, cacheTokens: this.state?.cacheTokens() ?? [] },
    );
  }

  /** A bundle that commits. */
  async run(
    elements: readonly Uint8Array[],
    timers: { readonly transformId: string; readonly timerFamilyId: string; readonly timers: Uint8Array }[] = [],
  ): Promise<{ response: ProcessBundleResponse; outputs: Map<string, WindowedValue[]> }> {
    const outputs = new Map<string, WindowedValue[]>();
    const state = this.state?.beginBundle();
    const response = await this.attempt(elements, outputs, timers, state).run(signal);
    state?.commit();
    return { response, outputs };
  }
}
