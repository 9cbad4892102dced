/**
 * Keyed user state of one streaming task: answers the SDK's state requests out of rows, under the running bundle's own
 * writes. One table of rows for each (transform, state id); see user-state-cell.ts for the keys.
 *
 * Invariants: nothing of a bundle is in the tables before its `commit`, which is one synchronous step; everything that
 * must survive is in the rows: a new KeyedUserState over the same rows goes on where the old one was.
 * Source: StateRequest and StateKey of beam_fn_api.proto.
 */
import type { ProcessBundleRequest_CacheToken, StateKey, StateRequest } from "../../../proto/gen/beam_fn_api.ts";
import { assert } from "../../base/assert.ts";
import { WeirError } from "../../base/errors.ts";
import type { ExecutableStageSpec } from "../../graph/execution-graph.ts";
import type { ScratchSpace, StateRows, StateTable } from "../../state/state-rows.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import type { StateReply } from "../task/harness-connection.ts";
import type { UserState, UserStateBundle } from "./stream-ports.ts";
import { appendToBag, clearBag, readBag } from "./user-state-bag.ts";
import { cellKey, HEAD_MULTIMAP, HEAD_ORDERED_LIST, type StatePage, windowOfHead } from "./user-state-cell.ts";
import { declaredUserStates, type UserStateDeclaration } from "./user-state-declaration.ts";
import { WindowExpiry } from "./user-state-expiry.ts";
import {
  appendMapValues,
  clearMultimap,
  readMapEntries,
  readMapKeys,
  readMapValues,
  removeMapKey,
} from "./user-state-multimap.ts";
import { appendToList, clearList, readList } from "./user-state-ordered-list.ts";
import { BundleWrites, type TableOverlay } from "./user-state-overlay.ts";

export interface KeyedUserStateInit {
  /** Tables are named `user-state/TRANSFORM/STATE`. */
  readonly rows: StateRows;
  readonly stage: ExecutableStageSpec;
  /** Of the job, as its key groups are counted. */
  readonly maxParallelism: number;
  /** A page of a reply is no longer, unless a single append was. */
  readonly pageBytes: number;
  /** One key of a map with its values, read in bulk. */
  readonly mapEntryBytes: number;
  /** Never the same for two tasks, nor for two execution attempts of one: after a restore tokens must be new. */
  readonly cacheTokenPrefix: string;
  /** For writes of a bundle that do not fit into memory. Undefined: they are all there. */
  readonly scratch?: ScratchSpace | undefined;
}

interface StateOfTransform {
  readonly declaration: UserStateDeclaration;
  readonly table: StateTable;
  readonly expiry: WindowExpiry | undefined;
  readonly index: number;
}

/** Rows of values are cut at this size: what an append rewrites at most, and what is read at least. */
const CHUNK_BYTES = 32 * 1024;

const APPENDED: StateReply = { kind: "append" };
const CLEARED: StateReply = { kind: "clear" };

export class KeyedUserState implements UserState {
  readonly #init: KeyedUserStateInit;
  readonly #states: StateOfTransform[];
  readonly #byTransform = new Map<string, Map<string, StateOfTransform>>();
  #tokenNumber = 0;
  #tokens: ProcessBundleRequest_CacheToken[] | undefined;

