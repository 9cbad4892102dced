// `weir checkpoint` on the checkpoints of a real job, against a reader that was written from FORMAT.md alone.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { runPython, runWeir, WeirServer } from "../support/weir-server.ts";

interface Found {
  readonly rows: number;
  readonly exported: number;
  readonly cells: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly seen: Readonly<Record<string, number>>;
  readonly last: Readonly<Record<string, number>>;
  readonly lastOfSeen: Readonly<Record<string, number>>;
  readonly timers: number;
  readonly timerFires: readonly string[];
}

const KEY_COUNT = 10;

test.serial("a job's checkpoints are listed, shown, exported to Arrow and verified; damage is found", async (t) => {
  t.timeout(180_000);
  const directory = mkdtempSync(join(tmpdir(), "weir-checkpoint-tools-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const checkpoints = join(directory, "checkpoints");
  const server = await WeirServer.open(["--worker-slots", "2"]);
  try {
    const ran = await runPython("test/checkpoint-tools/stateful_job.py", [server.endpoint, checkpoints, "4"]);
    t.is(ran.code, 0, ran.stderr.slice(-4_000));
  } finally {
    t.true(await server.close());
  }
  const listed = await runWeir(["checkpoint", "ls", checkpoints]);
  t.is(listed.code, 0, listed.stderr);
  const ids = [...listed.stdout.matchAll(/^(\d+) /gm)].map(([, id]) => Number(id));
  t.is(ids.length, 2);
  const shown = await runWeir(["checkpoint", "show", checkpoints]);
  t.is(shown.code, 0, shown.stderr);
  t.regex(shown.stdout, new RegExp(`checkpoint ${ids[1]} of job`));
  t.regex(shown.stdout, /table {2}user-state\/\S+\/count {2}\d+ rows/);

  const [file, stream] = [join(directory, "state.arrow"), join(directory, "state.arrows")];
  const exported = await runWeir(["checkpoint", "export", checkpoints, String(ids[0]), "--out", file]);
  t.is(exported.code, 0, exported.stderr);
  await runWeir(["checkpoint", "export", checkpoints, String(ids[0]), "--out", stream, "--format", "stream"]);
  const job = join(checkpoints, readdirSync(checkpoints)[0] as string);
  const read = await runPython("test/checkpoint-tools/read_snapshot.py", [
    join(job, `checkpoint-${ids[0]}.json`),
    file,
    stream,
  ]);
  t.is(read.code, 0, read.stderr);
  const found = JSON.parse(read.stdout) as Found;
  t.is(found.exported, found.rows);
  t.is(found.cells, 3 * KEY_COUNT);
  t.is(Object.keys(found.counts).length, KEY_COUNT);
  // One snapshot: what the states of a key say of it fits together.
  t.deepEqual(found.seen, found.counts);
  t.deepEqual(found.last, found.lastOfSeen);
  t.is(found.timers, KEY_COUNT);
  t.is(found.timerFires.length, 1);

  t.is((await runWeir(["checkpoint", "verify", checkpoints])).code, 0);
  const name = readdirSync(join(job, "state")).find((each) => each.endsWith(".base")) as string;
  const damaged = join(job, "state", name);
  const content = readFileSync(damaged);
  const middle = content.length >> 1;
  content[middle] = (content[middle] as number) ^ 1;
  writeFileSync(damaged, content);
  const verified = await runWeir(["checkpoint", "verify", checkpoints]);
  t.is(verified.code, 1);
  t.true(verified.stdout.includes(damaged), verified.stdout);
  const refused = await runWeir(["checkpoint", "export", checkpoints, "--out", join(directory, "not.arrow")]);
  t.is(refused.code, 1);
  t.true(refused.stderr.includes(damaged), refused.stderr);
  t.false(readdirSync(directory).some((each) => each.startsWith("not.arrow")));
});
