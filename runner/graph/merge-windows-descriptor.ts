/**
 * How windows of a custom merging WindowFn are merged: its harness runs beam:transform:merge_windows:v1 between a
 * source and a sink. With W the window coder as it crosses, and all in the global window:
 *
 *   in:  windowed_value<kv<bytes nonce, iterable<W>>>
 *   out: windowed_value<kv<bytes nonce, kv<iterable<W> not merged, iterable<kv<W result, iterable<W> merged into it>>>>>
 *
 * Source: Beam's fn_api_runner/execution.py, `GenericMergingWindowFn`.
 */
import { ProcessBundleDescriptor, RemoteGrpcPort } from "../../proto/gen/beam_fn_api.ts";
import {
  AccumulationMode_Enum,
  ClosingBehavior_Enum,
  FunctionSpec,
  IsBounded_Enum,
  MergeStatus_Enum,
  OnTimeBehavior_Enum,
  OutputTime_Enum,
  type PCollection,
  type WindowingStrategy,
} from "../../proto/gen/beam_runner_api.ts";
import type { MergeWindowsSpec as WindowsCallSpec } from "./execution-graph.ts";
import type { Plan } from "./plan-node.ts";
import { portTransform } from "./process-bundle-descriptor.ts";
import { CODER_URN, URN } from "./urns.ts";
import type { WireCoders } from "./wire-coders.ts";

const SOURCE_ID = "merge-windows:source";
const MERGE_ID = "merge-windows";
const SINK_ID = "merge-windows:sink";

export function mergeWindowsSpec(
  plan: Plan,
  coders: WireCoders,
  windowingId: string,
  windowing: WindowingStrategy,
  environmentId: string,
): WindowsCallSpec {
  const { kv, iterable } = combinators(coders);
  const window = coders.wireWindow(windowing.windowCoderId);
  const windows = iterable(window);
  return windowsCall(plan, coders, {
    id: `merge-windows:${windowingId}`,
    urn: URN.mergeWindows,
    spec: windowing.windowFn,
    inputCoderId: windows,
    outputCoderId: kv(windows, iterable(kv(window, windows))),
    environmentId,
  });
}

/**
 * How main windows are mapped to those of a side input in a custom WindowFn, by beam:transform:map_windows:v1:
 *
 *   in:  windowed_value<kv<bytes nonce, main W>>
 *   out: windowed_value<kv<bytes nonce, side W>>
 */
export function mapWindowsSpec(
  plan: Plan,
  coders: WireCoders,
  mapping: FunctionSpec,
  windowing: { readonly main: WindowingStrategy; readonly side: WindowingStrategy },
  environmentId: string,
): WindowsCallSpec {
  return windowsCall(plan, coders, {
    id: "map-windows",
    urn: URN.mapWindows,
    spec: mapping,
    inputCoderId: coders.wireWindow(windowing.main.windowCoderId),
    outputCoderId: coders.wireWindow(windowing.side.windowCoderId),
    environmentId,
  });
}

function combinators(coders: WireCoders) {
  return {
    kv: (key: string, value: string): string => coders.of(`kv(${key},${value})`, CODER_URN.kv, [key, value]),
    iterable: (element: string): string => coders.of(`iterable(${element})`, CODER_URN.iterable, [element]),
  };
}

interface WindowsCall {
  readonly id: string;
  readonly urn: string;
  readonly spec: FunctionSpec | undefined;
  /** Beside the nonce. */
  readonly inputCoderId: string;
  readonly outputCoderId: string;
  readonly environmentId: string;
}

/** One transform between a source and a sink, of KVs with a nonce. */
function windowsCall(plan: Plan, coders: WireCoders, call: WindowsCall): WindowsCallSpec {
  const { environmentId } = call;
  const bytes = coders.of("bytes", CODER_URN.bytes, []);
  const globalWindow = coders.of("global_window", CODER_URN.globalWindow, []);
  const { kv } = combinators(coders);
  const inputCoderId = kv(bytes, call.inputCoderId);
  const outputCoderId = kv(bytes, call.outputCoderId);
  const port = (elementCoderId: string): { coderId: string; payload: Uint8Array } => {
    const coderId = coders.windowed(elementCoderId, globalWindow);
    return { coderId, payload: RemoteGrpcPort.encode({ apiServiceDescriptor: undefined, coderId }).finish() };
  };
  const source = port(inputCoderId);
  const sink = port(outputCoderId);
  const pcollection = (uniqueName: string, coderId: string): PCollection => ({
    uniqueName,
    coderId,
    isBounded: IsBounded_Enum.BOUNDED,
    windowingStrategyId: "global",
    displayData: [],
  });
  const transform = portTransform(
    MERGE_ID,
    call.urn,
    FunctionSpec.encode(call.spec ?? { urn: "", payload: new Uint8Array() }).finish(),
    { input: "windows" },
    { output: "merged" },
  );
  const environment = plan.environments.get(environmentId);
  const descriptor = ProcessBundleDescriptor.encode({
    id: call.id,
    transforms: {
      [MERGE_ID]: { ...transform, environmentId },
      [SINK_ID]: portTransform(SINK_ID, URN.sink, sink.payload, { in: "merged" }, {}),
      [SOURCE_ID]: portTransform(SOURCE_ID, URN.source, source.payload, {}, { out: "windows" }),
    },
    pcollections: { merged: pcollection("merged", outputCoderId), windows: pcollection("windows", inputCoderId) },
    windowingStrategies: { global: globalWindowing(globalWindow) },
    coders: Object.fromEntries(coders.closure([source.coderId, sink.coderId]).map((id) => [id, coders.get(id)])),
    environments: environment === undefined ? {} : { [environmentId]: { ...environment, displayData: [] } },
    stateApiServiceDescriptor: undefined,
    timerApiServiceDescriptor: undefined,
  }).finish();
  return { environmentId, descriptor, sourceTransformId: SOURCE_ID, sinkTransformId: SINK_ID };
}

function globalWindowing(windowCoderId: string): WindowingStrategy {
  return {
    windowFn: { urn: "beam:window_fn:global_windows:v1", payload: new Uint8Array() },
    mergeStatus: MergeStatus_Enum.NON_MERGING,
    windowCoderId,
    trigger: { trigger: { $case: "default", value: {} } },
    accumulationMode: AccumulationMode_Enum.DISCARDING,
    outputTime: OutputTime_Enum.END_OF_WINDOW,
    closingBehavior: ClosingBehavior_Enum.EMIT_IF_NONEMPTY,
    allowedLateness: 0n,
    onTimeBehavior: OnTimeBehavior_Enum.FIRE_ALWAYS,
    assignsToOneWindow: true,
    environmentId: "",
  };
}
