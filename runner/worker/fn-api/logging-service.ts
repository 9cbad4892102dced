/**
 * The logging service of the Fn API (BeamFnLogging): what SDK harnesses log, as plain entries.
 *
 * Invariants: a message and a trace are cut to a bounded length; a harness whose entries are not taken as fast as it
 * sends them is not read from meanwhile.
 */
import type * as grpc from "@grpc/grpc-js";
import {
  BeamFnLoggingDefinition,
  type LogControl,
  type LogEntry,
  type LogEntry_List,
} from "../../../proto/gen/beam_fn_api.ts";
import type { GenericService, ServedService } from "../../base/grpc.ts";
import type { HarnessId } from "../../base/ids.ts";

export type LogSeverity = "TRACE" | "DEBUG" | "INFO" | "NOTICE" | "WARN" | "ERROR" | "CRITICAL";

/** One entry of a harness's log. Texts that the harness did not give are empty. */
export interface LogEntryPlain {
  readonly severity: LogSeverity;
  /** Milliseconds since 1970-01-01 UTC, with a fraction. */
  readonly timeMs: number;
  readonly message: string;
  /** A stack trace. */
  readonly trace: string;
  readonly instructionId: string;
  readonly transformId: string;
  readonly logLocation: string;
  readonly thread: string;
}

export interface LoggingServiceInit {
  /** Takes the entries of one harness, in its order. The harness is not read from until a returned promise settles. */
  readonly onEntries: (harnessId: HarnessId, entries: readonly LogEntryPlain[]) => void | Promise<void>;
}

/** A user's message of this length is a data dump; the job's message store and the terminal need no more of it. */
const MESSAGE_LIMIT_CHARACTERS = 32 * 1024;

/** By the number in the proto; an unspecified severity is TRACE, as the proto says. */
const SEVERITIES: readonly LogSeverity[] = ["TRACE", "TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "ERROR", "CRITICAL"];

export function loggingService(init: LoggingServiceInit): ServedService {
  const logging: grpc.handleBidiStreamingCall<LogEntry_List, LogControl> = (call) => {
    const harnessId = (call.metadata.get("worker_id")[0] ?? "").toString() as HarnessId;
    call.on("data", (list: LogEntry_List) => {
      const taken = init.onEntries(harnessId, list.logEntries.map(plainEntry));
      if (taken === undefined) return;
      call.pause();
      const resume = () => call.resume();
      taken.then(resume, resume);
    });
    call.on("end", () => call.end());
    // A log stream that breaks is no failure: the harness's control stream tells whether it lives.
    call.on("error", () => undefined);
  };
  return {
    service: BeamFnLoggingDefinition as unknown as GenericService,
    handlers: { logging } as unknown as grpc.UntypedServiceImplementation,
  };
}

function plainEntry(entry: LogEntry): LogEntryPlain {
  const { timestamp } = entry;
  return {
    severity: SEVERITIES[entry.severity] ?? "INFO",
    timeMs: timestamp === undefined ? 0 : Number(timestamp.seconds) * 1_000 + timestamp.nanos / 1e6,
    message: bounded(entry.message),
    trace: bounded(entry.trace),
    instructionId: entry.instructionId,
    transformId: entry.transformId,
    logLocation: entry.logLocation,
    thread: entry.thread,
  };
}

/** Head and tail of a text that is too long: a Python traceback says what happened in its last line. */
function bounded(text: string): string {
  const cut = text.length - MESSAGE_LIMIT_CHARACTERS;
  if (cut <= 0) return text;
  const half = MESSAGE_LIMIT_CHARACTERS / 2;
  return `${text.slice(0, half)}\n… (${cut} characters left out) …\n${text.slice(-half)}`;
}
