/** For tests of user state: a stage with states of every kind, and a bundle's requests as an SDK makes them. */
import { ProcessBundleDescriptor, type StateKey, type StateRequest } from "../../../proto/gen/beam_fn_api.ts";
import { ParDoPayload, type StateSpec } from "../../../proto/gen/beam_runner_api.ts";
import { encodeIntervalWindow } from "../../coders/interval-window.ts";
import type { ExecutableStageSpec } from "../../graph/execution-graph.ts";
import { MemoryRows, type ScratchSpace, type StateRows } from "../../state/state-rows.ts";
import type { StateReply } from "../task/harness-connection.ts";
import type { UserStateBundle } from "./stream-ports.ts";
import { KeyedUserState } from "./user-state.ts";

type KeyType = NonNullable<StateKey["type"]>;
type Kind = Extract<KeyType["$case"], `${string}UserState`>;
type Windows = "global" | "interval" | "custom";

export const NOTHING = new Uint8Array(0);
const STATES: Readonly<Record<string, StateSpec["spec"]>> = {
  bag: { $case: "bagSpec", value: { elementCoderId: "bytes" } },
  list: { $case: "orderedListSpec", value: { elementCoderId: "bytes" } },
  map: { $case: "multimapSpec", value: { keyCoderId: "bytes", valueCoderId: "bytes" } },
  opaque: { $case: "multimapSpec", value: { keyCoderId: "bytes", valueCoderId: "mine" } },
};

function stageWith(windows: Windows, allowedLatenessMs = 0): ExecutableStageSpec {
  const coder = (urn: string, ...componentCoderIds: string[]) => ({
    spec: { urn: `beam:coder:${urn}:v1`, payload: NOTHING },
    componentCoderIds,
  });
  const stateSpecs = Object.fromEntries(
    Object.entries(STATES).map(([name, spec]) => [name, { spec, protocol: undefined }]),
  );
  const payload = ParDoPayload.encode(ParDoPayload.fromPartial({ stateSpecs, sideInputs: { side: {} } })).finish();
  const descriptor = ProcessBundleDescriptor.fromPartial({
    transforms: { t: { spec: { urn: "beam:transform:pardo:v1", payload }, inputs: { side: "other", in: "input" } } },
    pcollections: { input: { windowingStrategyId: "w" }, other: { windowingStrategyId: "gone" } },
    windowingStrategies: { w: { windowCoderId: windows, allowedLateness: BigInt(allowedLatenessMs) } },
    coders: {
      global: coder("global_window"),
      interval: coder("interval_window"),
      custom: coder("custom_window", "bytes"),
      bytes: coder("bytes"),
      mine: coder("of_my_own"),
    },
  });
  return {
    descriptor: ProcessBundleDescriptor.encode(descriptor).finish(),
    userStates: Object.keys(STATES).map((localName) => ({ transformId: "t", localName, protocolUrn: "" })),
  } as unknown as ExecutableStageSpec;
}

interface Options {
  readonly rows?: StateRows;
  readonly windows?: Windows;
  readonly allowedLatenessMs?: number;
  readonly pageBytes?: number;
  readonly prefix?: string;
  readonly scratch?: ScratchSpace | undefined;
}

export function open({
  rows = new MemoryRows(),
  windows = "global",
  allowedLatenessMs,
  pageBytes = 64,
  prefix,
  scratch,
}: Options = {}) {
  return new KeyedUserState({
    rows,
    stage: stageWith(windows, allowedLatenessMs),
    maxParallelism: 128,
    pageBytes,
    mapEntryBytes: 1 << 26,
    cacheTokenPrefix: prefix ?? "job/1/task/0",
    scratch,
  });
}

export function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "latin1"));
}

export function latin1(data: Uint8Array): string {
  return Buffer.from(data).toString("latin1");
}

/** Length-prefixed, as a nested bytes coder has it. */
export function nested(text: string): string {
  return String.fromCharCode(text.length) + text;
}

export interface Place {
  readonly state?: string;
  readonly key?: string;
  readonly window?: Uint8Array;
  readonly mapKey?: string;
  readonly range?: { readonly start: bigint; readonly end: bigint };
}

/** Speaks to a bundle as an SDK does. */
export class Sdk {
  readonly #bundle: UserStateBundle;

  constructor(bundle: UserStateBundle) {
    this.#bundle = bundle;
  }

  ask(kind: Kind, place: Place, request: StateRequest["request"]): StateReply {
    const { state = "bag", key = "k", window = NOTHING, mapKey = "", range } = place;
    const value = {
      ...{ transformId: "t", userStateId: state, window, key: bytes(key) },
      ...{ mapKey: bytes(mapKey), range },
    };
    const stateKey = { type: { $case: kind, value } as KeyType };
    return this.#bundle.answer({ id: "1", instructionId: "b", stateKey, request }) as StateReply;
  }

  page(kind: Kind, place: Place, continuationToken: Uint8Array): { data: Uint8Array; continuationToken: Uint8Array } {
    const reply = this.ask(kind, place, { $case: "get", value: { continuationToken } });
    if (reply.kind !== "get") throw new Error("not a get");
    return reply;
  }

  pages(kind: Kind, place: Place = {}): string[] {
    const pages: string[] = [];
    let token = NOTHING as Uint8Array;
    do {
      const page = this.page(kind, place, token);
      pages.push(latin1(page.data));
      token = page.continuationToken;
    } while (token.length > 0);
    return pages;
  }

  read(kind: Kind, place: Place = {}): string {
    return this.pages(kind, place).join("");
  }

  append(kind: Kind, place: Place, data: string): void {
    this.ask(kind, place, { $case: "append", value: { data: bytes(data) } });
  }

  clear(kind: Kind, place: Place): void {
    this.ask(kind, place, { $case: "clear", value: {} });
  }
}

export function inBundle<Result>(state: KeyedUserState, use: (sdk: Sdk) => Result, end: "commit" | "abort" = "commit") {
  const bundle = state.beginBundle();
  const result = use(new Sdk(bundle));
  bundle[end]();
  return result;
}

export function interval(start: number, end: number): Uint8Array {
  return encodeIntervalWindow({ start, end });
}

export function rowCount(rows: StateRows): number {
  return Object.keys(STATES).reduce((sum, name) => sum + [...rows.table(`user-state/t/${name}`).entries()].length, 0);
}

export function varint(value: bigint): string {
  let text = "";
  let rest = BigInt.asUintN(64, value);
  for (; rest >= 128n; rest >>= 7n) text += String.fromCharCode(Number(rest & 127n) | 128);
  return text + String.fromCharCode(Number(rest));
}
