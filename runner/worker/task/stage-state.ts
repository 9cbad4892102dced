/**
 * Answers the state requests of a stage's bundles: side inputs, and the values of groups that are read through state
 * (state-backed iterables).
 *
 * Source: StateKey of beam_fn_api.proto. User state is served by the keyed state of stateful stages.
 */
import type { StateKey, StateRequest } from "../../../proto/gen/beam_fn_api.ts";
import { present } from "../../base/assert.ts";
import { WeirError } from "../../base/errors.ts";
import type { ExecutableStageSpec, ExecutionGraph } from "../../graph/execution-graph.ts";
import type { GroupByKeyTable } from "../../state/grouping/group-by-key-table.ts";
import type { SideInput, SideInputStore } from "../../state/side-input-store.ts";
import type { StateReply } from "./harness-connection.ts";
import type { PartitionReader, PartitionRef } from "./ports.ts";

export interface StageStateInit {
  readonly stage: ExecutableStageSpec;
  readonly graph: ExecutionGraph;
  readonly sideInput: readonly PartitionRef[];
  readonly store: SideInputStore;
  readonly reader: PartitionReader;
  /** The grouping that feeds the stage, for its large groups. */
  readonly table: GroupByKeyTable | undefined;
  readonly pageBytes: number;
  readonly signal: AbortSignal;
}

const NO_KEY = new Uint8Array(0);

export class StageState {
  readonly #init: StageStateInit;
  readonly #sideInputs = new Map<string, SideInput>();

  private constructor(init: StageStateInit) {
    this.#init = init;
  }

  /** Loads the stage's side inputs. @throws LostPartitionError when one cannot be read. */
  static async open(init: StageStateInit): Promise<StageState> {
    const state = new StageState(init);
    try {
      for (const spec of init.stage.sideInputs) {
        const datasets = new Set<string>(spec.datasets);
        const coderId = present(
          init.graph.datasets[present(spec.datasets[0], "a side input's dataset")],
          "dataset",
        ).coderId;
        const refs = init.sideInput.filter((ref) => datasets.has(ref.datasetId));
        const sideInput = await init.store.load({
          refs,
          reader: init.reader,
          coders: init.graph.coders,
          coderId,
          accessPatternUrn: spec.accessPatternUrn,
          signal: init.signal,
        });
        state.#sideInputs.set(`${spec.transformId}\n${spec.localName}`, sideInput);
      }
      return state;
    } catch (failure) {
      await state.close();
      throw failure;
    }
  }

  /** @throws WeirError naming what was asked for when it is not there. */
  answer(request: StateRequest): Promise<StateReply> | StateReply {
    const key = request.stateKey?.type;
    const get = request.request?.$case === "get" ? request.request.value : undefined;
    if (key !== undefined && get !== undefined) {
      const token = get.continuationToken;
      switch (key.$case) {
        case "iterableSideInput":
          return this.#page(key.value, "iterable", key.value.window, NO_KEY, token);
        case "multimapSideInput":
          return this.#page(key.value, "multimap", key.value.window, key.value.key, token);
        case "multimapKeysSideInput":
          return this.#page(key.value, "multimap_keys", key.value.window, NO_KEY, token);
        case "multimapKeysValuesSideInput":
          return this.#page(key.value, "multimap_keys_values", key.value.window, NO_KEY, token);
        case "runner":
          return this.#largeGroup(key.value.key, token);
        default:
      }
    }
    throw unsupported(request.stateKey);
  }

  #page(
    key: { readonly transformId: string; readonly sideInputId: string },
    kind: Parameters<SideInput["page"]>[0],
    window: Uint8Array,
    encodedKey: Uint8Array,
    token: Uint8Array,
  ): Promise<StateReply> | StateReply {
    const sideInput = this.#sideInputs.get(`${key.transformId}\n${key.sideInputId}`);
    if (sideInput === undefined)
      throw new WeirError({
        code: "NOT_FOUND",
        domain: "internal",
        message: `Transform ${key.transformId} has no side input "${key.sideInputId}".`,
      });
    const page = sideInput.page(kind, window, encodedKey, token, this.#init.pageBytes);
    return page instanceof Promise ? page.then(asReply) : asReply(page);
  }

  async #largeGroup(token: Uint8Array, continuation: Uint8Array): Promise<StateReply> {
    const table = this.#init.table;
    if (table === undefined)
      throw new WeirError({ code: "NOT_FOUND", domain: "internal", message: "The stage reads no grouped input." });
    const page = await table.readLargeGroup(token, continuation, this.#init.pageBytes);
    return { kind: "get", data: page.data, continuationToken: page.continuation };
  }

  async close(): Promise<void> {
    const open = [...this.#sideInputs.values()];
    this.#sideInputs.clear();
    await Promise.all(open.map((sideInput) => sideInput.close()));
  }
}

function asReply(page: { readonly data: Uint8Array; readonly continuationToken: Uint8Array }): StateReply {
  return { kind: "get", data: page.data, continuationToken: page.continuationToken };
}

function unsupported(key: StateKey | undefined): WeirError {
  return new WeirError({
    code: "UNIMPLEMENTED",
    domain: "user",
    message: `State of kind "${key?.type?.$case ?? "unknown"}" is not supported by Weir yet.`,
  });
}
