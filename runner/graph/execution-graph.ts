/**
 * The plan of a job as plain data: vertices that workers run as tasks, datasets that flow between them, and the
 * coders, windowings and environments that they name. It can be sent to workers, printed, and compared with a golden
 * file. No generated proto type appears here, except as bytes that only the Fn API decodes.
 *
 * Terms: a vertex, a dataset (Flink's "intermediate data set") and a partitioner are Flink's; an ExecutableStage,
 * a windowing strategy and a coder are Beam's.
 */
import type { DatasetId, VertexId } from "../base/ids.ts";

/** A coder as in the proto, with the ids of its components in the same table. */
export interface CoderSpec {
  readonly urn: string;
  readonly payload: Uint8Array;
  readonly components: readonly string[];
}

export type CoderTable = Readonly<Record<string, CoderSpec>>;

export interface WindowingSpec {
  readonly windowFnUrn: string;
  readonly windowFnPayload: Uint8Array;
  /**
   * Window coder as the runner meets it on the wire: a global or interval window, or for a custom WindowFn
   * custom_window(length_prefix(user's coder)), whose encoding begins with the window's maximum timestamp.
   */
  readonly windowCoderId: string;
  readonly merging: boolean;
  readonly timestampCombiner: "END_OF_WINDOW" | "LATEST_IN_PANE" | "EARLIEST_IN_PANE";
  /** org.apache.beam.model.pipeline.v1.Trigger, encoded. */
  readonly trigger: Uint8Array;
  readonly accumulationMode: "DISCARDING" | "ACCUMULATING" | "RETRACTING";
  readonly allowedLatenessMs: number;
  /** EMIT_NEVER: what no trigger has fired is dropped at the window's expiry. */
  readonly closingBehavior: "EMIT_ALWAYS" | "EMIT_IF_NONEMPTY" | "EMIT_NEVER";
  readonly onTimeBehavior: "FIRE_ALWAYS" | "FIRE_IF_NONEMPTY";
  /** Whether the trigger is asked after each element, or once for those of a window that came together. */
  readonly asksTriggerFor: "EACH_ELEMENT" | "ELEMENTS_TOGETHER";
}

/** An ArtifactInformation of an environment. */
export interface ArtifactSpec {
  readonly typeUrn: string;
  readonly typePayload: Uint8Array;
  readonly roleUrn: string;
  readonly rolePayload: Uint8Array;
}

export interface EnvironmentSpec {
  readonly urn: string;
  readonly payload: Uint8Array;
  readonly capabilities: readonly string[];
  /** URNs. */
  readonly resourceHints: readonly string[];
  readonly dependencies: readonly ArtifactSpec[];
}

/**
 * How a dataset is cut into the partitions of its consumers.
 * - `forward`: producer subtask i feeds consumer subtask i.
 * - `hash`: by key group of the encoded key; the dataset's element coder is a KV.
 * - `rebalance`: any element may go anywhere.
 * - `broadcast`: every consumer subtask reads all of it.
 */
export type Partitioner = "forward" | "hash" | "rebalance" | "broadcast";

export interface DatasetSpec {
  readonly id: DatasetId;
  /** The PCollection in the pipeline proto that it carries. */
  readonly pcollectionId: string;
  readonly producer: VertexId;
  /** windowed_value coder of the encoded elements, in the graph's coder table. */
  readonly coderId: string;
  readonly windowingId: string;
  readonly partitioner: Partitioner;
  /**
   * Set where elements are sized restrictions, KV<_, double>: work is balanced by their sizes, not by bytes.
   */
  readonly sizedRestrictions: boolean;
  /** As the SDK declared the PCollection: its elements need not come to an end. */
  readonly unbounded: boolean;
}

/** What happens to a vertex's main input before its stage, if it has one, sees it. */
export type HeadSpec =
  | { readonly kind: "impulse" }
  /** Input elements go to the stage, or out, unchanged. */
  | { readonly kind: "read" }
  | {
      readonly kind: "test-stream";
      /** TestStreamPayload: its events, or where to get them. */
      readonly payload: Uint8Array;
      /** One per tagged output, at least one. */
      readonly outputs: readonly TestStreamOutput[];
    }
  | {
      readonly kind: "group-by-key";
      /** Of the GroupByKey, for metrics of what the runner does in its place. */
      readonly transformId?: string;
      readonly windowingId: string;
      /** windowed_value<kv<K, iterable<V> or state_backed_iterable<V>>>. */
      readonly outputCoderId: string;
      readonly stateBacked: boolean;
      /** Custom merging WindowFns merge in the harness, by beam:transform:merge_windows:v1. */
      readonly mergeWindows: MergeWindowsSpec | undefined;
    };

export interface TestStreamOutput {
  /**
   * As events name it. An event whose tag is empty means the main output: where there is one output, that one,
   * whatever its tag.
   */
  readonly tag: string;
  readonly pcollectionId: string;
  /**
   * windowed_value<length_prefix, global window>: an element is the length of the event's `encoded_element` as a
   * varint, and these bytes unchanged. The SDK of the next stage decodes them with the payload's coder.
   */
  readonly coderId: string;
  readonly datasets: readonly DatasetId[];
}

export interface MergeWindowsSpec {
  readonly environmentId: string;
  /** Encoded ProcessBundleDescriptor with the one merge_windows transform between a source and a sink. */
  readonly descriptor: Uint8Array;
  readonly sourceTransformId: string;
  readonly sinkTransformId: string;
}

