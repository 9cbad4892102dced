/** Builds small pipeline protos for tests, one transform at a time. Every PCollection is kv<bytes, bytes> by default. */
import {
  type Components,
  Environment,
  IsBounded_Enum,
  ParDoPayload,
  PCollection,
  type Pipeline,
  PTransform,
  WindowingStrategy,
} from "../../proto/gen/beam_runner_api.ts";

const KV_CODER = "kv";

export class SmallPipeline {
  readonly components: Components = {
    transforms: {},
    pcollections: {},
    windowingStrategies: {
      global: WindowingStrategy.fromPartial({
        windowFn: { urn: "beam:window_fn:global_windows:v1" },
        windowCoderId: "global_window",
      }),
    },
    coders: {
      bytes: { spec: { urn: "beam:coder:bytes:v1", payload: new Uint8Array() }, componentCoderIds: [] },
      global_window: { spec: { urn: "beam:coder:global_window:v1", payload: new Uint8Array() }, componentCoderIds: [] },
      [KV_CODER]: {
        spec: { urn: "beam:coder:kv:v1", payload: new Uint8Array() },
        componentCoderIds: ["bytes", "bytes"],
      },
      pickled: { spec: { urn: "beam:coder:pickled_python:v1", payload: new Uint8Array([1]) }, componentCoderIds: [] },
    },
    environments: { env: Environment.fromPartial({ urn: "beam:env:external:v1" }) },
  };
  readonly #roots: string[] = [];

  get pipeline(): Pipeline {
    return { components: this.components, rootTransformIds: this.#roots, displayData: [], requirements: [] };
  }

  impulse(id: string): string {
    return this.add(id, { spec: { urn: "beam:transform:impulse:v1", payload: new Uint8Array() } }, "bytes");
  }

  groupByKey(id: string, input: string): string {
    const spec = { urn: "beam:transform:group_by_key:v1", payload: new Uint8Array() };
    return this.add(id, { spec, inputs: { in: input } });
  }

  reshuffle(id: string, input: string): string {
    const spec = { urn: "beam:transform:reshuffle:v1", payload: new Uint8Array() };
    return this.add(id, { spec, inputs: { in: input } });
  }

  flatten(id: string, inputs: readonly string[]): string {
    const spec = { urn: "beam:transform:flatten:v1", payload: new Uint8Array() };
    return this.add(id, { spec, inputs: Object.fromEntries(inputs.map((input, index) => [`${index}`, input])) });
  }

  parDo(
    id: string,
    input: string,
    sideInputs: readonly string[] = [],
    payload: Partial<ParDoPayload> = {},
    environmentId = "env",
  ): string {
    const names = sideInputs.map((pcollection, index) => [`side${index}`, pcollection] as const);
    const accessPattern = { urn: "beam:side_input:iterable:v1", payload: new Uint8Array() };
    const sideInput = { accessPattern, viewFn: undefined, windowMappingFn: undefined };
    const parDo: ParDoPayload = {
      ...ParDoPayload.fromPartial({}),
      ...payload,
      sideInputs: Object.fromEntries(names.map(([name]) => [name, sideInput])),
    };
    const spec = { urn: "beam:transform:pardo:v1", payload: ParDoPayload.encode(parDo).finish() };
    return this.add(id, { spec, inputs: { in: input, ...Object.fromEntries(names) }, environmentId });
  }

  /** Adds a root transform with one output, `id.out`. @returns the output's id. */
  add(id: string, transform: Partial<PTransform>, coderId = KV_CODER): string {
    const output = `${id}.out`;
    this.components.transforms[id] = {
      ...PTransform.fromPartial({}),
      uniqueName: id,
      outputs: { out: output },
      ...transform,
    };
    this.components.pcollections[output] = PCollection.fromPartial({
      uniqueName: output,
      coderId,
      isBounded: IsBounded_Enum.BOUNDED,
      windowingStrategyId: "global",
    });
    this.#roots.push(id);
    return output;
  }
}
