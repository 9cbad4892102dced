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
 *   graphFingerprint  lower-case hex: SHA-256 of the encoded execution graph; a snapshot fits only the same graph
 *   maxParallelism    number of key groups
 *   triggeredMs, completedMs   milliseconds since 1970
 *   tasks             one for each task: vertexId, subtaskIndex, parallelism, and its files, oldest first, each with
 *                     path (relative to the manifest where the file lies below it, absolute elsewhere), byteLength
 *                     and sha256 (lower-case hex)
 *
 * What a reader does not know it ignores. The files' own format is runner/state's.
 */
import { z } from "zod";
import { WeirError } from "../base/errors.ts";

const VERSION = 1;

const file = z.object({ path: z.string(), byteLength: z.number().int().nonnegative(), sha256: z.string() });
const task = z.object({
  vertexId: z.string(),
  subtaskIndex: z.number().int(),
  parallelism: z.number().int(),
  files: z.array(file),
});
const manifest = z.object({
  format: z.literal("weir-checkpoint"),
  version: z.literal(VERSION),
  jobId: z.string(),
  jobName: z.string(),
  checkpointId: z.number().int(),
  executionAttempt: z.number().int(),
  graphFingerprint: z.string(),
  maxParallelism: z.number().int(),
  triggeredMs: z.number(),
  completedMs: z.number(),
  tasks: z.array(task),
});

export type SnapshotFileRef = Readonly<z.infer<typeof file>>;
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