export interface SideInputSpec {
  readonly transformId: string;
  readonly localName: string;
  /** Datasets that hold its elements; several where it comes out of a Flatten. */
  readonly datasets: readonly DatasetId[];
  /** beam:side_input:iterable:v1 or beam:side_input:multimap:v1. */
  readonly accessPatternUrn: string;
  readonly windowingId: string;
  /** Of the main input of the transform that reads it. */
  readonly mainWindowingId: string;
  /**
   * True where the SDK's window mapping is by the side's own WindowFn, which the runner cannot run: a custom one. For
   * global, fixed and sliding windows all SDKs map by the end of the main window, and the runner does the same.
   */
  readonly windowMapping: { readonly urn: string; readonly payload: Uint8Array } | undefined;
  /** Runs that mapping in its harness, by beam:transform:map_windows:v1. */
  readonly mapWindows?: MergeWindowsSpec;
  /**
   * Its PCollection is unbounded and triggered without regard to the end of the window: a window can be read from its
   * first pane on, and newer panes take the place of older ones. Otherwise it can be read when the watermark has
   * passed the window.
   */
  readonly updating: boolean;
}

export interface UserStateSpec {
  readonly transformId: string;
  readonly localName: string;
  /** beam:user_state:bag:v1, multimap, ordered_list… */
  readonly protocolUrn: string;
  /** Of the transform's main input: its windows are those of the state. */
  readonly windowingId: string;
}

export interface TimerSpec {
  readonly transformId: string;
  readonly timerFamilyId: string;
  readonly timeDomain: "EVENT_TIME" | "PROCESSING_TIME";
  /** beam:coder:timer:v1 in the graph's coder table. */
  readonly coderId: string;
  /** Of the transform's main input. */
  readonly windowingId: string;
  /** The runner sets a timer of this family, with an empty tag, for the end of every window of a key that had input. */
  readonly onWindowExpiration: boolean;
}

/** A transform of a stage, for messages, metrics and the plan's print. */
export interface TransformSpec {
  readonly id: string;
  readonly uniqueName: string;
  readonly urn: string;
}

/** A fused subgraph that one SDK harness runs. */
export interface ExecutableStageSpec {
  readonly environmentId: string;
  /**
   * Encoded ProcessBundleDescriptor. The RemoteGrpcPort and the state and timer service descriptors have no endpoint
   * yet: the worker puts its own in. Coders in it are the wire's: unknown ones are length-prefixed.
   */
  readonly descriptor: Uint8Array;
  /** The beam:runner:source:v1 transform. */
  readonly sourceTransformId: string;
  /** windowed_value coder of what goes in, in the graph's coder table. */
  readonly inputCoderId: string;
  readonly sinks: readonly SinkSpec[];
  readonly sideInputs: readonly SideInputSpec[];
  readonly userStates: readonly UserStateSpec[];
  readonly timers: readonly TimerSpec[];
  readonly transforms: readonly TransformSpec[];
  /** True when the stage's root is an SDF's process transform: it may split, defer and checkpoint itself. */
  readonly splittable: boolean;
  /** How restrictions of a splittable stage are truncated on drain; undefined where all of its output is bounded. */
  readonly truncate: TruncateSpec | undefined;
  readonly requiresStableInput: boolean;
  readonly requiresTimeSortedInput: boolean;
  readonly requiresBundleFinalization: boolean;
}

/** Runs in the stage's environment: sized elements and restrictions in, those that remain of them out, same coder. */
export interface TruncateSpec {
  /** Encoded ProcessBundleDescriptor with the one sdf_truncate_sized_restrictions between a source and a sink. */
  readonly descriptor: Uint8Array;
  readonly sourceTransformId: string;
  readonly sinkTransformId: string;
}

/** A beam:runner:sink:v1 of a stage; what it emits goes to each of its datasets. */
export interface SinkSpec {
  readonly transformId: string;
  readonly pcollectionId: string;
  readonly coderId: string;
  readonly datasets: readonly DatasetId[];
}

export interface VertexSpec {
  readonly id: VertexId;
  /** For people: the transforms' names. */
  readonly name: string;
  readonly head: HeadSpec;
  /** Main input; several where it comes out of a Flatten. Empty for impulse. */
  readonly inputs: readonly DatasetId[];
  readonly stage: ExecutableStageSpec | undefined;
  /** Datasets that take the head's output directly: of a vertex without stage. A TestStream's: those of all tags. */
  readonly headOutputs: readonly DatasetId[];
  /** True when elements of a key must meet in one subtask: grouping, user state, timers. */
  readonly keyed: boolean;
  /** A vertex that must not run in parallel: impulse, TestStream, what decodes a TestStream's elements. */
  readonly singleton: boolean;
}

export interface ExecutionGraph {
  /** In topological order. */
  readonly vertices: readonly VertexSpec[];
  readonly datasets: Readonly<Record<DatasetId, DatasetSpec>>;
  readonly coders: CoderTable;
  readonly windowings: Readonly<Record<string, WindowingSpec>>;
  readonly environments: Readonly<Record<string, EnvironmentSpec>>;
  /** True when any PCollection that a transform writes is unbounded. */
  readonly unbounded: boolean;
}
