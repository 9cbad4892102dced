/**
 * Writes the laid-out vertices down as the execution graph: ids, coders, descriptors. Nothing is decided here but
 * names; see lay-out-vertices.ts and fuse-stages.ts for the decisions.
 */
import { userError } from "../base/errors.ts";
import type { DatasetId, VertexId } from "../base/ids.ts";
import { IsBounded_Enum, TimeDomain_Enum } from "../../proto/gen/beam_runner_api.ts";
import type {
  CoderTable,
  DatasetSpec,
  EnvironmentSpec,
  ExecutableStageSpec,
  ExecutionGraph,
  HeadSpec,
  MergeWindowsSpec,
  TimerSpec,
  UserStateSpec,
  VertexSpec,
  WindowingSpec,
} from "./execution-graph.ts";
import { type FusedStage, isStateful } from "./fuse-stages.ts";
import { type DatasetDraft, isSingleton, type VertexDraft, type VertexLayout } from "./lay-out-vertices.ts";
import { mapWindowsSpec, mergeWindowsSpec } from "./merge-windows-descriptor.ts";
import {
  environmentOf,
  nameTransform,
  type NodeSideInput,
  pcollectionOf,
  type Plan,
  type PlanNode,
  sortedEntries,
  windowingOf,
} from "./plan-node.ts";
import { buildDescriptor, timerCoderId } from "./process-bundle-descriptor.ts";
import { CODER_URN, SESSION_WINDOWS_URN, SIDE_INPUT_URN } from "./urns.ts";
import { truncateSpec } from "./truncate-descriptor.ts";
import { vertexName } from "./vertex-name.ts";
import { isUpdating, windowMappingOf } from "./side-input-windows.ts";
import { windowingSpec } from "./windowing-spec.ts";
import type { WireCoders } from "./wire-coders.ts";

export interface SpecifyOptions {
  readonly stateBackedIterables: boolean;
  readonly allowUnsafeTriggers: boolean;
}

export function specifyGraph(
  plan: Plan,
  coders: WireCoders,
  layout: VertexLayout,
  options: SpecifyOptions,
): ExecutionGraph {
  const vertexIds = new Map(layout.vertices.map((vertex, index) => [vertex, `v${index}` as VertexId]));
  const drafts = layout.vertices.flatMap((vertex) => vertex.outputs);
  const datasetIds = new Map(drafts.map((draft, index) => [draft, `d${index}` as DatasetId]));
  const specifier = new Specifier(plan, coders, layout, vertexIds, datasetIds, options);
  const vertices = layout.vertices.map((vertex) => specifier.vertex(vertex));
  const datasets = drafts.map((draft) => specifier.dataset(draft));
  return {
    vertices,
    datasets: Object.fromEntries(datasets.map((dataset) => [dataset.id, dataset])),
    coders: specifier.coderTable(),
    windowings: specifier.windowings(),
    environments: specifier.environments(),
    unbounded: plan.nodes.some((node) => node.outputs.some((output) => isUnbounded(plan, output))),
  };
}

class Specifier {
  readonly #plan: Plan;
  readonly #coders: WireCoders;
  readonly #layout: VertexLayout;
  readonly #vertexIds: ReadonlyMap<VertexDraft, VertexId>;
  readonly #datasetIds: ReadonlyMap<DatasetDraft, DatasetId>;
  readonly #options: SpecifyOptions;
  readonly #coderIds = new Set<string>();
  readonly #windowingIds = new Set<string>();
  readonly #environmentIds = new Set<string>();

  constructor(
    plan: Plan,
    coders: WireCoders,
    layout: VertexLayout,
    vertexIds: ReadonlyMap<VertexDraft, VertexId>,
    datasetIds: ReadonlyMap<DatasetDraft, DatasetId>,
    options: SpecifyOptions,
  ) {
    this.#plan = plan;
    this.#coders = coders;
    this.#layout = layout;
    this.#vertexIds = vertexIds;
    this.#datasetIds = datasetIds;
    this.#options = options;
  }

