/**
 * `make chaos MODE=machines SEEDS=n SEED=first KILL_SECONDS=s`: scenes of one mode, one after the other. Without SEED the
 * first seed is a random one; it is printed, and each scene says its own. LOGS is a folder for the logs of all processes.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { randomHex } from "../../runner/base/clock.ts";
import { root } from "../support/weir-server.ts";
import { SCENE_SCRIPT, SCENE_TOOLS, sceneArguments } from "./chaos-scene.ts";

function text(name: string, fallback: string): string {
  const value = process.env[name];
  return value === undefined || value === "" ? fallback : value;
}

function number(name: string, fallback: number): number {
  const value = Number(text(name, String(fallback)));
  if (!Number.isSafeInteger(value)) throw new Error(`${name} must be a whole number, not "${process.env[name]}".`);
  return value;
}

const missing = SCENE_TOOLS.flatMap((tool) => tool.missing ?? []);
if (missing.length > 0) throw new Error(`The scenes cannot be run here: ${missing.join("; ")}.`);
const mode = text("MODE", "machines");
const seeds = number("SEEDS", 1);
const first = number("SEED", Number.parseInt(randomHex(3), 16));
const seconds = number("KILL_SECONDS", 120);
const logs = text("LOGS", "");
await Promise.all(SCENE_TOOLS.map((tool) => tool.install()));
const failed: number[] = [];
console.log(`${seeds} × ${mode} from seed ${first}`);
for (let seed = first; seed < first + seeds; seed++) {
  const logFolder = logs === "" ? [] : ["--logs", join(logs, String(seed))];
  const words = ["-u", SCENE_SCRIPT, ...sceneArguments({ mode, seed, seconds }), ...logFolder];
  const scene = spawn(join(root, ".venv", "bin", "python"), words, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
  });
  const [code] = (await once(scene, "close")) as [number | null];
  if (code !== 0) {
    failed.push(seed);
    console.log(`seed ${seed} FAILED: make chaos MODE=${mode} SEED=${seed} LOGS=FOLDER`);
  }
}
console.log(`${seeds - failed.length} passed, ${failed.length} failed`);
process.exitCode = failed.length === 0 ? 0 : 1;
