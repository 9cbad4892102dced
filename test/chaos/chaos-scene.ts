/** A chaos scene (chaos.py) as a command line, and the servers that it needs. */
import { join } from "node:path";
import { mavenJars, type CachedTool } from "../support/cached-tools.ts";
import { STORAGE_SERVERS } from "../support/storage-servers.ts";

export const SCENE_SCRIPT = "test/chaos/chaos.py";

const store = STORAGE_SERVERS.versitygw.tool;
export const SCENE_TOOLS: readonly CachedTool[] = [mavenJars("kafka-broker"), store];

export interface Scene {
  readonly mode: string;
  readonly seed: number;
  /** Of harm that comes again and again. */
  readonly seconds: number;
}

/** @returns the script's arguments; the tools are installed */
export async function sceneArguments({ mode, seed, seconds }: Scene): Promise<string[]> {
  const versitygw = join(await store.install(), "versitygw");
  return [mode, "--seed", String(seed), "--seconds", String(seconds), "--versitygw", versitygw];
}
