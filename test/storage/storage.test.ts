// What a user sees who sets the options of checkpoint storage: a stock Python pipeline on a server from dist/.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { freePort, STORAGE_SERVERS } from "../support/storage-servers.ts";
import { runPython, WeirServer } from "../support/weir-server.ts";

interface Ran {
  readonly state: string;
  readonly error: string;
  readonly messages: readonly string[];
}

const INSTALL_LIMIT_MS = 900_000;
const CHECKPOINTS = "--checkpointing_interval=60000";
const NO_CREDENTIALS = { AWS_EC2_METADATA_DISABLED: "true", METADATA_SERVER_DETECTION: "none" };

function temporary(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), "weir-storage-options-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A server that finds its stores by `environment`. */
async function serving(t: ExecutionContext, environment: Readonly<Record<string, string>>): Promise<WeirServer> {
  const server = await WeirServer.open([], { ...NO_CREDENTIALS, HADOOP_CONF_DIR: "", ...environment });
  t.teardown(() => server.close());
  return server;
}

async function submit(t: ExecutionContext, server: WeirServer, ...options: readonly string[]): Promise<Ran> {
  const { code, stdout, stderr } = await runPython("test/storage/submit.py", [server.endpoint, ...options]);
  t.is(code, 0, stderr.slice(-4_000));
  return JSON.parse(stdout) as Ran;
}

test.serial("a path that no checkpoint can go to is refused when the job is prepared", async (t) => {
  t.timeout(180_000);
  const directory = temporary(t);
  writeFileSync(join(directory, "core-site.xml"), "<configuration></configuration>");
  const server = await serving(t, {});
  for (const [path, why] of [
    ["hdfs:///weir/checkpoints", /names no NameNode.*HADOOP_CONF_DIR/],
    ["ftp://host/x", /cannot store checkpoints by ftp:/],
    ["s3:///x", /names no bucket/],
    ["checkpoints", /not an absolute path/],
  ] as const) {
    const { state, error } = await submit(t, server, CHECKPOINTS, `--state_backend_storage_path=${path}`);
    t.is(state, "");
    t.regex(error, why);
    t.true(error.includes(`--state_backend_storage_path is "${path}"`), error);
  }
  const without = await serving(t, { HADOOP_CONF_DIR: directory });
  const { error } = await submit(t, without, CHECKPOINTS, "--state_backend_storage_path=hdfs:///weir");
  t.regex(error, /--state_backend_storage_path is "hdfs:\/\/\/weir".*HADOOP_CONF_DIR/);
});

test.serial("a store that does not answer, or a folder that cannot be made, fails the job by name", async (t) => {
  t.timeout(180_000);
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  const server = await serving(t, {
    AWS_ENDPOINT_URL: endpoint,
    AWS_ACCESS_KEY_ID: "user",
    AWS_SECRET_ACCESS_KEY: "password",
    STORAGE_EMULATOR_HOST: endpoint,
  });
  const paths = ["s3://bucket/x", "gs://bucket/x", `hdfs://127.0.0.1:${port}/x`, "/dev/null/x"];
  // Each is tried for a while before it is given up.
  const errorOf = async (path: string) =>
    (await submit(t, server, CHECKPOINTS, `--state_backend_storage_path=${path}`)).error;
  const errors = await Promise.all(paths.map(errorOf));
  for (const [index, path] of paths.entries()) {
    const error = errors[index] ?? "";
    t.true(error.includes(`Checkpoints cannot be stored where --state_backend_storage_path says, ${path}. `), error);
    t.regex(error, path.startsWith("/") ? /ENOTDIR|not a directory/ : new RegExp(`ECONNREFUSED 127.0.0.1:${port}`));
    t.regex(error, path.startsWith("/") ? /Look at who may write there/ : /Look at the/);
  }
});

const { tool } = STORAGE_SERVERS.versitygw;
const declare = tool.missing === undefined ? test.serial : test.serial.skip;
declare(`credentials that are wrong or missing fail the job by name ${tool.missing ?? ""}`.trim(), async (t) => {
  t.timeout(INSTALL_LIMIT_MS);
  await tool.install();
  const store = await STORAGE_SERVERS.versitygw.start(t, temporary(t));
  const { AWS_ENDPOINT_URL = "", ...credentials } = store.environment;
  for (const [environment, path, why] of [
    [{ ...credentials, AWS_SECRET_ACCESS_KEY: "wrong" }, store.root, /SignatureDoesNotMatch.*Look at the credentials/],
    [
      { ...credentials, AWS_ACCESS_KEY_ID: "nobody" },
      store.root,
      /No user exists with the provided access key.*Look at the credentials/,
    ],
    [{ HOME: temporary(t) }, store.root, /Could not load credentials.*Look at the credentials/],
    [credentials, "s3://nowhere/x", /NoSuchBucket/],
  ] as const) {
    const server = await serving(t, { ...environment, AWS_ENDPOINT_URL });
    const { error } = await submit(t, server, CHECKPOINTS, `--state_backend_storage_path=${path}`);
    t.true(error.includes(`--state_backend_storage_path says, ${path}. Cannot reach the bucket of`), error);
    t.regex(error, why);
  }
  const server = await serving(t, store.environment);
  const { state, error } = await submit(t, server, CHECKPOINTS, `--state_backend_storage_path=${store.root}`);
  t.deepEqual([state, error], ["DONE", ""]);
});

test.serial("Flink's state backends are taken, and the job says what they are mapped to", async (t) => {
  t.timeout(180_000);
  const server = await serving(t, {});
  for (const [given, says] of [
    ["rocksdb", /mapped to Weir's own state backend: as with RocksDB's incremental checkpoints.*SQLite/],
    ["hashmap", /mapped to Weir's own.*larger than memory/],
    ["filesystem", /mapped to Weir's own.*larger than memory/],
    ["org.apache.flink.contrib.streaming.state.EmbeddedRocksDBStateBackend", /mapped to .*as with RocksDB/],
    ["rocks", /does not know \(rocksdb, hashmap and filesystem are mapped\)/],
  ] as const) {
    const { state, messages } = await submit(t, server, CHECKPOINTS, `--state_backend=${given}`);
    t.is(state, "DONE");
    const told = messages.filter((text) => text.includes(`--state_backend (given: ${given})`));
    t.is(told.length, 1, messages.join("\n"));
    t.regex(told[0] ?? "", says);
  }
});

for (const [outage, title] of [
  ["down", "a store that is down fails checkpoints and no job; checkpoints go on when it is there again"],
  ["hung", "a store that hangs delays checkpoints and no job"],
  ["lost", "a job that loses a worker while the store is down waits for its checkpoint"],
] as const)
  declare(`${title} ${tool.missing ?? ""}`.trim(), async (t) => {
    t.timeout(INSTALL_LIMIT_MS);
    await tool.install();
    const { code, stdout, stderr } = await runPython("test/storage/outage_cases.py", [outage], 230_000);
    t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
    t.regex(stdout, /each number counted once/);
  });
