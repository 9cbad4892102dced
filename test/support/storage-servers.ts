/**
 * Real servers of the stores that checkpoints can go to, for tests: versitygw and moto for S3, fake-gcs-server for
 * Google Cloud Storage, Hadoop's own mini cluster for HDFS. Each has a bucket or directory that is empty.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { systemClock } from "../../runner/base/clock.ts";
import { type CachedTool, goTool, mavenJars, pythonTool } from "./cached-tools.ts";

export interface StorageServer {
  /** Where checkpoints can go, without a slash at its end. */
  readonly root: string;
  /** What Weir has to have in its environment to find it. */
  readonly environment: Readonly<Record<string, string>>;
  /** Where the server keeps what it has, to be damaged; undefined where that cannot be known. */
  readonly files: string | undefined;
  /** As by `kill -9`. */
  stop(): Promise<void>;
  /** Again, with what it had. */
  start(): Promise<void>;
}

export interface StorageServerKind {
  readonly name: string;
  readonly tool: CachedTool;
  /** @param folder for its data; exists. It is stopped when the test ends. */
  start(t: ExecutionContext, folder: string): Promise<StorageServer>;
}

const BUCKET = "bucket";
const ACCESS_KEY = "user";
const SECRET_KEY = "password";
const START_LIMIT_MS = 60_000;

const versitygw: StorageServerKind = {
  name: "S3 (versitygw)",
  tool: goTool("versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"),
  async start(t, folder) {
    const [port, data, meta] = [await freePort(), join(folder, "data"), join(folder, "meta")];
    await mkdir(join(data, BUCKET), { recursive: true });
    await mkdir(meta);
    const command = join(await this.tool.install(), "versitygw");
    const args = ["--port", `127.0.0.1:${port}`, "posix", "--sidecar", meta, data];
    const environment = { ROOT_ACCESS_KEY: ACCESS_KEY, ROOT_SECRET_KEY: SECRET_KEY };
    const running = await RunningServer.start(t, { command, args, port, environment });
    return serverOf(running, `s3://${BUCKET}/folder`, s3Environment(port), join(data, BUCKET));
  },
};

const moto: StorageServerKind = {
  name: "S3 (moto)",
  tool: pythonTool("moto-5.2.5", ["moto[server]==5.2.5"]),
  async start(t) {
    const port = await freePort();
    const command = join(await this.tool.install(), "bin", "moto_server");
    const args = ["-H", "127.0.0.1", "-p", String(port)];
    const running = await RunningServer.start(t, { command, args, port });
    // It has nothing but memory.
    const makeBucket = () => mustBeOk(fetch(`http://127.0.0.1:${port}/${BUCKET}`, { method: "PUT" }));
    await makeBucket();
    const server = serverOf(running, `s3://${BUCKET}/folder`, s3Environment(port), undefined);
    return { ...server, start: () => server.start().then(makeBucket) };
  },
};

const gcs: StorageServerKind = {
  name: "Google Cloud Storage (fake-gcs-server)",
  tool: goTool("fake-gcs-server", "github.com/fsouza/fake-gcs-server", "v1.56.1"),
  async start(t, folder) {
    const port = await freePort();
    const command = join(await this.tool.install(), "fake-gcs-server");
    const address = ["-host", "127.0.0.1", "-port", String(port), "-public-host", `127.0.0.1:${port}`];
    const args = ["-scheme", "http", ...address, "-filesystem-root", folder, "-log-level", "error"];
    const running = await RunningServer.start(t, { command, args, port });
    const endpoint = `http://127.0.0.1:${port}`;
    const body = JSON.stringify({ name: BUCKET });
    await mustBeOk(fetch(`${endpoint}/storage/v1/b?project=p`, { method: "POST", body }));
    return serverOf(running, `gs://${BUCKET}/folder`, { STORAGE_EMULATOR_HOST: endpoint }, join(folder, BUCKET));
  },
};

