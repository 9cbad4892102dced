import test from "ava";
import type { JobMessage } from "../../proto/gen/worker.ts";
import type { HarnessId, JobId, VertexId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { ExecutionGraph } from "../graph/execution-graph.ts";
import type { LogEntryPlain } from "./fn-api/logging-service.ts";
import { HarnessLogs, type LoggingHarness } from "./harness-logs.ts";

const HARNESS = "harness-1" as HarnessId;

function harness(): LoggingHarness {
  const transforms = [{ id: "ref_7", uniqueName: "Parse", urn: "beam:transform:pardo:v1" }];
  const graph = {
    vertices: [
      { id: "v1", name: "Read, Parse", stage: { transforms } },
      { id: "v2", name: "Write" },
    ],
  };
  return {
    connection: {
      bundles: new Map([["bundle-3", { watched: { descriptorId: "d/v1" } }]]),
      isAbandoned: (instructionId) => instructionId === "bundle-2",
    },
    job: {
      description: { jobId: "job-1" as JobId, graph: graph as unknown as ExecutionGraph },
      vertexOf: (descriptorId) => (descriptorId === "d/v1" ? ("v1" as VertexId) : undefined),
    },
  };
}

function entry(severity: LogEntryPlain["severity"], more: Partial<LogEntryPlain> = {}): LogEntryPlain {
  const empty = { trace: "", instructionId: "", transformId: "", logLocation: "", thread: "" };
  return { severity, timeMs: 1234.5, message: "odd", ...empty, ...more };
}

/** @returns what the log and the job are told of the entries */
function taken(entries: readonly LogEntryPlain[], of: LoggingHarness | "gone" = harness()) {
  const told: JobMessage[] = [];
  const logged: unknown[] = [];
  const write = (method: string) => (values: object, text: string) =>
    void logged.push([method, text, Object.fromEntries(Object.entries(values).filter(([, value]) => value))]);
  const methods = ["trace", "debug", "info", "warn", "error"];
  const log = Object.fromEntries(methods.map((method) => [method, write(method)])) as unknown as Log;
  new HarnessLogs({
    harness: () => (of === "gone" ? undefined : of),
    tell: (message) => void told.push(message),
    log,
  }).take(HARNESS, entries);
  return { told, logged };
}

test("an entry is logged with job, stage, bundle and the transform's name, and told as a message of the job", (t) => {
  const { told, logged } = taken([
    entry("WARN", { instructionId: "bundle-3", transformId: "ref_7", trace: "Traceback" }),
  ]);
  const ids = { job: "job-1", stage: "Read, Parse", bundle: "bundle-3", transform: "Parse", harness: HARNESS };
  t.deepEqual(logged, [["warn", "odd\nTraceback", ids]]);
  t.deepEqual(told, [{ jobId: "job-1", importance: 4, text: "[Parse] odd\nTraceback", timeMs: 1234n }]);
});

test("severities keep their order in the log and in job messages", (t) => {
  const severities = ["TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "ERROR", "CRITICAL"] as const;
  const { told, logged } = taken(severities.map((severity) => entry(severity, { transformId: "ref_7" })));
  t.deepEqual(
    logged.map((event) => (event as [string])[0]),
    ["trace", "debug", "info", "info", "warn", "error", "error"],
  );
  t.deepEqual(
    told.map(({ importance }) => importance),
    [1, 1, 2, 3, 4, 5, 5],
  );
});

test("what an SDK tells of itself is told at debug; a trace that the message has is not told twice", (t) => {
  t.is((taken([entry("INFO", { instructionId: "bundle-3" })]).logged[0] as [string])[0], "debug");
  t.is(
    taken([entry("ERROR", { message: "failed\nTraceback", trace: "Traceback\n" })]).told[0]?.text,
    "failed\nTraceback",
  );
});

test("what an SDK fails of in a bundle that was given up is told to nobody; what it warns of there is", (t) => {
  const { told, logged } = taken([
    entry("ERROR", { instructionId: "bundle-2", message: "Error processing instruction" }),
    entry("WARN", { instructionId: "bundle-2" }),
    entry("ERROR", { instructionId: "bundle-3" }),
  ]);
  t.deepEqual(
    logged.map((event) => (event as [string])[0]),
    ["debug", "warn", "error"],
  );
  t.deepEqual(
    told.map(({ importance }) => importance),
    [4, 5],
  );
});

test("an entry of no bundle, of an unknown transform or of a harness that is gone is not lost", (t) => {
  t.deepEqual(taken([entry("WARN")]).logged, [["warn", "odd", { job: "job-1", harness: HARNESS }]]);
  t.is(taken([entry("INFO", { transformId: "x" })]).told[0]?.text, "[x] odd");
  const { told, logged } = taken([entry("ERROR")], "gone");
  t.deepEqual(told, []);
  t.deepEqual(logged, [["error", "odd", { harness: HARNESS }]]);
});
