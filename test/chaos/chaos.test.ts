// The scenes of chaos.py, once each with a random seed. `make chaos` runs many, and longer ones.
import { randomHex } from "../../runner/base/clock.ts";
import { javaTest } from "../support/java-test.ts";
import { runPython } from "../support/weir-server.ts";
import { SCENE_SCRIPT, SCENE_TOOLS, sceneArguments } from "./chaos-scene.ts";

const LIMIT_MS = 600_000;

const SCENES = [
  {
    title: "of ten workers two are lost with their disks: from Kafka to Kafka there is no gap and no double",
    mode: "machines",
    seconds: 0,
  },
  { title: "all machines, the job server and all disks are lost: S3 is enough", mode: "everything", seconds: 0 },
  { title: "harnesses that are killed every five seconds cost no rollback", mode: "harness", seconds: 20 },
];

for (const { title, mode, seconds } of SCENES)
  javaTest(title, SCENE_TOOLS, LIMIT_MS + 10_000, async (t) => {
    const seed = Number.parseInt(randomHex(3), 16);
    const { code, stdout, stderr } = await runPython(SCENE_SCRIPT, sceneArguments({ mode, seed, seconds }), LIMIT_MS);
    t.is(code, 0, `seed ${seed}\n${stdout}\n${stderr.slice(-4_000)}`);
    t.regex(stdout, /[1-9]\d* records, no gap, no double/);
    t.log(stdout.trim().split("\n").at(-1));
  });
