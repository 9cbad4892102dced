/** Durations as Flink's configuration has them: "500 ms", "10s", "1 min", or a number of milliseconds. Pure. */

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** Flink's other names for a unit. */
const UNIT_NAMES: Readonly<Record<string, string>> = {
  milli: "ms",
  millisecond: "ms",
  sec: "s",
  second: "s",
  m: "min",
  minute: "min",
  hour: "h",
  day: "d",
};

/** @returns undefined for what is no duration */
export function readDurationMs(text: string): number | undefined {
  const [, digits = "", unit = ""] = /^(\d+)\s*([a-z]*)$/.exec(text.trim().toLowerCase()) ?? [];
  if (digits === "") return undefined;
  if (unit === "") return Number(digits);
  const singular = unit.replace(/(?<=..)s$/, "");
  const unitMs = UNIT_MS[UNIT_NAMES[singular] ?? singular];
  const valueMs = unitMs === undefined ? NaN : Number(digits) * unitMs;
  return Number.isSafeInteger(valueMs) ? valueMs : undefined;
}
