/**
 * The side inputs of one streaming task. They arrive through channels while main input that needs them waits.
 *
 * Invariants: while a bundle is open nothing that it can read changes, so that a retry sees what the first attempt saw;
 * what arrives meanwhile is put in when the bundle ends. Between bundles everything that arrived is rows.
 */
import type { ProcessBundleRequest_CacheToken, StateRequest } from "../../../../proto/gen/beam_fn_api.ts";
import type { Chunk } from "../../../base/chunk.ts";
import { WeirError } from "../../../base/errors.ts";
import { WindowedValueLayout } from "../../../coders/windowed-value.ts";
import type { ExecutableStageSpec, ExecutionGraph } from "../../../graph/execution-graph.ts";
import type { SideInputKind } from "../../../state/side-input/materialised-side-input.ts";
import { NO_KEY_GROUP, type StateTable } from "../../../state/state-rows.ts";
import { MIN_TIMESTAMP, readTimestamp, type Timestamp, writeTimestamp } from "../../../time/timestamp.ts";
import type { StateReply } from "../../task/harness-connection.ts";
import type { SideInputArrival, StreamSideInputs } from "../stream-ports.ts";
import { type DividedChunk, divideByWindow } from "./divide-by-window.ts";
import { StreamSideInput } from "./stream-side-input.ts";
import type { MapWindows } from "./window-mapping.ts";

export interface TaskSideInputsInit {
  /** Only for this. */
  readonly table: StateTable;
  readonly stage: ExecutableStageSpec;
  readonly graph: ExecutionGraph;
  readonly pageBytes: number;
  /** Of what arrives while a bundle is open; default: no limit. */
  readonly maxArrivedBytes?: number;
  /** One key of a map with its values, read in bulk. */
  readonly mapEntryBytes: number;
  /** Unique over the job's tasks and execution attempts: another instance's tokens must not be taken for this one's. */
  readonly cacheTokenPrefix: string;
  /** For side inputs in custom windows; without it they are ready at their end only. */
  readonly mapWindows?: MapWindows;
  /** A window was mapped that was not known: waiting main input may be ready. Or it could not be mapped. */
  readonly onMapped?: (failure?: unknown) => void;
}

const WATERMARK_ROWS = `${NO_KEY_GROUP}w`;
const NO_KEY = new Uint8Array(0);

export class TaskSideInputs implements StreamSideInputs {
  readonly #table: StateTable;
  readonly #pageBytes: number;
  readonly #maxArrivedBytes: number;
  readonly #tokenPrefix: string;
  readonly #layout: WindowedValueLayout;
  readonly #sideInputs: readonly StreamSideInput[];
  readonly #byName = new Map<string, StreamSideInput>();
  readonly #byDataset = new Map<string, StreamSideInput[]>();
  readonly #watermarks = new Map<string, Timestamp>();
  #openBundles = 0;
  /** While a bundle was open. */
  #arrived: SideInputArrival[] = [];
  #arrivedBytes = 0;
  /** To be done when no bundle is open. */
  #expiredUpTo: Timestamp | undefined;

