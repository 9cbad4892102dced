/**
 * Gathers how the checkpoints of a job go, task by task, for their records, and tells of settings that hurt: each once,
 * on every record as long as it is so. Pure but for what it remembers.
 */
import {
  type CheckpointFacts,
  GROWING_IN_A_ROW,
  type GuardRail,
  guardRailWarnings,
  type GuardRailWarning,
  isFullSnapshot,
  type SettingsFacts,
  settingsWarnings,
} from "./guard-rails.ts";
import type { CheckpointRecord, SnapshotFileRef } from "./snapshot-manifest.ts";

/** A task's acknowledgment. */
export interface TaskReport {
  /** For people. */
  readonly name: string;
  readonly files: readonly SnapshotFileRef[];
  readonly alignmentMs: number;
  readonly commitWaitMs: number;
  readonly writeMs: number;
  readonly inFlightBytes: number;
  readonly unaligned: boolean;
  /** What commitWaitMs was spent on, for people; empty: nothing. */
  readonly waitedFor: string;
}

type Circumstances = SettingsFacts & Pick<CheckpointFacts, "durationMs">;

export class CheckpointObserver {
  /** Of checkpoints that run. */
  readonly #reports = new Map<number, TaskReport[]>();
  /** Files of the last complete checkpoint: what it has too was not written by the next one. */
  #known: ReadonlySet<string> = new Set();
  #fullInARow = 0;
  /** Of the last complete checkpoints, oldest first. */
  #inFlightBefore: readonly number[] = [];
  readonly #told = new Set<GuardRail>();

  /** The tasks run; nothing is known but the settings. @returns warnings that there were not before */
  started(settings: SettingsFacts): readonly string[] {
    return this.#newsOf(settingsWarnings(settings));
  }

  begin(checkpointId: number): void {
    this.#reports.set(checkpointId, []);
  }

  acknowledged(checkpointId: number, report: TaskReport): void {
    this.#reports.get(checkpointId)?.push(report);
  }

  /** What was reported of it counts for nothing. */
  gaveUp(checkpointId: number): void {
    this.#reports.delete(checkpointId);
  }

  /** All tasks have acknowledged. @returns its record, and the warnings that no earlier one had */
  complete(
    checkpointId: number,
    circumstances: Circumstances,
  ): { readonly record: CheckpointRecord; readonly news: readonly string[] } {
    const reports = this.#reports.get(checkpointId) ?? [];
    this.#reports.delete(checkpointId);
    const longest = (of: (report: TaskReport) => number): number => Math.max(0, ...reports.map(of));
    const writes = reports.map(({ writeMs, files }) => ({
      writeMs,
      byteLength: byteLengthOf(files.filter(({ path }) => !this.#known.has(path))),
    }));
    const figures = {
      alignmentMs: longest(({ alignmentMs }) => alignmentMs),
      commitWaitMs: longest(({ commitWaitMs }) => commitWaitMs),
      writtenBytes: writes.reduce((sum, { byteLength }) => sum + byteLength, 0),
      stateBytes: byteLengthOf(reports.flatMap(({ files }) => files)),
    };
    const inFlightBytes = reports.reduce((sum, report) => sum + report.inFlightBytes, 0);
    const facts = {
      ...circumstances,
      inFlightBytes,
      inFlightBefore: this.#inFlightBefore,
      ...figures,
      blockedMs: Math.max(0, ...reports.map(({ unaligned, alignmentMs }) => (unaligned ? 0 : alignmentMs))),
      mostInFlight: most(reports, ({ inFlightBytes: bytes }) => bytes)?.name,
      writes: writes.filter(({ byteLength }) => byteLength > 0),
      fullInARow: this.#fullInARow,
    };
    const warnings = guardRailWarnings(facts);
    this.#fullInARow = isFullSnapshot(figures) ? this.#fullInARow + 1 : 0;
    this.#inFlightBefore = [...this.#inFlightBefore, inFlightBytes].slice(-GROWING_IN_A_ROW);
    this.#known = new Set(reports.flatMap(({ files }) => files.map(({ path }) => path)));
    return {
      record: {
        ...figures,
        writeMs: longest(({ writeMs }) => writeMs),
        ...waitedForIn(reports),
        ...(reports.some(({ unaligned }) => unaligned) ? { unaligned: true, inFlightBytes } : {}),
        warnings: warnings.map(({ message }) => message),
      },
      news: this.#newsOf(warnings),
    };
  }

  #newsOf(warnings: readonly GuardRailWarning[]): string[] {
    const news = warnings.filter(({ rail }) => !this.#told.has(rail));
    for (const { rail } of news) this.#told.add(rail);
    return news.map(({ message }) => message);
  }
}

/** Of the task that waited longest, and its name. */
function waitedForIn(reports: readonly TaskReport[]): Pick<CheckpointRecord, "waitedFor"> {
  const longest = most(reports, ({ commitWaitMs }) => commitWaitMs);
  if (longest === undefined || longest.waitedFor === "") return {};
  return { waitedFor: `${longest.waitedFor} (${longest.name})` };
}

/** The task with the greatest figure, if it is not 0. */
function most(reports: readonly TaskReport[], of: (report: TaskReport) => number): TaskReport | undefined {
  const [first] = reports.toSorted((left, right) => of(right) - of(left));
  return first !== undefined && of(first) > 0 ? first : undefined;
}

function byteLengthOf(files: readonly SnapshotFileRef[]): number {
  return files.reduce((sum, { byteLength }) => sum + byteLength, 0);
}
