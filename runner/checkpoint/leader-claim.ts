/**
 * Who may complete a job's checkpoints. Every job server that runs a job puts a claim into the job's checkpoint folder,
 * `leader-EPOCH.json`, with the epoch after the highest that is there; the store lets only one of two create it. A server
 * has lost the job when there is a claim of the epoch after its own: epochs have no gaps, and claims are never deleted
 * while the folder is there.
 *
 * Execution attempts of a claim's server have numbers of their own, above its `attemptFloor`: names of snapshot files
 * contain them, and so two servers never write the same file, even while both believe that they run the job.
 */
import { z } from "zod";
import { WeirError } from "../base/errors.ts";

/** Far more than a job restarts under one server; the numbers are 32 bits wide. */
export const ATTEMPTS_PER_CLAIM = 100_000;

const claim = z.object({
  format: z.literal("weir-leader"),
  version: z.literal(1),
  /** Of this one process: two servers never write the same bytes. */
  server: z.string(),
  claimedMs: z.number(),
  attemptFloor: z.number().int().nonnegative(),
});

export type LeaderClaim = Readonly<Omit<z.infer<typeof claim>, "format" | "version">>;

/** Another job server has claimed the job since. */
export class SupersededError extends WeirError {
  constructor(folder: string) {
    super({
      code: "FAILED_PRECONDITION",
      domain: "external",
      message: `Another job server has taken the job up: it holds ${folder} now.`,
      hint: "Ask that one for the job.",
    });
  }
}

export function encodeClaim(content: LeaderClaim): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify({ format: "weir-leader", version: 1, ...content })}\n`);
}

/** @param location for messages. @throws WeirError DATA_LOSS */
export function decodeClaim(bytes: Uint8Array, location: string): LeaderClaim {
  try {
    const { format: _format, version: _version, ...content } = claim.parse(JSON.parse(new TextDecoder().decode(bytes)));
    return content;
  } catch (cause) {
    throw new WeirError({
      code: "DATA_LOSS",
      domain: "external",
      message: `${location} does not say which job server runs the job.`,
      hint: "It was damaged, or written by a newer Weir.",
      cause,
    });
  }
}

/** Files of a job's checkpoint folder, by kind. */
export interface FolderContents {
  /** Ids of the checkpoints that have a manifest, in no order. */
  readonly checkpointIds: readonly number[];
  /** 0: nobody has claimed it. */
  readonly highestEpoch: number;
  /** Locations of the tasks' snapshot files, of complete checkpoints and of others. */
  readonly stateFiles: readonly string[];
}

/** @param names relative to the folder, by location */
export function folderContents(names: ReadonlyMap<string, string>): FolderContents {
  const checkpointIds: number[] = [];
  const stateFiles: string[] = [];
  let highestEpoch = 0;
  for (const [location, name] of names) {
    const manifest = /^checkpoint-(\d+)\.json$/.exec(name);
    const leader = /^leader-(\d+)\.json$/.exec(name);
    if (manifest !== null) checkpointIds.push(Number(manifest[1]));
    else if (leader !== null) highestEpoch = Math.max(highestEpoch, Number(leader[1]));
    else if (/^state\/[^/]+\.(base|delta|in-flight)$/.test(name)) stateFiles.push(location);
  }
  return { checkpointIds, highestEpoch, stateFiles };
}