  constructor(init: TaskSideInputsInit) {
    const { table, stage, graph, pageBytes, mapEntryBytes, cacheTokenPrefix, mapWindows, onMapped } = init;
    this.#table = table;
    this.#pageBytes = pageBytes;
    this.#maxArrivedBytes = init.maxArrivedBytes ?? Infinity;
    this.#tokenPrefix = cacheTokenPrefix;
    this.#layout = new WindowedValueLayout(graph.coders, stage.inputCoderId);
    for (const [rowKey, row] of table.entries())
      if (rowKey.startsWith(WATERMARK_ROWS))
        this.#watermarks.set(rowKey.slice(WATERMARK_ROWS.length), readTimestamp(row, 0));
    this.#sideInputs = stage.sideInputs.map((spec, index) => {
      const sideInput = new StreamSideInput(
        table,
        `${NO_KEY_GROUP}e${index}:`,
        graph,
        spec,
        this.#watermarkOf(spec.datasets),
        mapEntryBytes,
        mapWindows,
        onMapped ?? (() => undefined),
      );
      this.#byName.set(`${spec.transformId}\n${spec.localName}`, sideInput);
      for (const dataset of new Set<string>(spec.datasets)) {
        const readers = this.#byDataset.get(dataset);
        if (readers === undefined) this.#byDataset.set(dataset, [sideInput]);
        else readers.push(sideInput);
      }
      return sideInput;
    });
  }

  /**
   * Until the returned function is called, once, nothing changes for `answer`, `cacheTokens`, `divide` and `allReady`:
   * for a bundle with all its attempts.
   */
  freeze(): () => void {
    this.#openBundles++;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      this.#openBundles--;
      if (this.#openBundles > 0) return;
      const arrived = this.#arrived;
      this.#arrived = [];
      this.#arrivedBytes = 0;
      for (const arrival of arrived) this.#apply(arrival);
      if (this.#expiredUpTo !== undefined) this.expire(this.#expiredUpTo);
    };
  }

  get arrived(): readonly SideInputArrival[] {
    return this.#arrived;
  }

  get isFull(): boolean {
    return this.#arrivedBytes >= this.#maxArrivedBytes;
  }

  add(datasetId: string, chunk: Chunk): void {
    this.#arrive({ datasetId, entry: { kind: "data", chunk } });
  }

  advance(datasetId: string, timestamp: Timestamp): void {
    this.#arrive({ datasetId, entry: { kind: "watermark", timestamp } });
  }

  #arrive(arrival: SideInputArrival): void {
    if (this.#openBundles === 0) {
      this.#apply(arrival);
      return;
    }
    this.#arrived.push(arrival);
    if (arrival.entry.kind === "data") this.#arrivedBytes += arrival.entry.chunk.data.length;
  }

  #apply({ datasetId, entry }: SideInputArrival): void {
    const readers = this.#byDataset.get(datasetId) ?? [];
    if (entry.kind === "data") for (const sideInput of readers) sideInput.add(entry.chunk);
    else if (entry.timestamp > (this.#watermarks.get(datasetId) ?? MIN_TIMESTAMP)) {
      this.#watermarks.set(datasetId, entry.timestamp);
      const row = new Uint8Array(8);
      writeTimestamp(row, 0, entry.timestamp);
      this.#table.put(WATERMARK_ROWS + datasetId, row);
      for (const sideInput of readers) sideInput.advance(this.#watermarkOf(sideInput.spec.datasets));
    }
  }

  #watermarkOf(datasets: readonly string[]): Timestamp {
    return datasets.reduce<number>(
      (least, dataset) => Math.min(least, this.#watermarks.get(dataset) ?? MIN_TIMESTAMP),
      Infinity,
    ) as Timestamp;
  }

  get allReady(): boolean {
    return this.#sideInputs.every((sideInput) => sideInput.allReady);
  }

  get notReady(): { readonly transformId: string; readonly localName: string }[] {
    return this.#sideInputs.filter((sideInput) => !sideInput.allReady).map(({ spec }) => spec);
  }

  divide(chunk: Chunk): DividedChunk {
    const open = this.#sideInputs.filter((sideInput) => !sideInput.allReady);
    if (open.length === 0) return { ready: chunk, waiting: undefined };
    return divideByWindow(chunk, this.#layout, (window) => open.every((sideInput) => sideInput.isReady(window)));
  }

  answer(request: StateRequest): StateReply {
    const key = request.stateKey?.type;
    const get = request.request?.$case === "get" ? request.request.value : undefined;
    if (key !== undefined && get !== undefined)
      switch (key.$case) {
        case "iterableSideInput":
          return this.#page(key.value, "iterable", NO_KEY, get.continuationToken);
        case "multimapSideInput":
          return this.#page(key.value, "multimap", key.value.key, get.continuationToken);
        case "multimapKeysSideInput":
          return this.#page(key.value, "multimap_keys", NO_KEY, get.continuationToken);
        case "multimapKeysValuesSideInput":
          return this.#page(key.value, "multimap_keys_values", NO_KEY, get.continuationToken);
        default:
      }
    throw new WeirError({
      code: "INVALID_ARGUMENT",
      domain: "internal",
      message: `A side input was asked for "${key?.$case ?? "nothing"}" by "${request.request?.$case ?? "nothing"}".`,
    });
  }

  #page(
    key: { readonly transformId: string; readonly sideInputId: string; readonly window: Uint8Array },
    kind: SideInputKind,
    encodedKey: Uint8Array,
    token: Uint8Array,
  ): StateReply {
    const sideInput = this.#byName.get(`${key.transformId}\n${key.sideInputId}`);
    if (sideInput === undefined)
      throw new WeirError({
        code: "NOT_FOUND",
        domain: "internal",
        message: `Transform ${key.transformId} has no side input "${key.sideInputId}".`,
      });
    const { data, continuationToken } = sideInput.page(kind, key.window, encodedKey, token, this.#pageBytes);
    return { kind: "get", data, continuationToken };
  }

  cacheTokens(): ProcessBundleRequest_CacheToken[] {
    return this.#sideInputs.map(({ spec, tokenVersion }) => ({
      type: {
        $case: "sideInput",
        value: { transformId: spec.transformId, sideInputId: spec.localName },
      },
      token: Buffer.from(`${this.#tokenPrefix}.${tokenVersion}`),
    }));
  }

  /** @param mainInputWatermark not past main input that waits, nor past residuals: their windows would be gone. */
  expire(mainInputWatermark: Timestamp): void {
    this.#expiredUpTo = this.#openBundles > 0 ? mainInputWatermark : undefined;
    if (this.#openBundles === 0) for (const sideInput of this.#sideInputs) sideInput.expire(mainInputWatermark);
  }
}