  vertex(vertex: VertexDraft): VertexSpec {
    const { stage } = vertex;
    const id = this.#vertexIds.get(vertex) as VertexId;
    const stateBacked = this.#readsStateBacked(vertex);
    const nodes = [...(vertex.head === undefined ? [] : [vertex.head]), ...(stage?.nodes ?? [])];
    return {
      id,
      name: vertexName(nodes.map((node) => node.proto.uniqueName)),
      head: this.#head(vertex, stateBacked),
      inputs: this.#ids(vertex.inputs),
      stage: stage === undefined ? undefined : this.#stage(id, vertex, stage, stateBacked),
      headOutputs: stage === undefined ? this.#ids(vertex.outputs) : [],
      keyed: vertex.head?.kind === "group-by-key" || stage?.root === "keyed",
      singleton: isSingleton(vertex),
    };
  }

  dataset(draft: DatasetDraft): DatasetSpec {
    const { windowingStrategyId } = pcollectionOf(this.#plan, draft.pcollectionId);
    return {
      id: this.#datasetIds.get(draft) as DatasetId,
      pcollectionId: draft.pcollectionId,
      producer: this.#vertexIds.get(draft.producer) as VertexId,
      coderId: this.#windowedCoder(draft.pcollectionId),
      windowingId: this.#windowing(windowingStrategyId),
      partitioner: draft.partitioner,
      sizedRestrictions: draft.sizedRestrictions,
      unbounded: isUnbounded(this.#plan, draft.pcollectionId),
    };
  }

  /** What a length prefix is around is opaque to the runner and left out, but for its id. */
  coderTable(): CoderTable {
    return Object.fromEntries(
      this.#coders
        .closure(this.#coderIds, false)
        .map((id) => [id, this.#coders.get(id)] as const)
        .map(([id, coder]) => {
          const urn = coder.spec?.urn ?? "";
          const components = urn === CODER_URN.lengthPrefix ? [] : coder.componentCoderIds;
          return [id, { urn, payload: coder.spec?.payload ?? new Uint8Array(), components }];
        }),
    );
  }

  windowings(): Readonly<Record<string, WindowingSpec>> {
    return Object.fromEntries(
      [...this.#windowingIds].sort().map((id) => [id, this.#windowingSpec(windowingOf(this.#plan, id))]),
    );
  }

  /** A windowing that names no environment is of the only one, or of one like the others. */
  #windowingSpec(windowing: Parameters<typeof windowingSpec>[0]): WindowingSpec {
    const named = this.#plan.environments.get(windowing.environmentId);
    const environment = named ?? this.#plan.environments.values().next().value;
    return windowingSpec(windowing, this.#coders, environment, this.#options.allowUnsafeTriggers);
  }

  environments(): Readonly<Record<string, EnvironmentSpec>> {
    return Object.fromEntries(
      [...this.#environmentIds].sort().flatMap((id) => {
        const environment = this.#plan.environments.get(id);
        if (environment === undefined) return [];
        const { urn, payload, capabilities, dependencies } = environment;
        return [
          [id, { urn, payload, capabilities, resourceHints: Object.keys(environment.resourceHints), dependencies }],
        ];
      }),
    );
  }

  #head(vertex: VertexDraft, stateBacked: boolean): HeadSpec {
    const node = vertex.head;
    if (node === undefined) return { kind: "read" };
    if (node.kind === "impulse") return { kind: "impulse" };
    if (node.kind === "test-stream") return this.#testStream(node, vertex);
    const inputId = node.mainInputs[0] ?? "";
    const outputId = node.outputs[0] ?? "";
    const windowingId = pcollectionOf(this.#plan, inputId).windowingStrategyId;
    const windowing = windowingOf(this.#plan, windowingId);
    const { windowFnUrn, merging } = this.#windowingSpec(windowing);
    const merges = merging && windowFnUrn !== SESSION_WINDOWS_URN;
    const environment = windowing.environmentId || environmentOf(inputId, this.#layout.producerOf);
    const environmentId = this.#plan.canonicalEnvironments.get(environment) ?? environment;
    if (merges && environmentId === "") {
      throw userError("INVALID_ARGUMENT", `No environment can merge the windows of ${nameTransform(node.proto)}.`);
    }
    if (merges) this.#environmentIds.add(environmentId);
    return {
      kind: "group-by-key",
      transformId: node.id,
      windowingId: this.#windowing(windowingId),
      outputCoderId: this.#windowedCoder(outputId, stateBacked),
      stateBacked,
      mergeWindows: merges
        ? mergeWindowsSpec(this.#plan, this.#coders, windowingId, windowing, environmentId)
        : undefined,
    };
  }

  #testStream(node: PlanNode, vertex: VertexDraft): HeadSpec {
    const outputs = sortedEntries(node.proto.outputs).map(([tag, pcollectionId]) => ({
      tag,
      pcollectionId,
      coderId: this.#windowedCoder(pcollectionId),
      datasets: this.#ids(vertex.outputs.filter((dataset) => dataset.pcollectionId === pcollectionId)),
    }));
    return { kind: "test-stream", payload: node.proto.spec?.payload ?? new Uint8Array(), outputs };
  }

  #stage(id: VertexId, vertex: VertexDraft, stage: FusedStage, stateBacked: boolean): ExecutableStageSpec {
    const plan = this.#plan;
    const { nodes } = stage;
    const outputIds = [...new Set(vertex.outputs.map((dataset) => dataset.pcollectionId))].sort();
    const inputElementCoderId = this.#elementCoder(stage.inputId, stateBacked);
    const built = buildDescriptor(plan, this.#coders, {
      id,
      nodes,
      inputId: stage.inputId,
      inputElementCoderId,
      // Java reads state-backed iterables at a port, and knows their coder nowhere else.
      ...(stateBacked && this.#isJava(stage.environmentId)
        ? { inputPCollectionCoderId: this.#elementCoder(stage.inputId) }
        : {}),
      outputIds,
    });
    this.#environmentIds.add(stage.environmentId);
    return {
      environmentId: stage.environmentId,
      descriptor: built.bytes,
      sourceTransformId: built.sourceTransformId,
      inputCoderId: this.#use(built.inputCoderId),
      sinks: built.sinks.map((sink) => ({
        ...sink,
        coderId: this.#use(sink.coderId),
        datasets: this.#ids(vertex.outputs.filter((dataset) => dataset.pcollectionId === sink.pcollectionId)),
      })),
      sideInputs: vertex.sideInputs.map(({ node, side, datasets }) => ({
        transformId: node.id,
        localName: side.localName,
        datasets: this.#ids(datasets),
        accessPatternUrn: side.accessPatternUrn || SIDE_INPUT_URN.iterable,
        windowingId: this.#windowing(pcollectionOf(plan, side.pcollectionId).windowingStrategyId),
        mainWindowingId: this.#windowing(pcollectionOf(plan, node.mainInputs[0] ?? "").windowingStrategyId),
        windowMapping: windowMappingOf(plan, side),
        ...this.#mapWindows(node, side, stage.environmentId),
        updating: isUpdating(plan, side),
      })),
      userStates: nodes.flatMap((node) => this.#userStates(node)),
      timers: nodes.flatMap((node) => this.#timers(node)),
      transforms: nodes.map((node) => ({
        id: node.id,
        uniqueName: node.proto.uniqueName,
        urn: node.proto.spec?.urn ?? "",
      })),
      splittable: stage.root === "sized-restrictions",
      truncate: truncateSpec(plan, this.#coders, stage, inputElementCoderId),
      requiresStableInput: nodes.some((node) => node.parDo?.requiresStableInput === true),
      requiresTimeSortedInput: nodes.some((node) => node.parDo?.requiresTimeSortedInput === true),
      requiresBundleFinalization: nodes.some((node) => node.parDo?.requestsFinalization === true),
    };
  }

  #mapWindows(node: PlanNode, side: NodeSideInput, environmentId: string): { readonly mapWindows?: MergeWindowsSpec } {
    const mapping = windowMappingOf(this.#plan, side);
    if (mapping === undefined || mapping.urn === "") return {};
    const windowing = (id: string) => windowingOf(this.#plan, pcollectionOf(this.#plan, id).windowingStrategyId);
    const main = windowing(node.mainInputs[0] ?? "");
    return {
      mapWindows: mapWindowsSpec(
        this.#plan,
        this.#coders,
        mapping,
        { main, side: windowing(side.pcollectionId) },
        environmentId,
      ),
    };
  }

  #timers(node: PlanNode): TimerSpec[] {
    if (!isStateful(node) || node.parDo === undefined) return [];
    return sortedEntries(node.parDo.timerFamilySpecs).map(([timerFamilyId, timer]) => ({
      transformId: node.id,
      timerFamilyId,
      timeDomain: timer.timeDomain === TimeDomain_Enum.PROCESSING_TIME ? "PROCESSING_TIME" : "EVENT_TIME",
      coderId: this.#use(timerCoderId(this.#plan, this.#coders, node)),
      windowingId: this.#inputWindowing(node),
      onWindowExpiration: node.parDo?.onWindowExpirationTimerFamilySpec === timerFamilyId,
    }));
  }

  #userStates(node: PlanNode): UserStateSpec[] {
    if (!isStateful(node) || node.parDo === undefined) return [];
    return sortedEntries(node.parDo.stateSpecs).map(([localName, state]) => ({
      transformId: node.id,
      localName,
      protocolUrn: state.protocol?.urn ?? "",
      windowingId: this.#inputWindowing(node),
    }));
  }

  #inputWindowing(node: PlanNode): string {
    return this.#windowing(pcollectionOf(this.#plan, node.mainInputs[0] ?? "").windowingStrategyId);
  }

  #isJava(environmentId: string): boolean {
    const capabilities = this.#plan.environments.get(environmentId)?.capabilities ?? [];
    return capabilities.some((capability) => capability.startsWith("beam:version:sdk_base:apache/beam_java"));
  }

  /** True where groups go straight into a stage whose SDK can fetch the rest of a long one. */
  #readsStateBacked({ head, stage }: VertexDraft): boolean {
    if (!this.#options.stateBackedIterables || head?.kind !== "group-by-key" || stage === undefined) return false;
    const capabilities = this.#plan.environments.get(stage.environmentId)?.capabilities ?? [];
    return capabilities.includes(CODER_URN.stateBackedIterable);
  }

  #elementCoder(pcollectionId: string, stateBacked = false): string {
    const wire = this.#coders.wire(pcollectionOf(this.#plan, pcollectionId).coderId);
    return stateBacked ? this.#coders.stateBacked(wire) : wire;
  }

  #windowedCoder(pcollectionId: string, stateBacked = false): string {
    const { windowingStrategyId } = pcollectionOf(this.#plan, pcollectionId);
    const window = this.#coders.wireWindow(windowingOf(this.#plan, windowingStrategyId).windowCoderId);
    return this.#use(this.#coders.windowed(this.#elementCoder(pcollectionId, stateBacked), window));
  }

  #windowing(id: string): string {
    this.#windowingIds.add(id);
    this.#use(this.#coders.wireWindow(windowingOf(this.#plan, id).windowCoderId));
    return id;
  }

  #use(coderId: string): string {
    this.#coderIds.add(coderId);
    return coderId;
  }

  #ids(drafts: readonly DatasetDraft[]): DatasetId[] {
    return drafts.map((draft) => this.#datasetIds.get(draft) as DatasetId);
  }
}

function isUnbounded(plan: Plan, pcollectionId: string): boolean {
  return plan.pcollections.get(pcollectionId)?.isBounded === IsBounded_Enum.UNBOUNDED;
}