  /** @throws WeirError naming a transform whose windows the runner cannot read. */
  constructor(init: KeyedUserStateInit) {
    this.#init = init;
    this.#states = declaredUserStates(init.stage).map((declaration, index) => {
      const { transformId, userStateId, windows } = declaration;
      const table = init.rows.table(`user-state/${transformId}/${userStateId}`);
      const expiry = windows && new WindowExpiry(windows.maxTimestampOf, windows.allowedLatenessMs);
      if (expiry !== undefined)
        for (const [key] of table.entries()) {
          const window = windowOfHead(key);
          if (window !== undefined) expiry.note(key, window, true);
        }
      const state = { declaration, table, expiry, index };
      const ofTransform = this.#byTransform.get(transformId) ?? new Map<string, StateOfTransform>();
      this.#byTransform.set(transformId, ofTransform.set(userStateId, state));
      return state;
    });
  }

  beginBundle(): UserStateBundle {
    return new BundleState(this.#init, this.#states, this.#byTransform, () => this.#changeTokens());
  }

  cacheTokens(): ProcessBundleRequest_CacheToken[] {
    if (this.#states.length === 0) return [];
    this.#tokens ??= [
      {
        type: { $case: "userState", value: {} },
        token: Buffer.from(`${this.#init.cacheTokenPrefix}/${this.#tokenNumber}`),
      },
    ];
    return this.#tokens;
  }

  /** Bundles will run on another incarnation of the harness from now on. */
  harnessChanged(): void {
    this.#changeTokens();
  }

  /** Between bundles only. State of the global window stays: nothing comes after its end. */
  expireWindows(inputWatermark: Timestamp): void {
    for (const { table, expiry } of this.#states)
      if (expiry !== undefined) for (const cell of expiry.takeExpired(inputWatermark)) clearCell(table, cell);
  }

  #changeTokens(): void {
    this.#tokenNumber++;
    this.#tokens = undefined;
  }
}

function clearCell(table: StateTable, cell: string): void {
  const kind = table.get(cell)?.[0];
  if (kind === HEAD_MULTIMAP) clearMultimap(table, cell);
  else if (kind === HEAD_ORDERED_LIST) clearList(table, cell, undefined);
  else clearBag(table, cell);
}

/** One state's part of a bundle. */
interface WritesOfState {
  readonly state: StateOfTransform;
  readonly table: TableOverlay;
  /** Cells written to, with their windows; undefined where nothing expires. */
  readonly touched: Map<string, Uint8Array> | undefined;
}

class BundleState implements UserStateBundle {
  readonly #states: readonly StateOfTransform[];
  readonly #byTransform: ReadonlyMap<string, ReadonlyMap<string, StateOfTransform>>;
  readonly #maxParallelism: number;
  readonly #pageBytes: number;
  readonly #mapEntryBytes: number;
  readonly #chunkBytes: number;
  readonly #onAbort: () => void;
  readonly #writes: (WritesOfState | undefined)[] = [];
  readonly #bundleWrites: BundleWrites;
  #ended = false;

  constructor(
    { maxParallelism, pageBytes, mapEntryBytes, scratch }: KeyedUserStateInit,
    states: readonly StateOfTransform[],
    byTransform: ReadonlyMap<string, ReadonlyMap<string, StateOfTransform>>,
    onAbort: () => void,
  ) {
    this.#states = states;
    this.#byTransform = byTransform;
    this.#maxParallelism = maxParallelism;
    this.#pageBytes = pageBytes;
    this.#mapEntryBytes = mapEntryBytes;
    this.#chunkBytes = Math.min(CHUNK_BYTES, pageBytes);
    this.#onAbort = onAbort;
    this.#bundleWrites = new BundleWrites(scratch);
  }

  get writtenBytes(): number {
    return this.#bundleWrites.writtenBytes;
  }

  answer(request: StateRequest): Promise<StateReply> | StateReply {
    const reply = this.#answer(request);
    const relief = this.#bundleWrites.relief();
    return relief === undefined ? reply : relief.then(() => reply);
  }

