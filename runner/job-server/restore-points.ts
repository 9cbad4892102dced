/**
 * Finds the checkpoint that a job's next execution attempt goes on from: the newest kept one that is whole.
 *
 * Invariant: one that was found to be damaged is never gone back to again; when there were some and none is left the job
 * ends, since to begin anew would repeat results.
 */
import type { SnapshotFile } from "../../proto/gen/worker.ts";
import { WeirError } from "../base/errors.ts";
import type { VertexId } from "../base/ids.ts";
import { ATTEMPTS_PER_CLAIM } from "../checkpoint/leader-claim.ts";
import { readManifests } from "../checkpoint/read-manifests.ts";
import type { RetainedCheckpoints } from "../checkpoint/retained-checkpoints.ts";
import { formerPartsOf } from "../checkpoint/rescale.ts";
import { holdsInFlight, type SnapshotFileRef, type SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import type { CheckpointCoordinatorInit } from "./checkpoint-coordinator-init.ts";
import type { OpenedSavepoint } from "./open-savepoint.ts";
import { readWhole, waitingForStore } from "./read-whole-checkpoint.ts";
import { NOTHING_RESTORED, type RestoredTask } from "./streaming-plan.ts";

/** Where an execution attempt goes on from. */
export interface RestorePoint {
  readonly checkpointId: number;
  /** A newer one was found damaged, so that no task can stay where that one was. */
  readonly fellBack: boolean;
  /** Subtasks by vertex, where it holds data that was in flight between them: it can be restored at no other number. */
  readonly boundTo: ReadonlyMap<string, number> | undefined;
  readonly taskOf: (vertexId: VertexId, subtaskIndex: number, parallelism: number) => RestoredTask;
}

type RestorePointsInit = Pick<CheckpointCoordinatorInit, "run" | "directory" | "observer" | "clock" | "settings">;

/** What an earlier job server has used up. */
export interface UsedNumbers {
  readonly executionAttempt: number;
  readonly checkpointId: number;
}

export class RestorePoints {
  readonly #init: RestorePointsInit;
  readonly #retained: RetainedCheckpoints;
  #used: UsedNumbers | undefined;
  /** What the current attempt began from, until all of its tasks run. */
  #restored: number | undefined;
  #hadSome = false;

  constructor(init: RestorePointsInit, retained: RetainedCheckpoints) {
    this.#init = init;
    this.#retained = retained;
    this.#hadSome = init.run.takeUp?.checkpointed ?? false;
  }

  /** Known when `find` has resolved. */
  get used(): UsedNumbers {
    return this.#used ?? { executionAttempt: 0, checkpointId: 0 };
  }

  /**
   * The newest complete checkpoint that is whole; when none was ever complete, the job's savepoint, or undefined: from
   * the beginning.
   * @param written settles when the manifest that is being written is durable, or given up
   * @throws WeirError naming the option when checkpoints cannot be stored; DATA_LOSS when there were some and none can be read
   */
  async find(written: Promise<unknown>): Promise<RestorePoint | undefined> {
    const { run, observer } = this.#init;
    if (this.#used !== undefined) {
      await written;
      return this.#newest();
    }
    // A new job whose store is not there fails at once; one that has run is worth a wait.
    this.#used = await (run.takeUp === undefined ? this.#open() : waitingForStore(this.#init, () => this.#open()));
    const point = await this.#newest();
    const from =
      point === undefined ? "the beginning: it had no complete checkpoint" : `checkpoint ${point.checkpointId}`;
    if (run.takeUp !== undefined) {
      observer.message("BASIC", `The job goes on from ${from}.`);
      // The server before may have ended between a manifest and its own note of it.
      const newest = this.#retained.newestFirst[0]?.executionAttempt ?? 0;
      if (newest > this.used.executionAttempt - ATTEMPTS_PER_CLAIM) observer.formerlyCheckpointed();
    }
    return point;
  }

  async #newest(): Promise<RestorePoint | undefined> {
    const { directory, observer, run } = this.#init;
    const candidates = this.#retained.newestFirst;
    if (candidates.length > 0) this.#hadSome = true;
    else if (!this.#hadSome) return run.savepoint === undefined ? undefined : savepointPoint(run.savepoint);
    for (const [index, { checkpointId }] of candidates.entries()) {
      try {
        const manifest = await readWhole(this.#init, checkpointId);
        this.#restored = checkpointId;
        return restorePointOf(manifest, index > 0);
      } catch (thrown) {
        if (WeirError.from(thrown).code === "UNAVAILABLE") throw thrown;
        this.#retained.damaged(checkpointId);
        observer.message("ERROR", `${WeirError.from(thrown).message} The job goes back to the checkpoint before it.`);
      }
    }
    throw new WeirError({
      code: "DATA_LOSS",
      domain: "external",
      message: `None of the checkpoints in ${directory.path} can be restored, and to start from the beginning would repeat results.`,
      hint: "Restore the directory, or submit the job again.",
    });
  }

  async #openFolder(): Promise<void> {
    const { directory, settings } = this.#init;
    try {
      await directory.open();
    } catch (thrown) {
      const { code, domain, message, retry } = WeirError.from(thrown);
      const where =
        settings.storageDirectory === undefined
          ? "in the job server's data directory"
          : `where --state_backend_storage_path says, ${settings.storageDirectory}`;
      const said = `Checkpoints cannot be stored ${where}. ${message}`;
      throw new WeirError({ code, domain, message: said, retry, cause: thrown });
    }
  }

  /** Takes the directory for this server, and gathers what an earlier one has left in it. */
  async #open(): Promise<UsedNumbers> {
    const { directory, observer, run, clock } = this.#init;
    await this.#openFolder();
    const floor = run.savepoint?.manifest.executionAttempt ?? 0;
    const { checkpointIds, stateFiles, attemptFloor } = await directory.claim(floor, clock);
    const { manifests, damaged } = await readManifests(directory, checkpointIds);
    for (const text of damaged) observer.message("ERROR", text);
    this.#retained.found(manifests, stateFiles);
    if (checkpointIds.length > 0) this.#hadSome = true;
    return { executionAttempt: attemptFloor, checkpointId: Math.max(0, ...checkpointIds) };
  }

  /** All tasks of the attempt run: what fails from now on is not about the files that it began from. */
  restored(): void {
    this.#restored = undefined;
  }

  /**
   * Whether a task's failure is about the files that this attempt began from. If so they are not gone back to again,
   * and another attempt may succeed.
   */
  isRestoreFailure({ code, message }: { readonly code: string; readonly message: string }): boolean {
    if (this.#restored === undefined) return false;
    if (code === "UNAVAILABLE" || (code !== "DATA_LOSS" && !message.includes(this.#init.directory.statePath)))
      return false;
    this.#retained.damaged(this.#restored);
    this.#restored = undefined;
    return true;
  }
}

/** Tasks of a vertex whose parallelism is as it was go on with their own files; else each takes its part of all. */
function restorePointOf(manifest: SnapshotManifest, fellBack: boolean): RestorePoint {
  const byVertex = Map.groupBy(manifest.tasks, ({ vertexId }) => vertexId);
  return {
    checkpointId: manifest.checkpointId,
    fellBack,
    boundTo: boundTo(manifest),
    taskOf: (vertexId, subtaskIndex, parallelism) => {
      const tasks = byVertex.get(vertexId) ?? [];
      const filesOf = (index: number) => wireFiles(tasks.find((task) => task.subtaskIndex === index)?.files ?? []);
      if (tasks.length === 0 || tasks.length === parallelism)
        return { ...NOTHING_RESTORED, restore: filesOf(subtaskIndex) };
      const parts = formerPartsOf(subtaskIndex, parallelism, tasks.length, manifest.maxParallelism);
      const former = parts.map((part) => ({ ...part, files: filesOf(part.subtaskIndex) }));
      return { ...NOTHING_RESTORED, former, formerParallelism: tasks.length };
    },
  };
}

/** A job that begins with another one's snapshot: its files are read, and no part of the job's own chains. */
export function savepointPoint({ manifest, match }: OpenedSavepoint): RestorePoint {
  const byVertex = Map.groupBy(manifest.tasks, ({ vertexId }) => vertexId);
  return {
    checkpointId: manifest.checkpointId,
    fellBack: false,
    boundTo: boundTo(manifest),
    taskOf: (vertexId, subtaskIndex, parallelism) => {
      const matched = match.vertices.get(vertexId);
      const tasks = byVertex.get(matched?.formerVertexId ?? "") ?? [];
      if (matched === undefined || tasks.length === 0) return NOTHING_RESTORED;
      const former = formerPartsOf(subtaskIndex, parallelism, tasks.length, manifest.maxParallelism)
        .filter((part) => tasks.length !== parallelism || part.subtaskIndex === subtaskIndex)
        .map((part) => ({
          ...part,
          files: wireFiles(tasks.find((task) => task.subtaskIndex === part.subtaskIndex)?.files ?? []),
        }));
      return { restore: [], former, formerParallelism: tasks.length, renamed: [...matched.renamed] };
    },
  };
}

/** See RestorePoint. */
export function boundTo(manifest: SnapshotManifest): ReadonlyMap<string, number> | undefined {
  if (!holdsInFlight(manifest)) return undefined;
  return new Map(manifest.tasks.map(({ vertexId, parallelism }) => [vertexId, parallelism]));
}

function wireFiles(files: readonly SnapshotFileRef[]): SnapshotFile[] {
  return files.map((file) => ({ ...file, byteLength: BigInt(file.byteLength), inFlight: file.inFlight ?? false }));
}
