/**
 * The boot command that containers of Beam's Java SDK have: `boot-java-main.ts JAVA CLASS_PATH FLAGS...` asks the provision service
 * and becomes FnHarness. Staged jars are not fetched: the class path has all that the test's pipelines need.
 *
 * Source: Beam's sdks/java/container/boot.go.
 */
import * as grpc from "@grpc/grpc-js";
import {
  type GetProvisionInfoRequest,
  type GetProvisionInfoResponse,
  ProvisionServiceDefinition,
} from "../../proto/gen/beam_provision_api.ts";
import { type GenericService, openClient, unaryCall } from "../../runner/base/grpc.ts";
import { harnessVariables } from "../../runner/worker/environment/boot-python.ts";

const [java = "", classPath = "", ...flags] = process.argv.slice(2);
const flag = (name: string) => flags.find((each) => each.startsWith(`--${name}=`))?.slice(name.length + 3) ?? "";
const metadata = new grpc.Metadata();
metadata.set("worker_id", flag("id"));
const client = openClient(ProvisionServiceDefinition as unknown as GenericService, flag("provision_endpoint"));
const { info } = await unaryCall<GetProvisionInfoRequest, GetProvisionInfoResponse>(
  client,
  "getProvisionInfo",
  {},
  { deadlineMs: 60_000, metadata },
);
client.close();
if (info === undefined) throw new Error("the provision service gave no information");
const variables = harnessVariables({
  flags: { id: flag("id"), loggingEndpoint: flag("logging_endpoint"), controlEndpoint: flag("control_endpoint") },
  info,
  semiPersistDirectory: flag("semi_persist_dir"),
  options: JSON.stringify(info.pipelineOptions ?? {}),
  optionsFile: undefined,
});
const inherited = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
process.removeAllListeners("warning");
process.execve?.(
  java,
  [
    java,
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-cp",
    classPath,
    "org.apache.beam.fn.harness.FnHarness",
  ],
  { ...Object.fromEntries(inherited), ...variables, HARNESS_ID: flag("id") },
);
