/** The checkpoint coordinator of a job, over the folder where its checkpoints go. */
import { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import { channelFingerprintOf, fingerprintOf } from "../graph/plan-fingerprints.ts";
import { locationIn } from "../storage/checkpoint-storage.ts";
import { CheckpointCoordinator } from "./checkpoint-coordinator.ts";
import type { CheckpointCoordinatorInit } from "./checkpoint-coordinator-init.ts";
import { CheckpointRemovals } from "./checkpoint-removals.ts";
import { pipelineFacts } from "./open-savepoint.ts";

type Derived = "directory" | "graphFingerprint" | "channelFingerprint" | "stateTables" | "removals";

export interface OpenCoordinatorInit extends Omit<CheckpointCoordinatorInit, Derived> {
  /** Of all jobs that do not say where: a local directory. */
  readonly checkpointDirectory: string;
  /** Opens a job's directory of checkpoints by its absolute path; default: the local one. */
  readonly openCheckpoints?: (path: string) => CheckpointDirectory;
  /** Of the folders of all jobs. */
  readonly removals?: CheckpointRemovals;
}

export function openCoordinator(init: OpenCoordinatorInit): CheckpointCoordinator {
  const { run, settings, checkpointDirectory, openCheckpoints, removals = new CheckpointRemovals(init) } = init;
  const path = locationIn(settings.storageDirectory ?? checkpointDirectory, run.jobId);
  return new CheckpointCoordinator({
    ...init,
    directory: openCheckpoints?.(path) ?? new CheckpointDirectory(path),
    graphFingerprint: fingerprintOf(run.graph),
    channelFingerprint: channelFingerprintOf(run.graph),
    stateTables: pipelineFacts(run.graph),
    removals,
  });
}
