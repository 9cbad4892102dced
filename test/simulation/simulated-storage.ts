/**
 * Checkpoint storage of a simulation: files in memory that appear after a delay, whole or not at all. What a worker was
 * writing when it died never appears; what had appeared outlives everything.
 */
import type { SnapshotFile } from "../../proto/gen/worker.ts";
import { WeirError } from "../../runner/base/errors.ts";
import { CheckpointDirectory, type ClaimedFolder } from "../../runner/checkpoint/checkpoint-directory.ts";
import { filesOf, type SnapshotManifest } from "../../runner/checkpoint/snapshot-manifest.ts";
import type { InFlightRow } from "../../runner/worker/stream/in-flight/in-flight-rows.ts";
import type { StateRows, StateTable } from "../../runner/state/state-rows.ts";
import type { SnapshotExtras } from "../../runner/worker/stream/stream-task-environment.ts";
import type { SeededRandom, SimulatedTime } from "./simulated-time.ts";

export type Tables = ReadonlyMap<string, ReadonlyMap<string, Uint8Array>>;

export class SimulatedStorage {
  readonly #time: SimulatedTime;
  readonly #random: SeededRandom;
  readonly #writeMs: number;
  readonly #states = new Map<string, Tables>();
  readonly #manifests = new Map<number, SnapshotManifest>();
  /** While it is set, every write fails. */
  isDown = false;
  /** So many writes to come fail: of tasks' state, and of manifests. */
  readonly failuresLeft = { state: 0, manifest: 0 };
  #completedSinceLoss = 0;
  /** Files of in-flight data that were read. */
  inFlightReads = 0;

  constructor(time: SimulatedTime, random: SeededRandom, writeMs: number) {
    this.#time = time;
    this.#random = random;
    this.#writeMs = writeMs;
  }

  async #delay(what: "state" | "manifest"): Promise<void> {
    await this.#time.sleep(this.#random.next() * this.#writeMs);
    if (!this.isDown && this.failuresLeft[what] === 0) return;
    if (!this.isDown) this.failuresLeft[what]--;
    throw new WeirError({ code: "UNAVAILABLE", domain: "external", message: "The storage is down.", retry: true });
  }

  async writeState(path: string, tables: Tables, isAlive: () => boolean): Promise<SnapshotFile> {
    await this.#delay("state");
    if (isAlive()) this.#states.set(path, tables);
    return { path, byteLength: 1n, sha256: "", inFlight: false };
  }

  /** @throws WeirError DATA_LOSS when there is no such file */
  async readState(path: string): Promise<Tables> {
    await this.#time.sleep(this.#random.next() * this.#writeMs);
    const tables = this.#states.get(path);
    if (tables === undefined)
      throw new WeirError({ code: "DATA_LOSS", domain: "external", message: `${path} is missing.` });
    if (/-\d+\.in-flight\./.test(path)) this.inFlightReads++;
    return tables;
  }

  /** A file of the newest checkpoint is gone. @returns false when the job may have no older one that is whole */
  loseFile(): boolean {
    const newest = [...this.#manifests.values()].sort((left, right) => left.checkpointId - right.checkpointId).at(-1);
    if (newest === undefined || this.#completedSinceLoss < 2) return false;
    this.#completedSinceLoss = 0;
    this.#states.delete(this.#random.pick(filesOf(newest)).path);
    return true;
  }

  get stateCount(): number {
    return this.#states.size;
  }

  directory(path: string): CheckpointDirectory {
    return new SimulatedDirectory(path, {
      write: async (manifest) => {
        await this.#delay("manifest");
        this.#manifests.set(manifest.checkpointId, manifest);
        this.#completedSinceLoss++;
      },
      read: (checkpointId) => this.#manifests.get(checkpointId),
      hasState: (file) => this.#states.has(file),
      paths: () => [...this.#states.keys()],
      delete: (file) => this.#states.delete(file),
      delay: () => this.#time.sleep(this.#random.next() * this.#writeMs),
    });
  }
}

interface DirectoryFiles {
  write(manifest: SnapshotManifest): Promise<void>;
  read(checkpointId: number): SnapshotManifest | undefined;
  hasState(path: string): boolean;
  paths(): readonly string[];
  delete(path: string): void;
  delay(): Promise<void>;
}

class SimulatedDirectory extends CheckpointDirectory {
  readonly #files: DirectoryFiles;

  constructor(path: string, files: DirectoryFiles) {
    super(path);
    this.#files = files;
  }

  override open(): Promise<void> {
    return this.#files.delay();
  }

  override async claim(attemptFloor: number): Promise<ClaimedFolder> {
    await this.#files.delay();
    return { epoch: 1, attemptFloor, checkpointIds: [], stateFiles: [] };
  }

  override write(manifest: SnapshotManifest): Promise<void> {
    return this.#files.write(manifest);
  }

  override async read(checkpointId: number): Promise<SnapshotManifest> {
    await this.#files.delay();
    const manifest = this.#files.read(checkpointId);
    if (manifest === undefined)
      throw new WeirError({ code: "NOT_FOUND", domain: "external", message: `No manifest ${checkpointId}.` });
    return manifest;
  }

  override verify(manifest: SnapshotManifest): Promise<void> {
    const missing = filesOf(manifest).find(({ path }) => !this.#files.hasState(path));
    if (missing === undefined) return Promise.resolve();
    return Promise.reject(
      new WeirError({ code: "DATA_LOSS", domain: "external", message: `${missing.path} is missing.` }),
    );
  }

  override async locations(): Promise<readonly string[]> {
    await this.#files.delay();
    return this.#files.paths();
  }

  override async delete(paths: readonly string[]): Promise<void> {
    await this.#files.delay();
    for (const path of paths) this.#files.delete(path);
  }

  override remove(): Promise<void> {
    return Promise.resolve();
  }
}

type InFlightRows = Promise<Iterable<InFlightRow> | undefined> | undefined;
type Store = (checkpointId: number, tables: Tables, inFlight: InFlightRows) => Promise<readonly SnapshotFile[]>;

export function tablesOf(rows: Iterable<InFlightRow>): Tables {
  const tables = new Map<string, Map<string, Uint8Array>>();
  for (const { table, key, value } of rows) {
    const known = tables.get(table);
    if (known === undefined) tables.set(table, new Map([[key, value]]));
    else known.set(key, value);
  }
  return tables;
}

/** Rows of one task; every snapshot is a whole copy. */
export class SimulatedRows implements StateRows {
  readonly #tables = new Map<string, Map<string, Uint8Array>>();
  readonly #store: Store;

  /** @param restored files of one snapshot, with different tables */
  constructor(restored: readonly Tables[], store: Store) {
    this.#store = store;
    for (const tables of restored) for (const [name, rows] of tables) this.#tables.set(name, new Map(rows));
  }

  table(name: string): StateTable {
    let rows = this.#tables.get(name);
    if (rows === undefined) this.#tables.set(name, (rows = new Map()));
    const table = rows;
    return {
      get: (key) => table.get(key),
      put: (key, value) => void table.set(key, value),
      delete: (key) => void table.delete(key),
      entries: () => table.entries(),
    };
  }

  relief(): undefined {
    return undefined;
  }

  snapshot(checkpointId: number, { inFlight }: SnapshotExtras): Promise<readonly SnapshotFile[]> {
    // Row by row: what the task changes in place afterwards must not be in it.
    const frozen = new Map(
      [...this.#tables].map(([name, rows]) => [name, new Map([...rows].map(([key, value]) => [key, value.slice()]))]),
    );
    return this.#store(checkpointId, frozen, inFlight);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
