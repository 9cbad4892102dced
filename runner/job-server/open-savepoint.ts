/**
 * The snapshot that a new job is to go on from: `savepoint_path` names a manifest, or a directory whose newest
 * manifest is taken. Its files belong to whoever made them: the job reads them and never deletes one.
 */
import { CheckpointDirectory } from "../checkpoint/checkpoint-directory.ts";
import { matchSavepoint, type PipelineFacts, type SavepointMatch } from "../checkpoint/match-savepoint.ts";
import { holdsInFlight, type SnapshotManifest } from "../checkpoint/snapshot-manifest.ts";
import { WeirError } from "../base/errors.ts";
import type { ExecutionGraph } from "../graph/execution-graph.ts";
import { channelFingerprintOf, fingerprintOf } from "../graph/plan-fingerprints.ts";
import { describeStateTables } from "../graph/state-tables.ts";
import { openStorage } from "../storage/open-storage.ts";

export interface OpenedSavepoint {
  readonly path: string;
  readonly manifest: SnapshotManifest;
  readonly match: SavepointMatch;
}

const MANIFEST = /^(.*)\/checkpoint-(\d+)\.json$/;

/** @throws WeirError naming the path when there is no snapshot, it is damaged, or does not fit the pipeline. */
export async function openSavepoint(
  path: string,
  graph: ExecutionGraph,
  allowNonRestored: boolean,
): Promise<OpenedSavepoint> {
  const manifest = await readSavepoint(path);
  const hasSameChannels =
    manifest.graphFingerprint === fingerprintOf(graph) || manifest.channelFingerprint === channelFingerprintOf(graph);
  if (holdsInFlight(manifest) && !hasSameChannels)
    throw new WeirError({
      code: "FAILED_PRECONDITION",
      domain: "user",
      message: `The pipeline cannot go on from ${path}: it is an unaligned checkpoint of another pipeline, with data that was on its way between that one's stages.`,
      hint: "A savepoint of that job holds no such data: it can be restored into a pipeline that was changed.",
    });
  const match = matchSavepoint(manifest, pipelineFacts(graph));
  const problems = [...match.incompatible, ...(allowNonRestored ? [] : match.notRestored)];
  if (problems.length > 0)
    throw new WeirError({
      code: "FAILED_PRECONDITION",
      domain: "user",
      message: `The pipeline cannot go on from ${path}: ${problems.join(" ")}`,
      hint:
        match.incompatible.length > 0
          ? "Put back what was changed, or start without --savepoint_path."
          : "Set --allow_non_restored_state to drop it.",
    });
  return { path, manifest, match };
}

/** With absolute locations, and all of its files there. @throws WeirError as above */
async function readSavepoint(path: string): Promise<SnapshotManifest> {
  const [, folder, id] = MANIFEST.exec(path) ?? (await newestIn(path));
  const directory = new CheckpointDirectory(folder ?? path);
  const manifest = await directory.read(Number(id));
  await directory.verify(manifest);
  return manifest;
}

async function newestIn(path: string): Promise<RegExpExecArray> {
  const folder = path.replace(/(?<=.)\/+$/, "");
  const found = (await openStorage(folder).list(folder))
    .map((location) => MANIFEST.exec(location))
    .filter((match) => match?.[1] === folder)
    .sort((left, right) => Number(right?.[2]) - Number(left?.[2]))[0];
  if (found !== undefined && found !== null) return found;
  throw new WeirError({
    code: "NOT_FOUND",
    domain: "user",
    message: `There is no savepoint or checkpoint in ${path}: it has no checkpoint-ID.json.`,
    hint: "--savepoint_path is what `weir savepoint` printed, a job's checkpoint directory, or one manifest in it.",
  });
}

/** What a manifest says of a plan. */
export function pipelineFacts(graph: ExecutionGraph): PipelineFacts {
  const vertices = graph.vertices.map(({ id, name, stage }) => ({
    vertexId: id as string,
    name,
    transforms: (stage?.transforms ?? []).map((transform) => ({ id: transform.id, name: transform.uniqueName })),
  }));
  return { vertices, ...describeStateTables(graph) };
}
