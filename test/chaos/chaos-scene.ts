/** A chaos scene (chaos.py) as a command line, and the servers that it needs. */
import { mavenJars, type CachedTool } from "../support/cached-tools.ts";
import { STORAGE_SERVERS } from "../support/storage-servers.ts";

export const SCENE_SCRIPT = "test/chaos/chaos.py";

export const SCENE_TOOLS: readonly CachedTool[] = [mavenJars("kafka-broker"), STORAGE_SERVERS.versitygw.tool];

export interface Scene {
  readonly mode: string;
  readonly seed: number;
  /** Of harm that comes again and again. */
  readonly seconds: number;
}

/** The script's arguments. */
export function sceneArguments({ mode, seed, seconds }: Scene): string[] {
  return [mode, "--seed", String(seed), "--seconds", String(seconds)];
}
