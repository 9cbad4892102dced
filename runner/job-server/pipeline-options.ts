/**
 * Reads the pipeline options of a submitted job against the option table: checks types and ranges, and says which
 * options were set and have no effect, so that none is dropped silently.
 *
 * On the wire: Struct keys `beam:option:NAME:v1`; the Python client sends whole numbers as strings. Java's and
 * TypeScript's camelCase names count as their snake_case ones. Options of other runners are told apart by a table of their
 * own; all others are the SDK's or the pipeline's business.
 */
import { WeirError } from "../base/errors.ts";
import { OPTION_TABLE, type OptionSpec } from "./option-table.ts";
import { OTHER_RUNNERS_OPTIONS, otherRunnersSentences } from "./other-runners-options.ts";

export type OptionValue = string | number | boolean | readonly string[];

const SPECS: ReadonlyMap<string, OptionSpec> = new Map(OPTION_TABLE.map((spec) => [spec.name, spec]));
const OPTION_URN = /^beam:option:(.+):v1$/;

/** Validated values of known options; what was not given is undefined, or the type's empty value. */
export class OptionValues {
  readonly #values: ReadonlyMap<string, OptionValue>;
  readonly #otherRunners: ReadonlyMap<string, string>;

  /** @param otherRunners options of other runners that were set, with their values as text */
  constructor(values: ReadonlyMap<string, OptionValue>, otherRunners: ReadonlyMap<string, string>) {
    this.#values = values;
    this.#otherRunners = otherRunners;
  }

  integer(name: string): number | undefined {
    const value = this.#values.get(name);
    return typeof value === "number" ? value : undefined;
  }

  boolean(name: string): boolean {
    return this.#values.get(name) === true;
  }

  string(name: string): string | undefined {
    const value = this.#values.get(name);
    return typeof value === "string" ? value : undefined;
  }

  array(name: string): readonly string[] {
    const value = this.#values.get(name);
    return Array.isArray(value) ? (value as readonly string[]) : [];
  }

  /**
   * One sentence for each option that differs from its default and has no effect, or that of something else; of other
   * runners one for each.
   */
  ineffective(): string[] {
    const sentences: string[] = [];
    for (const [name, value] of this.#values) {
      const spec = SPECS.get(name);
      if (spec === undefined || spec.defaultValue === String(value)) continue;
      if (Array.isArray(value) && value.length === 0) continue;
      const given = `Option --${name} (given: ${Array.isArray(value) ? value.join(",") : String(value)})`;
      if (spec.effect === "not-yet") sentences.push(`${given} is accepted but not honoured yet: it has no effect.`);
      if (spec.mapping !== undefined && value !== "") sentences.push(spec.mapping(String(value)));
      if (spec.effect === "not-applicable") {
        sentences.push(`${given} is accepted but has no effect in Weir. ${spec.description}`);
      }
    }
    return [...sentences, ...otherRunnersSentences(this.#otherRunners)];
  }
}

/**
 * @param options a Struct's fields.
 * @throws WeirError INVALID_ARGUMENT naming the option, for a value of the wrong type or out of range.
 */
export function readOptions(options: Readonly<Record<string, unknown>>): OptionValues {
  const values = new Map<string, OptionValue>();
  const otherRunners = new Map<string, string>();
  for (const [key, value] of Object.entries(options)) {
    if (value === null || value === undefined) continue;
    const name = optionName(key);
    const spec = SPECS.get(name);
    if (spec !== undefined) values.set(spec.name, readValue(spec, value));
    const other = OTHER_RUNNERS_OPTIONS.get(name);
    const text = textOf(value);
    if (other !== undefined && text !== (other.defaultValue ?? "")) otherRunners.set(name, text);
  }
  return new OptionValues(values, otherRunners);
}

/** "" for what holds nothing, as the empty lists and objects that some options have by default. */
function textOf(value: NonNullable<unknown>): string {
  if (typeof value === "string") return value;
  return typeof value === "object" && Object.keys(value).length === 0 ? "" : JSON.stringify(value);
}

/** `beam:option:maxParallelism:v1` → `max_parallelism`. */
export function optionName(key: string): string {
  const name = OPTION_URN.exec(key)?.[1] ?? key;
  return name.replace(/(?<=[a-z0-9])[A-Z]|(?<=[A-Z])[A-Z]/g, (letter) => `_${letter.toLowerCase()}`).toLowerCase();
}

function readValue(spec: OptionSpec, value: unknown): OptionValue {
  switch (spec.type) {
    case "INTEGER":
      return readInteger(spec, value);
    case "BOOLEAN":
      if (value === true || value === "true") return true;
      if (value === false || value === "false") return false;
      throw wrong(spec, value, "must be true or false");
    case "STRING": {
      if (typeof value !== "string" && typeof value !== "number") throw wrong(spec, value, "must be a string");
      const text = String(value);
      if (spec.choices !== undefined && !spec.choices.includes(text))
        throw wrong(spec, value, `must be one of ${spec.choices.join(", ")}`);
      return text;
    }
    case "ARRAY":
      if (typeof value === "string") return value === "" ? [] : value.split(",");
      if (!Array.isArray(value)) throw wrong(spec, value, "must be a list");
      return value.map(String);
  }
}

function readInteger(spec: OptionSpec, value: unknown): number {
  const number =
    typeof value === "number"
      ? value
      : typeof value === "string" && /^[+-]?\d+$/.test(value.trim())
        ? Number(value)
        : NaN;
  if (!Number.isSafeInteger(number)) throw wrong(spec, value, "must be a whole number");
  if (spec.alsoAllowed?.includes(number)) return number;
  const { minimum = -Infinity, maximum = Infinity } = spec;
  if (number >= minimum && number <= maximum) return number;
  const range = maximum === Infinity ? `at least ${minimum}` : `from ${minimum} to ${maximum}`;
  const others = spec.alsoAllowed === undefined ? "" : `, or ${spec.alsoAllowed.join(", ")} to leave it unset`;
  throw wrong(spec, value, `must be ${range}${others}`);
}

function wrong(spec: OptionSpec, value: unknown, must: string): WeirError {
  return new WeirError({
    code: "INVALID_ARGUMENT",
    domain: "user",
    message: `Pipeline option --${spec.name} ${must}, but is ${JSON.stringify(value)}.`,
  });
}