  #answer(request: StateRequest): StateReply {
    assert(!this.#ended, "a bundle that has ended asks for no state");
    const stateKey = request.stateKey?.type;
    switch (stateKey?.$case) {
      case "bagUserState":
      case "multimapUserState":
      case "multimapKeysUserState":
      case "multimapEntriesUserState":
      case "orderedListUserState":
        break;
      default:
        throw refused(request);
    }
    const { transformId, userStateId, key, window } = stateKey.value;
    const state = this.#byTransform.get(transformId)?.get(userStateId);
    if (state === undefined)
      throw new WeirError({
        code: "NOT_FOUND",
        domain: "external",
        message: `Transform ${transformId} has no user state "${userStateId}".`,
      });
    const writes = this.#writesOf(state);
    const cell = cellKey(key, window, this.#maxParallelism);
    switch (request.request?.$case) {
      case "get":
        return asReply(this.#get(stateKey, writes, cell, request.request.value.continuationToken));
      case "append":
        this.#append(stateKey, writes.table, cell, request.request.value.data, request);
        writes.touched?.set(cell, window);
        return APPENDED;
      case "clear":
        this.#clear(stateKey, writes.table, cell);
        writes.touched?.set(cell, window);
        return CLEARED;
      case undefined:
        throw refused(request);
    }
  }

  #get(stateKey: UserStateKey, { state, table }: WritesOfState, cell: string, token: Uint8Array): StatePage {
    const pageBytes = this.#pageBytes;
    switch (stateKey.$case) {
      case "bagUserState":
        return readBag(table, cell, token, pageBytes);
      case "multimapUserState":
        return readMapValues(table, cell, stateKey.value.mapKey, token, pageBytes);
      case "multimapKeysUserState":
        return readMapKeys(table, cell, token, pageBytes);
      case "multimapEntriesUserState":
        return readMapEntries(table, cell, state.declaration.valueSkip, token, pageBytes, this.#mapEntryBytes);
      case "orderedListUserState":
        return readList(table, cell, stateKey.value.range, token, pageBytes);
    }
  }

  #append(stateKey: UserStateKey, table: StateTable, cell: string, data: Uint8Array, request: StateRequest): void {
    switch (stateKey.$case) {
      case "bagUserState":
        if (data.length > 0) appendToBag(table, cell, data, this.#chunkBytes);
        return;
      case "multimapUserState":
        appendMapValues(table, cell, stateKey.value.mapKey, data, this.#chunkBytes);
        return;
      case "orderedListUserState":
        appendToList(table, cell, data, this.#chunkBytes);
        return;
      default:
        throw refused(request);
    }
  }

  #clear(stateKey: UserStateKey, table: StateTable, cell: string): void {
    switch (stateKey.$case) {
      case "bagUserState":
        return clearBag(table, cell);
      case "multimapUserState":
        return removeMapKey(table, cell, stateKey.value.mapKey);
      case "multimapKeysUserState":
      case "multimapEntriesUserState":
        return clearMultimap(table, cell);
      case "orderedListUserState":
        return clearList(table, cell, stateKey.value.range);
    }
  }

  #writesOf(state: StateOfTransform): WritesOfState {
    let writes = this.#writes[state.index];
    if (writes === undefined) {
      const touched = state.expiry === undefined ? undefined : new Map<string, Uint8Array>();
      this.#writes[state.index] = writes = { state, table: this.#bundleWrites.over(state.table), touched };
    }
    return writes;
  }

  commit(): void {
    this.#end();
    for (const { index } of this.#states) {
      const writes = this.#writes[index];
      if (writes === undefined) continue;
      writes.table.commit();
      const { expiry, table } = writes.state;
      if (expiry !== undefined && writes.touched !== undefined)
        for (const [cell, window] of writes.touched) expiry.note(cell, window, table.get(cell) !== undefined);
    }
    this.#writes.length = 0;
    this.#bundleWrites.close();
  }

  abort(): void {
    this.#end();
    this.#writes.length = 0;
    this.#bundleWrites.close();
    this.#onAbort();
  }

  #end(): void {
    assert(!this.#ended, "a bundle's state is committed or aborted once");
    this.#ended = true;
  }
}

type UserStateKey = Extract<NonNullable<StateKey["type"]>, { $case: `${string}UserState` }>;

function asReply({ data, continuationToken }: StatePage): StateReply {
  return { kind: "get", data, continuationToken };
}

function refused(request: StateRequest): WeirError {
  const kind = request.stateKey?.type?.$case ?? "unknown";
  return new WeirError({
    code: "INVALID_ARGUMENT",
    domain: "external",
    message: `User state of kind "${kind}" does not know the request "${request.request?.$case ?? "unknown"}".`,
  });
}
