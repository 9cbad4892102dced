/**
 * User state of the keys that a bundle touches: bags over state requests; value and combining state are bags too.
 * Writes are kept until the bundle's end and then sent; what is known of a bag is kept beyond the bundle under the
 * runner's cache token.
 *
 * Invariant: as in Beam's other SDKs the cache has what a bundle wrote before the runner has committed it, and also what
 * a failed bundle wrote: it is right only because a failed bundle changes the token.
 */
import type { StateKey } from "../proto/gen/beam_fn_api.ts";
import type { StateSpec } from "../proto/gen/beam_runner_api.ts";
import { decodeAll, type ElementCoder, type ElementCoders, encodeWith } from "./element-coders.ts";
import { ByteWriter } from "./byte-stream.ts";
import type { StateClient } from "./state-client.ts";
import type { AnyCombineFn, BagState, CombiningState, FunctionRegistry, ValueState } from "./user-functions.ts";

/** Bags kept over bundles; beyond it the oldest are forgotten. */
const MAX_CACHED = 20_000;

/** Committed content of bags as far as it is known, by cache token and state key. */
export class StateCache {
  readonly #bags = new Map<string, readonly unknown[]>();
  hits = 0;

  get(key: string): readonly unknown[] | undefined {
    const values = this.#bags.get(key);
    if (values !== undefined) this.hits++;
    return values;
  }

  put(key: string, values: readonly unknown[] | undefined): void {
    this.#bags.delete(key);
    if (values === undefined) return;
    this.#bags.set(key, values);
    if (this.#bags.size > MAX_CACHED) for (const oldest of this.#bags.keys()) return void this.#bags.delete(oldest);
  }
}

interface BagCell {
  readonly stateKey: StateKey;
  readonly cacheKey: string | undefined;
  readonly coder: ElementCoder;
  /** What the runner has; undefined as long as it has not been read. */
  base: readonly unknown[] | undefined;
  cleared: boolean;
  appended: unknown[];
}

export interface BundleStateInit {
  readonly instructionId: string;
  readonly client: StateClient;
  readonly cache: StateCache;
  /** Latin-1 of the bundle's user state token; undefined: nothing may be cached. */
  readonly cacheToken: string | undefined;
}

export class BundleState {
  readonly #init: BundleStateInit;
  readonly #cells = new Map<string, BagCell>();

  constructor(init: BundleStateInit) {
    this.#init = init;
  }

  cell(transformId: string, userStateId: string, key: Uint8Array, window: Uint8Array, coder: ElementCoder): BagCell {
    const id = [transformId, userStateId, Buffer.from(window).toString("hex"), Buffer.from(key).toString("hex")].join(
      "\n",
    );
    let cell = this.#cells.get(id);
    if (cell === undefined) {
      const { cacheToken, cache } = this.#init;
      const cacheKey = cacheToken === undefined ? undefined : `${cacheToken}\n${id}`;
      cell = {
        stateKey: { type: { $case: "bagUserState", value: { transformId, userStateId, window, key } } },
        cacheKey,
        coder,
        base: cacheKey === undefined ? undefined : cache.get(cacheKey),
        cleared: false,
        appended: [],
      };
      this.#cells.set(id, cell);
    }
    return cell;
  }

  async read(cell: BagCell): Promise<unknown[]> {
    if (cell.cleared) return [...cell.appended];
    const { client, instructionId } = this.#init;
    cell.base ??= decodeAll(cell.coder, await client.get(instructionId, cell.stateKey));
    return [...cell.base, ...cell.appended];
  }

  /** Sends all writes. The bundle may answer when this has resolved. @throws the runner's error */
  async flush(): Promise<void> {
    const { client, instructionId } = this.#init;
    const sent: Promise<void>[] = [];
    for (const cell of this.#cells.values()) {
      const { stateKey, coder, cleared, appended } = cell;
      if (cleared) sent.push(client.clear(instructionId, stateKey));
      if (appended.length > 0) {
        const writer = new ByteWriter();
        for (const value of appended) coder.encode(value, writer);
        sent.push(client.append(instructionId, stateKey, writer.finish()));
      }
    }
    this.leaveInCache();
    await Promise.all(sent);
  }

