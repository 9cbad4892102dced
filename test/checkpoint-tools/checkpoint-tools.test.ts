// `weir checkpoint` on the checkpoints of a real job, against a reader that was written from FORMAT.md alone; and on
// copies of them in stores.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { locationIn } from "../../runner/storage/checkpoint-storage.ts";
import { openStorage } from "../../runner/storage/open-storage.ts";
import { findServer, STORAGE_SERVERS } from "../support/storage-servers.ts";
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

const INSTALL_LIMIT_MS = 900_000;

function temporary(t: Pick<ExecutionContext, "teardown">): string {
  const directory = mkdtempSync(join(tmpdir(), "weir-checkpoint-tools-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** What the job has left: JOB in a directory. */
const left = mkdtempSync(join(tmpdir(), "weir-checkpoint-tools-job-"));
test.after.always(() => rmSync(left, { recursive: true, force: true }));

test.before("a job takes checkpoints and is cancelled", async (t) => {
  t.timeout(180_000);
  const server = await WeirServer.open(["--worker-slots", "2"]);
  try {
    const ran = await runPython("test/checkpoint-tools/stateful_job.py", [server.endpoint, left, "4"]);
    t.is(ran.code, 0, ran.stderr.slice(-4_000));
  } finally {
    t.true(await server.close());
  }
});

test.serial("a job's checkpoints are listed, shown, exported to Arrow and verified; damage is found", async (t) => {
  t.timeout(180_000);
  const directory = temporary(t);
  const checkpoints = join(directory, "checkpoints");
  cpSync(left, checkpoints, { recursive: true });
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

for (const kind of [STORAGE_SERVERS.versitygw, STORAGE_SERVERS.gcs, STORAGE_SERVERS.hdfs]) {
  const { missing } = kind.tool;
  const declare = missing === undefined ? test.serial : test.serial.skip;
  declare(`the same by URL: ${kind.name}${missing === undefined ? "" : ` (${missing})`}`, async (t) => {
    t.timeout(INSTALL_LIMIT_MS);
    await kind.tool.install();
    const directory = temporary(t);
    mkdirSync(join(directory, "server"));
    const server = await kind.start(t, join(directory, "server"));
    findServer(t, server);
    const [job] = readdirSync(left) as [string];
    const url = locationIn(server.root, job);
    const storage = openStorage(url);
    await storage.open(locationIn(url, "state"));
    const names = readdirSync(join(left, job), { recursive: true, encoding: "utf8" });
    for (const name of names.filter((each) => each.includes(".")))
      await storage.upload(locationIn(url, name), join(left, job, name));

    const [listed, listedHere] = [await checkpoint(t, "ls", server.root), await checkpoint(t, "ls", left)];
    t.deepEqual(listed.split("\n").slice(1), listedHere.split("\n").slice(1));
    t.regex(listed, new RegExp(`^${url}\n`));
    const shown = await checkpoint(t, "show", url);
    const shownHere = await checkpoint(t, "show", join(left, job));
    t.is(shown, shownHere.replaceAll(join(left, job), url));
    t.regex(await checkpoint(t, "verify", url, "--job", job).catch(String), /no complete checkpoint of job/);
    t.is((await checkpoint(t, "verify", server.root, "--job", job)).match(/: whole/g)?.length, 2);
    const [out, outHere] = [join(directory, "there.arrow"), join(directory, "here.arrow")];
    await checkpoint(t, "export", url, "--out", out);
    await checkpoint(t, "export", left, "--out", outHere);
    t.is(readFileSync(out).compare(readFileSync(outHere)), 0);

    const base = (await storage.files(locationIn(url, "state"))).find((each) => each.endsWith(".base")) as string;
    const copy = join(directory, "copy");
    const content = readFileSync(join(left, job, base.slice(url.length)));
    content[content.length >> 1] = (content[content.length >> 1] as number) ^ 1;
    writeFileSync(copy, content);
    await storage.upload(base, copy);
    t.true((await checkpoint(t, "verify", url).catch(String)).includes(`The snapshot file ${base} is damaged`));
    await storage.delete([base]);
    t.true((await checkpoint(t, "verify", url).catch(String)).includes(base));
  });
}

/** @returns what it wrote. @throws that and its errors when its exit code is not 0 */
async function checkpoint(t: ExecutionContext, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runWeir(["checkpoint", ...args], 60_000);
  t.false(stderr.includes("    at "), stderr);
  if (code !== 0) throw new Error(`${stdout}\n${stderr}`);
  return stdout;
}
