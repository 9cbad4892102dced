/**
 * The manifest of a complete checkpoint: which files together are the job's state. It is written last, so a checkpoint
 * without manifest was never complete.
 *
 * Format, version 1: one JSON object in UTF-8, in the file `checkpoint-ID.json` of the job's checkpoint directory.
 *
 *   format            "weir-checkpoint"
 *   version           1; a reader refuses a greater one
 *   jobId, jobName    strings
 *   checkpointId      number, growing over the job's life
 *   executionAttempt  number: the attempt that took it
 *   leaderEpoch       number: the claim (leader-claim.ts) of the job server that took it, from 1; may be missing
 *   graphFingerprint  lower-case hex: SHA-256 of the encoded execution graph; a snapshot fits only the same graph
 *   channelFingerprint  lower-case hex, of stages and channels alone: what was in flight fits those; may be missing
 *   maxParallelism    number of key groups
 *   triggeredMs, completedMs   milliseconds since 1970
 *   tasks             one for each task: vertexId, subtaskIndex, parallelism, and its files, oldest first, each with
 *                     path (relative to the manifest where the file lies below it, absolute elsewhere), byteLength
 *                     and sha256 (lower-case hex); the last may be inFlight: true, what was on its way
 *   tables            what tasks keep as keyed rows, so that the files can be read without the pipeline: vertexId,
 *                     table, kind, transformId, transform, stateId, ids of coders, and windowing (windowFn, trigger,
 *                     accumulationMode, allowedLatenessMs; of groupings also merging, triggerText (for people),
 *                     timestampCombiner, closingBehavior, onTimeBehavior), which may be missing; may be missing
 *   coders            by id: urn, components (ids), payload (base64, of rows only); may be missing
 *   vertices          the plan's stages: vertexId, name, and transforms (id, name) in their order, so that another
 *                     submission's stages can be told to be the same; may be missing
 *   record            how the checkpoint went: alignmentMs, commitWaitMs, writeMs, writtenBytes, stateBytes, warnings,
 *                     and where there is something to say waitedFor, unaligned, inFlightBytes; may be missing
 *
 * What a reader does not know it ignores. The files' own format is in FORMAT.md.
 */
import { z } from "zod";
import { WeirError } from "../base/errors.ts";

const VERSION = 1;

const file = z.object({
  path: z.string(),
  byteLength: z.number().int().nonnegative(),
  sha256: z.string(),
  /** What had been overtaken by this checkpoint's barrier: of no use to any other one. */
  inFlight: z.boolean().exactOptional(),
});
const task = z.object({
  vertexId: z.string(),
  subtaskIndex: z.number().int(),
  parallelism: z.number().int(),
  files: z.array(file),
});
const KINDS = ["value", "bag", "combining", "map", "set", "ordered-list", "multimap", "timers", "grouping"] as const;
const table = z.object({
  vertexId: z.string(),
  table: z.string(),
  kind: z.enum(KINDS),
  transformId: z.string(),
  transform: z.string(),
  stateId: z.string(),
  keyCoderId: z.string(),
  windowCoderId: z.string(),
  valueCoderId: z.string(),
  mapKeyCoderId: z.string(),
  windowing: z
    .object({
      windowFn: z.string(),
      trigger: z.string(),
      accumulationMode: z.string(),
      allowedLatenessMs: z.number(),
      // Of groupings.
      merging: z.boolean().exactOptional(),
      triggerText: z.string().exactOptional(),
      timestampCombiner: z.string().exactOptional(),
      closingBehavior: z.string().exactOptional(),
      onTimeBehavior: z.string().exactOptional(),
    })
    .readonly()
    .exactOptional(),
  timeDomain: z.enum(["EVENT_TIME", "PROCESSING_TIME"]).exactOptional(),
});
const coder = z.object({
  urn: z.string(),
  components: z.array(z.string()).readonly(),
  payload: z.string().exactOptional(),
});
const vertex = z.object({
  vertexId: z.string(),
  name: z.string(),
  transforms: z.array(z.object({ id: z.string(), name: z.string() })).readonly(),
});
const record = z.object({
  /** The longest of any task, each. */
  alignmentMs: z.number(),
  commitWaitMs: z.number(),
  writeMs: z.number(),
  /** By this checkpoint, and all that it needs. */
  writtenBytes: z.number(),
  stateBytes: z.number(),
  /** Of settings that hurt. */
  warnings: z.array(z.string()).readonly(),
  /** What commitWaitMs was spent on, and by which task. */
  waitedFor: z.string().exactOptional(),
  /** A barrier has overtaken data. */
  unaligned: z.boolean().exactOptional(),
  /** What of it was on its way, before compression. */
  inFlightBytes: z.number().int().nonnegative().exactOptional(),
});
const manifest = z.object({
  format: z.literal("weir-checkpoint"),
  version: z.literal(VERSION),
  jobId: z.string(),
  jobName: z.string(),
  checkpointId: z.number().int(),
  executionAttempt: z.number().int(),
  leaderEpoch: z.number().int().exactOptional(),
  graphFingerprint: z.string(),
  channelFingerprint: z.string().exactOptional(),
  maxParallelism: z.number().int(),
  triggeredMs: z.number(),
  completedMs: z.number(),
  tasks: z.array(task),
  tables: z.array(table).readonly().exactOptional(),
  coders: z.record(z.string(), coder).readonly().exactOptional(),
  vertices: z.array(vertex).readonly().exactOptional(),
  record: record.exactOptional(),
});

export type SnapshotFileRef = Readonly<z.infer<typeof file>>;
export type ManifestTable = Readonly<z.infer<typeof table>>;
export type ManifestVertex = Readonly<z.infer<typeof vertex>>;
export type ManifestCoder = Readonly<z.infer<typeof coder>>;
export type CheckpointRecord = Readonly<z.infer<typeof record>>;
export type ManifestTask = Readonly<z.infer<typeof task>>;
export type SnapshotManifest = Readonly<Omit<z.infer<typeof manifest>, "format" | "version">>;

export function encodeManifest(content: SnapshotManifest): Uint8Array {
  const whole = { format: "weir-checkpoint", version: VERSION, ...content };
  return new TextEncoder().encode(`${JSON.stringify(whole, undefined, 1)}\n`);
}

/** @param path for messages. @throws WeirError DATA_LOSS for bytes that are no manifest, or one of a newer version. */
export function decodeManifest(bytes: Uint8Array, path: string): SnapshotManifest {
  try {
    const {
      format: _format,
      version: _version,
      ...content
    } = manifest.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
    return content;
  } catch (cause) {
    throw new WeirError({
      code: "DATA_LOSS",
      domain: "external",
      message: `${path} is not a checkpoint manifest of version ${VERSION}: ${firstProblem(cause)}.`,
      hint: "It was damaged, or written by a newer Weir.",
      cause,
    });
  }
}

function firstProblem(cause: unknown): string {
  if (cause instanceof z.ZodError) {
    const issue = cause.issues[0];
    return `${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`;
  }
  return cause instanceof Error ? cause.message : String(cause);
}

/** Every file that the checkpoint needs. */
export function filesOf({ tasks }: SnapshotManifest): readonly SnapshotFileRef[] {
  return tasks.flatMap(({ files }) => files);
}

/** It was taken unaligned, and holds data that was on its way between tasks. */
export function holdsInFlight(manifest: SnapshotManifest): boolean {
  return filesOf(manifest).some(({ inFlight }) => inFlight === true);
}
