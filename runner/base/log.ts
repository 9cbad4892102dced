/**
 * Structured logging: JSON lines, or on a terminal a line for each event, always on stderr (stdout belongs to the ready
 * line).
 *
 * An error's whole text is in the JSON. A terminal shows it in full at the levels from `error` on, its first and last
 * lines below (what is tried again comes several times, and Python's tracebacks are long), and the stack of Weir's own
 * code only where that has failed.
 */
import { createRequire } from "node:module";
import pino from "pino";
import type pretty from "pino-pretty";

export type Log = pino.Logger;
export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";

const ERROR_LEVEL = 50;
/** Of a text that is shown in part. */
const SHOWN_LAST_LINES = 3;

/** A root logger that writes to file descriptor 2. `name` tells processes apart. */
export function createLog(name: string, level: LogLevel, format: "auto" | "json" | "pretty" = "auto"): Log {
  const usePretty = format === "pretty" || (format === "auto" && process.stderr.isTTY === true);
  const stream = usePretty
    ? loadPretty()({
        destination: 2,
        sync: true,
        colorize: process.stderr.isTTY === true,
        ignore: "pid,hostname",
        translateTime: "HH:MM:ss.l",
        hideObject: true,
        messageFormat: terminalText,
      })
    : pino.destination({ fd: 2, sync: true });
  return pino({ name, level, serializers: { err: pino.stdSerializers.errWithCause } }, stream);
}

/** Only where it is used: it would take 4 MB of every process. */
function loadPretty(): typeof pretty {
  return createRequire(import.meta.url)("pino-pretty") as typeof pretty;
}

/** A logger that drops everything, for tests. @internal */
export function silentLog(): Log {
  return pino({ level: "silent" });
}

interface LoggedError {
  readonly message?: string;
  readonly stack?: string;
  /** Of a WeirError. */
  readonly code?: string;
}

/** The message, then ids and figures as name=value; what has several lines stands on lines of its own. */
function terminalText(event: Record<string, unknown>): string {
  const { level, time: _time, name: _name, pid: _pid, hostname: _hostname, msg, err, ...rest } = event;
  const isWhole = (level as number) >= ERROR_LEVEL;
  const values = Object.entries(rest).map(([name, value]) => `${name}=${valueText(value)}`);
  const [first = "", ...more] = ((msg ?? "") as string).split("\n");
  const lines = [[first, ...values].filter(Boolean).join(" "), ...indented(more)];
  if (err !== undefined) lines.push(...indented(errorLines(err as LoggedError, isWhole)));
  return lines.join("\n");
}

function errorLines({ message = "", stack = "", code }: LoggedError, isWhole: boolean): string[] {
  if (code === undefined || code === "INTERNAL") return stack.split("\n");
  const lines = message.trimEnd().split("\n");
  if (isWhole || lines.length <= SHOWN_LAST_LINES + 2) return lines;
  return [lines[0] as string, "…", ...lines.slice(-SHOWN_LAST_LINES)];
}

function indented(lines: readonly string[]): string[] {
  return lines.map((line) => `    ${line}`);
}

function valueText(value: unknown): string {
  return typeof value === "string" && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}
