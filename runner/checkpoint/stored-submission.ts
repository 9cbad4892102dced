/**
 * What a job needs beside its checkpoints to go on without the disk of its job server: `submission.json` and the staged
 * files under `artifacts`, written once before the first manifest; `history-N.json`, what has happened up to event N;
 * and `ended.json`, in a folder that outlives its job. All in the job's checkpoint folder; described in FORMAT.md.
 */
import { z } from "zod";
import { WeirError } from "../base/errors.ts";
import { locationIn } from "../storage/checkpoint-storage.ts";

const base64 = z.codec(
  z.base64(),
  z.custom<Uint8Array>((value) => value instanceof Uint8Array),
  {
    decode: (text) => new Uint8Array(Buffer.from(text, "base64")),
    encode: (bytes) => Buffer.from(bytes).toString("base64"),
  },
);
const submission = z.object({
  format: z.literal("weir-submission"),
  version: z.literal(1),
  jobId: z.string(),
  jobName: z.string(),
  submittedMs: z.number(),
  /** Owns the artifacts. */
  retrievalToken: z.string(),
  /** Encoded google.protobuf.Struct. */
  options: base64,
  /** As submitted. */
  pipeline: base64,
  /** The encoded execution graph; its environments' files are known by their checksums. */
  plan: base64,
  /** SHA-256, lower-case hex, of each staged file. */
  artifacts: z.array(z.string().regex(/^[0-9a-f]{64}$/)).readonly(),
});
const event = z.object({
  sequence: z.number().int(),
  timeMs: z.number(),
  state: z.string().exactOptional(),
  /** Of a message: the number of Beam's JobMessage.MessageImportance. */
  importance: z.number().int().exactOptional(),
  text: z.string().exactOptional(),
});
const history = z.object({
  format: z.literal("weir-history"),
  version: z.literal(1),
  /** Oldest first; of messages only the last ones. */
  events: z.array(event).readonly(),
  /** Encoded GetJobMetricsResponse. */
  metrics: base64,
});

export type StoredSubmission = Readonly<Omit<z.infer<typeof submission>, "format" | "version">>;
export type StoredHistory = Readonly<Omit<z.infer<typeof history>, "format" | "version">>;
export type StoredEvent = Readonly<z.infer<typeof event>>;

export function submissionLocation(folder: string): string {
  return locationIn(folder, "submission.json");
}

export function artifactLocation(folder: string, sha256: string): string {
  return locationIn(folder, "artifacts", sha256);
}

export function endedLocation(folder: string): string {
  return locationIn(folder, "ended.json");
}

export function historyLocation(folder: string, lastSequence: number): string {
  return locationIn(folder, `history-${lastSequence}.json`);
}

/** The newest history among the files of a folder. */
export function newestHistory(locations: readonly string[]): string | undefined {
  const found = locations.flatMap((location) => {
    const sequence = /\/history-(\d+)\.json$/.exec(location)?.[1];
    return sequence === undefined ? [] : [{ location, sequence: Number(sequence) }];
  });
  return found.sort((left, right) => right.sequence - left.sequence)[0]?.location;
}

export function encodeSubmission(content: StoredSubmission): Uint8Array {
  return bytesOf(submission.encode({ format: "weir-submission", version: 1, ...content }));
}

/** @throws WeirError DATA_LOSS naming the location */
export function decodeSubmission(bytes: Uint8Array, location: string): StoredSubmission {
  const { format: _format, version: _version, ...content } = parsed(submission, bytes, location);
  return content;
}

export function encodeHistory(content: StoredHistory): Uint8Array {
  return bytesOf(history.encode({ format: "weir-history", version: 1, ...content }));
}

/** @throws WeirError DATA_LOSS naming the location */
export function decodeHistory(bytes: Uint8Array, location: string): StoredHistory {
  const { format: _format, version: _version, ...content } = parsed(history, bytes, location);
  return content;
}

function bytesOf(value: object): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value)}\n`);
}

function parsed<Schema extends z.ZodType>(schema: Schema, bytes: Uint8Array, location: string): z.output<Schema> {
  try {
    return schema.decode(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as never);
  } catch (cause) {
    throw new WeirError({
      code: "DATA_LOSS",
      domain: "external",
      message: `${location} is not what a job server of this version writes: the job in this folder cannot be taken up.`,
      hint: "It was damaged, or written by a newer Weir.",
      cause,
    });
  }
}
