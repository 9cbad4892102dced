/**
 * What SDK harnesses log, twice: as messages of their job, which its client prints, and in the worker's own log with
 * the job, stage, bundle (the instruction) and transform that it comes from.
 *
 * Harnesses of LOOPBACK clients and worker pools have no logging stream: theirs is where those processes write.
 */
import type { JobMessage } from "../../proto/gen/worker.ts";
import type { HarnessId, JobId, VertexId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import type { ExecutionGraph } from "../graph/execution-graph.ts";
import type { LogEntryPlain, LogSeverity } from "./fn-api/logging-service.ts";

/** Where a harness belongs. */
export interface LoggingHarness {
  readonly connection: {
    /** Running ones, by instruction id. */
    readonly bundles: ReadonlyMap<string, { readonly watched: { readonly descriptorId: string } }>;
    /** A bundle that was given up while the SDK was busy with it. */
    isAbandoned(instructionId: string): boolean;
  };
  readonly job: {
    readonly description: { readonly jobId: JobId; readonly graph: ExecutionGraph };
    vertexOf(descriptorId: string): VertexId | undefined;
  };
}

export interface HarnessLogsInit {
  /** Undefined for one that is gone. */
  readonly harness: (harnessId: HarnessId) => LoggingHarness | undefined;
  readonly tell: (message: JobMessage) => void;
  readonly log: Log;
}

type LogMethod = "trace" | "debug" | "info" | "warn" | "error";

/** LogEntry severities in the server's log, and as JobMessage importances (DEBUG 1, DETAILED 2, BASIC 3, WARNING 4, ERROR 5). */
const SEVERITIES: Readonly<Record<LogSeverity, readonly [LogMethod, importance: number]>> = {
  TRACE: ["trace", 1],
  DEBUG: ["debug", 1],
  INFO: ["info", 2],
  NOTICE: ["info", 3],
  WARN: ["warn", 4],
  ERROR: ["error", 5],
  CRITICAL: ["error", 5],
};

export class HarnessLogs {
  readonly #init: HarnessLogsInit;
  /** Of a graph's transforms, by id. */
  readonly #names = new WeakMap<ExecutionGraph, ReadonlyMap<string, string>>();

  constructor(init: HarnessLogsInit) {
    this.#init = init;
  }

  take(harnessId: HarnessId, entries: readonly LogEntryPlain[]): void {
    const harness = this.#init.harness(harnessId);
    for (const entry of entries) this.#take(harnessId, harness, entry);
  }

  #take(harnessId: HarnessId, harness: LoggingHarness | undefined, entry: LogEntryPlain): void {
    const { severity, instructionId, transformId, message, trace, timeMs } = entry;
    const [method, importance] = SEVERITIES[severity];
    // Its state, or the bundle itself, was taken away from it: that is no failure of the job.
    const isMoot = method === "error" && harness?.connection.isAbandoned(instructionId) === true;
    // Python's messages have the trace in them already.
    const text = trace === "" || message.includes(trace.trim()) ? message : `${message}\n${trace}`;
    const graph = harness?.job.description.graph;
    const transform = graph === undefined ? transformId : (this.#namesOf(graph).get(transformId) ?? transformId);
    const ids = {
      job: harness?.job.description.jobId,
      stage: harness === undefined ? undefined : stageOf(harness, instructionId),
      bundle: instructionId === "" ? undefined : instructionId,
      transform: transform === "" ? undefined : transform,
      harness: harnessId,
    };
    // What an SDK tells of itself, at its start and at that of bundles, is in nobody's transform.
    this.#init.log[isMoot || (method === "info" && transform === "") ? "debug" : method](ids, text);
    if (harness === undefined || isMoot) return;
    this.#init.tell({
      jobId: harness.job.description.jobId,
      importance,
      text: transform === "" ? text : `[${transform}] ${text}`,
      timeMs: BigInt(Math.trunc(timeMs)),
    });
  }

  #namesOf(graph: ExecutionGraph): ReadonlyMap<string, string> {
    let names = this.#names.get(graph);
    if (names === undefined) {
      const transforms = graph.vertices.flatMap(({ stage }) => stage?.transforms ?? []);
      names = new Map(transforms.map(({ id, uniqueName }) => [id, uniqueName]));
      this.#names.set(graph, names);
    }
    return names;
  }
}

function stageOf({ connection, job }: LoggingHarness, instructionId: string): string | undefined {
  const descriptorId = connection.bundles.get(instructionId)?.watched.descriptorId;
  const vertexId = descriptorId === undefined ? undefined : job.vertexOf(descriptorId);
  return job.description.graph.vertices.find(({ id }) => id === vertexId)?.name;
}
