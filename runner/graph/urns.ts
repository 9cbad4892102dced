/**
 * URNs of Beam's model that the planner knows, and which transforms are run by whom.
 * Source: beam_runner_api.proto (standard transforms, coders, requirements) and the SDKs' bundle processors.
 */

export const URN = {
  parDo: "beam:transform:pardo:v1",
  flatten: "beam:transform:flatten:v1",
  groupByKey: "beam:transform:group_by_key:v1",
  impulse: "beam:transform:impulse:v1",
  windowInto: "beam:transform:window_into:v1",
  testStream: "beam:transform:teststream:v1",
  mapWindows: "beam:transform:map_windows:v1",
  mergeWindows: "beam:transform:merge_windows:v1",
  stringify: "beam:transform:to_string:v1",
  combinePerKey: "beam:transform:combine_per_key:v1",
  combinePrecombine: "beam:transform:combine_per_key_precombine:v1",
  combineMergeAccumulators: "beam:transform:combine_per_key_merge_accumulators:v1",
  combineExtractOutputs: "beam:transform:combine_per_key_extract_outputs:v1",
  combineConvertToAccumulators: "beam:transform:combine_per_key_convert_to_accumulators:v1",
  combineGroupedValues: "beam:transform:combine_grouped_values:v1",
  reshuffle: "beam:transform:reshuffle:v1",
  redistributeByKey: "beam:transform:redistribute_by_key:v1",
  redistributeArbitrarily: "beam:transform:redistribute_arbitrarily:v1",
  sdfPairWithRestriction: "beam:transform:sdf_pair_with_restriction:v1",
  sdfSplitAndSize: "beam:transform:sdf_split_and_size_restrictions:v1",
  sdfProcess: "beam:transform:sdf_process_sized_element_and_restrictions:v1",
  sdfTruncate: "beam:transform:sdf_truncate_sized_restrictions:v1",
  source: "beam:runner:source:v1",
  sink: "beam:runner:sink:v1",
} as const;

export const CODER_URN = {
  bytes: "beam:coder:bytes:v1",
  stringUtf8: "beam:coder:string_utf8:v1",
  bool: "beam:coder:bool:v1",
  varint: "beam:coder:varint:v1",
  double: "beam:coder:double:v1",
  kv: "beam:coder:kv:v1",
  iterable: "beam:coder:iterable:v1",
  stateBackedIterable: "beam:coder:state_backed_iterable:v1",
  timer: "beam:coder:timer:v1",
  intervalWindow: "beam:coder:interval_window:v1",
  globalWindow: "beam:coder:global_window:v1",
  customWindow: "beam:coder:custom_window:v1",
  lengthPrefix: "beam:coder:length_prefix:v1",
  windowedValue: "beam:coder:windowed_value:v1",
  paramWindowedValue: "beam:coder:param_windowed_value:v1",
} as const;

/** Transforms that the runner runs itself. */
export const RUNNER_URNS: ReadonlySet<string> = new Set([
  URN.impulse,
  URN.groupByKey,
  URN.flatten,
  URN.reshuffle,
  URN.redistributeByKey,
  URN.redistributeArbitrarily,
  URN.testStream,
]);

export const GLOBAL_WINDOWS_URN = "beam:window_fn:global_windows:v1";
export const FIXED_WINDOWS_URN = "beam:window_fn:fixed_windows:v1";
export const SLIDING_WINDOWS_URN = "beam:window_fn:sliding_windows:v1";
export const SESSION_WINDOWS_URN = "beam:window_fn:session_windows:v1";

export const SIDE_INPUT_URN = {
  iterable: "beam:side_input:iterable:v1",
  multimap: "beam:side_input:multimap:v1",
} as const;

/** Transforms whose payload is a ParDoPayload. */
export const PAR_DO_URNS: ReadonlySet<string> = new Set([
  URN.parDo,
  URN.sdfPairWithRestriction,
  URN.sdfSplitAndSize,
  URN.sdfProcess,
  URN.sdfTruncate,
]);

/** Transforms whose payload is a CombinePayload. */
export const COMBINE_URNS: ReadonlySet<string> = new Set([
  URN.combinePerKey,
  URN.combinePrecombine,
  URN.combineMergeAccumulators,
  URN.combineExtractOutputs,
  URN.combineConvertToAccumulators,
  URN.combineGroupedValues,
]);

/** Composites and primitives that send elements elsewhere and change none of their bytes. */
export const REDISTRIBUTE_URNS: ReadonlySet<string> = new Set([
  URN.reshuffle,
  URN.redistributeByKey,
  URN.redistributeArbitrarily,
]);

/** Leaf transforms that an SDK harness runs. An environment may name more among its capabilities. */
export const SDK_TRANSFORM_URNS: ReadonlySet<string> = new Set([
  ...PAR_DO_URNS,
  ...COMBINE_URNS,
  URN.flatten,
  URN.windowInto,
  URN.mapWindows,
  URN.mergeWindows,
  URN.stringify,
  // Python's own, which its bundle processor registers.
  "beam:transform:read_from_impulse_python:v1",
  "beam:dofn:identity:0.1",
  "beam:dofn:javasdk:0.1",
]);

/** What a pipeline may require of its runner; anything else is refused by name. */
export const SUPPORTED_REQUIREMENTS: ReadonlySet<string> = new Set([
  "beam:requirement:pardo:stateful:v1",
  "beam:requirement:pardo:splittable_dofn:v1",
  "beam:requirement:pardo:finalization:v1",
  "beam:requirement:pardo:on_window_expiration:v1",
  "beam:requirement:pardo:time_sorted_input:v1",
  "beam:requirement:pardo:stable_input:v1",
]);
