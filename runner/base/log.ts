/** Structured logging: pino, pretty on a terminal, JSON lines elsewhere, always on stderr (stdout belongs to the ready line). */
import pino from "pino";
import pretty from "pino-pretty";

export type Log = pino.Logger;
export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";

/** A root logger that writes to file descriptor 2. `name` tells processes apart. */
export function createLog(name: string, level: LogLevel, format: "auto" | "json" | "pretty" = "auto"): Log {
  const usePretty = format === "pretty" || (format === "auto" && process.stderr.isTTY === true);
  const stream = usePretty
    ? pretty({ destination: 2, sync: true, ignore: "pid,hostname", translateTime: "HH:MM:ss.l" })
    : pino.destination({ fd: 2, sync: true });
  return pino({ name, level }, stream);
}

/** A logger that drops everything, for tests. @internal */
export function silentLog(): Log {
  return pino({ level: "silent" });
}
