/**
 * A ProcessBundleDescriptor, read once: which transform consumes which PCollection, where elements come in and go out,
 * which timer families there are, and every coder compiled.
 *
 * Source: ProcessBundleDescriptor of beam_fn_api.proto.
 */
import { type ProcessBundleDescriptor, RemoteGrpcPort } from "../proto/gen/beam_fn_api.ts";
import { ParDoPayload, type PTransform } from "../proto/gen/beam_runner_api.ts";
import { userError } from "../runner/base/errors.ts";
import { type ElementCoder, ElementCoders } from "./element-coders.ts";
import type { TimerFamilyCoders } from "./timers.ts";

export interface TransformPlan {
  readonly id: string;
  readonly proto: PTransform;
  readonly urn: string;
  readonly parDo: ParDoPayload;
  /** PCollection of its main input; of a Flatten any. */
  readonly mainInputs: readonly string[];
}

export interface TimerFamilyPlan {
  readonly transformId: string;
  readonly family: string;
  readonly isEventTime: boolean;
  readonly coders: TimerFamilyCoders;
}

interface Port {
  readonly transformId: string;
  readonly pcollectionId: string;
  /** windowed_value coder. */
  readonly coder: ElementCoder;
}

const SOURCE = "beam:runner:source:v1";
const SINK = "beam:runner:sink:v1";
const WITH_PAR_DO_PAYLOAD = /^beam:transform:(pardo|sdf_[a-z_]+):v1$/;

export class DescriptorPlan {
  readonly source: Port;
  readonly sinks: readonly Port[];
  /** Without source and sinks. */
  readonly transforms: readonly TransformPlan[];
  readonly timerFamilies: readonly TimerFamilyPlan[];
  readonly coders: ElementCoders;
  readonly #descriptor: ProcessBundleDescriptor;

  /** @throws WeirError naming what this harness does not know. */
  constructor(descriptor: ProcessBundleDescriptor) {
    this.#descriptor = descriptor;
    this.coders = new ElementCoders(descriptor.coders);
    const all = Object.entries(descriptor.transforms);
    const port = ([transformId, { spec, inputs, outputs }]: [string, PTransform], isSource: boolean): Port => ({
      transformId,
      pcollectionId: Object.values(isSource ? outputs : inputs)[0] ?? "",
      coder: this.coders.get(RemoteGrpcPort.decode(spec?.payload ?? new Uint8Array()).coderId),
    });
    const sources = all.filter(([, { spec }]) => spec?.urn === SOURCE);
    const [source] = sources;
    if (source === undefined || sources.length > 1)
      throw userError("UNIMPLEMENTED", `Descriptor ${descriptor.id} has ${sources.length} sources instead of one.`);
    this.source = port(source, true);
    this.sinks = all.filter(([, { spec }]) => spec?.urn === SINK).map((entry) => port(entry, false));
    this.transforms = all
      .filter(([, { spec }]) => spec?.urn !== SOURCE && spec?.urn !== SINK)
      .map(([id, proto]) => planTransform(id, proto));
    this.timerFamilies = this.transforms.flatMap((transform) => this.#timerFamilies(transform));
  }

  #timerFamilies({ id, parDo }: TransformPlan): TimerFamilyPlan[] {
    return Object.entries(parDo.timerFamilySpecs).map(([family, { timeDomain, timerFamilyCoderId }]) => {
      const [key = "", window = ""] = this.coders.components(timerFamilyCoderId);
      return {
        transformId: id,
        family,
        isEventTime: timeDomain === 1,
        coders: { key: this.coders.get(key), window: this.coders.get(window) },
      };
    });
  }

  /** Element coder id of a PCollection. */
  coderIdOf(pcollectionId: string): string {
    return this.#descriptor.pcollections[pcollectionId]?.coderId ?? "";
  }

  windowCoderOf(pcollectionId: string): ElementCoder {
    return this.coders.get(this.windowCoderIdOf(pcollectionId));
  }

  /** True where all elements are in the global window. */
  isGlobal(pcollectionId: string): boolean {
    const id = this.windowCoderIdOf(pcollectionId);
    return this.#descriptor.coders[id]?.spec?.urn === "beam:coder:global_window:v1";
  }

  windowCoderIdOf(pcollectionId: string): string {
    const windowing = this.#descriptor.pcollections[pcollectionId]?.windowingStrategyId ?? "";
    return this.#descriptor.windowingStrategies[windowing]?.windowCoderId ?? "";
  }
}

function planTransform(id: string, proto: PTransform): TransformPlan {
  const urn = proto.spec?.urn ?? "";
  const parDo = WITH_PAR_DO_PAYLOAD.test(urn)
    ? ParDoPayload.decode(proto.spec?.payload ?? new Uint8Array())
    : ParDoPayload.fromPartial({});
  const mainInputs = Object.entries(proto.inputs)
    .filter(([localName]) => parDo.sideInputs[localName] === undefined)
    .map(([, pcollectionId]) => pcollectionId);
  return { id, proto, urn, parDo, mainInputs };
}