const hdfs: StorageServerKind = {
  name: "HDFS (WebHDFS of a mini cluster)",
  tool: mavenJars("hdfs"),
  async start(t, folder) {
    const [httpPort, rpcPort] = [await freePort(), await freePort()];
    const jars = await this.tool.install();
    const jvm = ["-Xmx256m", "-XX:+UseSerialGC", "--add-opens=java.base/java.lang=ALL-UNNAMED", "-cp", jars];
    const ports = ["-httpport", String(httpPort), "-nnport", String(rpcPort)];
    const properties = [`hdfs.minidfs.basedir=${folder}`, "dfs.permissions.enabled=false"];
    const options = properties.flatMap((property) => ["-D", property]);
    const args = [...jvm, "org.apache.hadoop.test.MiniDFSClusterManager", ...ports, ...options];
    // Its HTTP server answers before there is a DataNode.
    const isReady = () => hasDataNode(`http://127.0.0.1:${httpPort}`);
    const first = { command: "java", args: [...args, "-format"], port: httpPort, isReady };
    const running = await RunningServer.start(t, first, { ...first, args });
    const environment = { HADOOP_USER_NAME: "weir", HADOOP_CONF_DIR: "" };
    return serverOf(running, `hdfs://127.0.0.1:${httpPort}/weir/folder`, environment, undefined);
  },
};

export const STORAGE_SERVERS = { versitygw, moto, gcs, hdfs } as const;

/** For the time of a test, this process finds the server. */
export function findServer(t: ExecutionContext, { environment }: StorageServer): void {
  const former = Object.keys(environment).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, environment);
  t.teardown(() => {
    for (const [name, value] of former)
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  });
}

function s3Environment(port: number): Readonly<Record<string, string>> {
  return {
    AWS_ENDPOINT_URL: `http://127.0.0.1:${port}`,
    AWS_ACCESS_KEY_ID: ACCESS_KEY,
    AWS_SECRET_ACCESS_KEY: SECRET_KEY,
  };
}

async function hasDataNode(url: string): Promise<boolean> {
  const query = "qry=Hadoop:service=NameNode,name=FSNamesystemState";
  const answer = await fetch(`${url}/jmx?${query}`).catch(() => undefined);
  if (answer?.ok !== true) return false;
  const { beans } = (await answer.json()) as { readonly beans: readonly Readonly<Record<string, unknown>>[] };
  return beans[0]?.["NumLiveDataNodes"] === 1 && beans[0]["FSState"] === "Operational";
}

async function mustBeOk(request: Promise<Response>): Promise<void> {
  const response = await request;
  if (!response.ok) throw new Error(`${response.url} answered ${response.status}: ${await response.text()}`);
}

function serverOf(
  running: RunningServer,
  root: string,
  environment: Readonly<Record<string, string>>,
  files: string | undefined,
): StorageServer {
  return { root, environment, files, stop: () => running.stop(), start: () => running.start() };
}

interface ServerCommand {
  readonly command: string;
  readonly args: readonly string[];
  readonly port: number;
  readonly environment?: Readonly<Record<string, string>>;
  /** Default: it listens. */
  readonly isReady?: () => Promise<boolean>;
}

/** A process that listens on a port. */
class RunningServer {
  readonly #again: ServerCommand;
  #child: ChildProcess | undefined;

  private constructor(again: ServerCommand) {
    this.#again = again;
  }

  /** @param again how it is started after it was stopped */
  static async start(t: ExecutionContext, first: ServerCommand, again = first): Promise<RunningServer> {
    const server = new RunningServer(again);
    t.teardown(() => server.stop());
    await server.#start(first);
    return server;
  }

  start(): Promise<void> {
    return this.#start(this.#again);
  }

  async #start({ command, args, port, environment = {}, isReady = () => listens(port) }: ServerCommand): Promise<void> {
    const child = spawn(command, args, {
      env: { ...process.env, ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    let log = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => (log = (log + text).slice(-4_000)));
    const untilMs = systemClock.monotonicMs() + START_LIMIT_MS;
    while (!(await isReady())) {
      if (child.exitCode !== null || systemClock.monotonicMs() > untilMs)
        throw new Error(`${command} ${args.join(" ")} is not ready:\n${log}`);
      await systemClock.sleep(100);
    }
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "close");
  }
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  const answer = await new Promise<boolean>((resolve) => {
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
  });
  socket.destroy();
  return answer;
}

/** A port that nobody listens on now, below those that the kernel gives to outgoing connections (see ports.py). */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = randomInt(12_000, 32_000);
    const server = createServer().listen(port, "127.0.0.1");
    const isFree = await once(server, "listening").then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, "close");
    return port;
  }
  throw new Error("no free port was found");
}