  /** The cache now has what the bundle has read and written, whether it succeeds or not. */
  leaveInCache(): void {
    const { cache } = this.#init;
    for (const { cacheKey, cleared, appended, base } of this.#cells.values()) {
      if (cacheKey === undefined) continue;
      if (cleared) cache.put(cacheKey, [...appended]);
      else if (base !== undefined) cache.put(cacheKey, appended.length === 0 ? base : [...base, ...appended]);
    }
  }
}

/** The states of one key and window of a stateful transform. */
export class KeyState {
  readonly #state: BundleState;
  readonly #transformId: string;
  readonly #specs: Readonly<Record<string, StateSpec>>;
  readonly #coders: ElementCoders;
  readonly #functions: FunctionRegistry;
  readonly #key: Uint8Array;
  readonly #window: Uint8Array;

  constructor(
    state: BundleState,
    transform: {
      readonly id: string;
      readonly specs: Readonly<Record<string, StateSpec>>;
      readonly coders: ElementCoders;
      readonly functions: FunctionRegistry;
    },
    key: Uint8Array,
    window: Uint8Array,
  ) {
    this.#state = state;
    this.#transformId = transform.id;
    this.#specs = transform.specs;
    this.#coders = transform.coders;
    this.#functions = transform.functions;
    this.#key = key;
    this.#window = window;
  }

  #cell(stateId: string): BagCell {
    const { spec } = this.#specs[stateId] ?? {};
    let coderId: string;
    if (spec?.$case === "readModifyWriteSpec") coderId = spec.value.coderId;
    else if (spec?.$case === "bagSpec") coderId = spec.value.elementCoderId;
    else if (spec?.$case === "combiningSpec") coderId = spec.value.accumulatorCoderId;
    else throw new Error(`Transform ${this.#transformId} has no value, bag or combining state "${stateId}".`);
    return this.#state.cell(this.#transformId, stateId, this.#key, this.#window, this.#coders.get(coderId));
  }

  value<V>(stateId: string): ValueState<V> {
    const cell = this.#cell(stateId);
    return {
      read: async () => (await this.#state.read(cell)).at(-1) as V | undefined,
      write: (value) => replace(cell, [value]),
      clear: () => replace(cell, []),
    };
  }

  bag<V>(stateId: string): BagState<V> {
    const cell = this.#cell(stateId);
    return {
      read: async () => (await this.#state.read(cell)) as V[],
      add: (value) => void cell.appended.push(value),
      clear: () => replace(cell, []),
    };
  }

  combining<Input, Output>(stateId: string): CombiningState<Input, Output> {
    const cell = this.#cell(stateId);
    const { spec } = this.#specs[stateId] ?? {};
    if (spec?.$case !== "combiningSpec") throw new Error(`State "${stateId}" is not combining.`);
    const combine: AnyCombineFn = this.#functions.combineFn(spec.value.combineFn);
    return {
      read: async () => {
        const accumulators = await this.#state.read(cell);
        if (accumulators.length > 1) replace(cell, [combine.merge(accumulators)]);
        return combine.extract(accumulators.length === 0 ? combine.create() : combine.merge(accumulators)) as Output;
      },
      add: (value) => {
        // One accumulator is appended without reading what is there: a read merges them.
        cell.appended = [
          combine.add(cell.appended.length === 0 ? combine.create() : combine.merge(cell.appended), value),
        ];
      },
      clear: () => replace(cell, []),
    };
  }
}

function replace(cell: BagCell, values: unknown[]): void {
  cell.cleared = true;
  cell.appended = values;
}

/** The elements of a side input in a window. */
export async function readSideInput(
  client: StateClient,
  request: {
    readonly instructionId: string;
    readonly transformId: string;
    readonly sideInputId: string;
    readonly window: Uint8Array;
    readonly coder: ElementCoder;
    /** Of multimap access. */
    readonly key?: { readonly value: unknown; readonly coder: ElementCoder };
  },
): Promise<unknown[]> {
  const { instructionId, transformId, sideInputId, window, coder, key } = request;
  const stateKey: StateKey =
    key === undefined
      ? { type: { $case: "iterableSideInput", value: { transformId, sideInputId, window } } }
      : {
          type: {
            $case: "multimapSideInput",
            value: { transformId, sideInputId, window, key: encodeWith(key.coder, key.value) },
          },
        };
  return decodeAll(coder, await client.get(instructionId, stateKey));
}
