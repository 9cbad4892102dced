/**
 * Beam's Python expansion service as a child process, on a free port of the loopback interface. Beam's own main binds
 * every interface and tells no port, hence the few lines of Python.
 *
 * What it expands runs in PROCESS environments that boot like any other Python harness here. Any importable transform
 * may be named: whoever reaches the port may run code, as by submitting a job.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { WeirError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { makeTemporaryDirectory } from "../../base/temporary-directory.ts";
import { findPython } from "./find-python.ts";
import { SessionGuard } from "./session-guard.ts";
import { startSupervised } from "./supervised-process.ts";

const SCRIPT = `
import os, signal, sys
import grpc
from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.portability.api import beam_artifact_api_pb2_grpc, beam_expansion_api_pb2_grpc
from apache_beam.runners.portability import artifact_service, expansion_service
from apache_beam.transforms.fully_qualified_named_transform import FullyQualifiedNamedTransform
from apache_beam.utils import thread_pool_executor
path, *arguments = sys.argv[1:]
options = PipelineOptions(arguments)
pickler.set_library(options.view_as(SetupOptions).pickle_library)
with FullyQualifiedNamedTransform.with_filter("*"):
  server = grpc.server(thread_pool_executor.shared_unbounded_instance(),
                       options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
  service = expansion_service.ExpansionServiceServicer(options)
  beam_expansion_api_pb2_grpc.add_ExpansionServiceServicer_to_server(service, server)
  beam_artifact_api_pb2_grpc.add_ArtifactRetrievalServiceServicer_to_server(service.artifact_service(), server)
  port = server.add_insecure_port("localhost:0")
  server.start()
  with open(path + ".new", "w") as file:
    file.write(str(port))
  os.rename(path + ".new", path)
  signal.pause()
`;

const OPTIONS = [
  "--experiments=beam_fn_api",
  "--sdk_location=container",
  "--environment_type=PROCESS",
  `--environment_config=${JSON.stringify({ command: "weir boot python" })}`,
];

/** Importing apache_beam takes seconds, on a busy machine many. */
const START_LIMIT_MS = 120_000;
const POLL_MS = 50;
const GRACE_MS = 1_000;

export interface PythonExpansion {
  /** HOST:PORT. */
  readonly address: string;
  readonly ended: Promise<unknown>;
  stop(): Promise<void>;
}

/** @throws WeirError when no Python has apache_beam, or its service does not start: with its last output. */
export async function startPythonExpansion(init: {
  readonly clock: Clock;
  readonly log: Log;
}): Promise<PythonExpansion> {
  const { clock, log } = init;
  const python = await findPython(process.env);
  const directory = makeTemporaryDirectory("expansion");
  const portFile = join(directory, "port");
  const guard = SessionGuard.open({ directory, log });
  const child = await startSupervised({
    what: "Beam's Python expansion service",
    command: python.executable,
    args: ["-c", SCRIPT, portFile, ...OPTIONS],
    env: process.env,
    directory,
    graceMs: GRACE_MS,
    clock,
    log,
    guard,
  }).catch(async (failure: unknown) => {
    await guard.close();
    throw failure;
  });
  let lost: string | undefined;
  const noted = child.exited
    .then(
      ({ reason, lastOutput }) => (lost = [`${reason}; its last output:`, ...lastOutput].join("\n")),
      (failure: unknown) => (lost = WeirError.from(failure).message),
    )
    .then(() => guard.close());
  const stop = async () => {
    await child.stop();
    await noted;
  };
  const untilMs = clock.monotonicMs() + START_LIMIT_MS;
  for (;;) {
    const port = await readFile(portFile, "utf8").catch(() => undefined);
    if (port !== undefined) return { address: `localhost:${port}`, ended: noted, stop };
    if (clock.monotonicMs() >= untilMs) {
      await stop();
      lost = `Beam's Python expansion service did not start within ${START_LIMIT_MS / 1_000} s. ${lost ?? ""}`;
    }
    if (lost !== undefined) throw new WeirError({ code: "FAILED_PRECONDITION", domain: "external", message: lost });
    await clock.sleep(POLL_MS);
  }
}
