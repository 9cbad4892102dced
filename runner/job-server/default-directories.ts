/** Where a server that was not told otherwise keeps its files. */
import { mkdirSync } from "node:fs";
import { homedir, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { makeTemporaryDirectory } from "../base/temporary-directory.ts";

export interface DataDirectory {
  readonly path: string;
  /** Made for this process alone, and to be removed with it. */
  readonly temporary: boolean;
}

/**
 * The user's state folder, one for each job port, so that a restarted server finds its jobs and two servers do not
 * share a store. A server on any free port cannot be found again: its folder is temporary.
 */
export function defaultDataDirectory(jobPort: number): DataDirectory {
  if (jobPort === 0) return { path: makeTemporaryDirectory("data"), temporary: true };
  const name = `port-${jobPort}`;
  const path = join(process.env["XDG_STATE_HOME"] ?? join(homedir(), ".local", "state"), "weir", name);
  try {
    mkdirSync(path, { recursive: true });
    return { path, temporary: false };
  } catch {
    // No home that can be written, as in many containers.
    return { path: join(tmpdir(), `weir-${userInfo().uid}`, name), temporary: false };
  }
}

/** As Beam's job servers. */
export function defaultArtifactsDirectory(): string {
  return join(tmpdir(), "beam-artifact-staging");
}
