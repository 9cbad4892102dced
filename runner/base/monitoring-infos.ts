/**
 * Monitoring infos merged over bundles, tasks and workers: one value per (urn, type, labels).
 *
 * Invariants: the order of merging does not matter, save where `metric-types.ts` says so. Memory is bounded. A metric
 * never fails a job: what is malformed or beyond a limit is left out and counted in `dropped`, for the owner to report.
 * Source: MonitoringInfo of metrics.proto, apache_beam/metrics/monitoring_infos.py.
 */
import { serverLimits } from "./limits.ts";
import { metricType, SUM_INT64_TYPE, type MetricType } from "./metric-types.ts";
import { decodeMonitoringInfo, encodeMonitoringInfo, type MonitoringInfo } from "./monitoring-info.ts";

export type { MonitoringInfo };

export interface MonitoringInfoLimits {
  /** Distinct (urn, type, labels). A large pipeline has a thousand steps of some twenty infos each. */
  readonly maxInfos: number;
  /** Estimated bytes of keys and values. */
  readonly maxBytes: number;
}

const DEFAULT_LIMITS: MonitoringInfoLimits = { maxInfos: 100_000, maxBytes: serverLimits().metricsBytes };

/** Infos (not distinct ones) that were left out. */
export interface DroppedInfos {
  readonly malformed: number;
  readonly overLimit: number;
}

interface Entry {
  readonly urn: string;
  readonly type: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly rules: MetricType<unknown>;
  valueBytes: number;
  startTime: MonitoringInfo["startTime"];
  value: unknown;
}

export class MonitoringInfoSet {
  readonly #limits: MonitoringInfoLimits;
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  #malformed = 0;
  #overLimit = 0;

  constructor(limits: Partial<MonitoringInfoLimits> = {}) {
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
  }

  /** Distinct infos. */
  get size(): number {
    return this.#entries.size;
  }

  get dropped(): DroppedInfos {
    return { malformed: this.#malformed, overLimit: this.#overLimit };
  }

  /** Keeps nothing of `info`. */
  merge(info: MonitoringInfo): void {
    const rules = metricType(info.type);
    let value: unknown;
    try {
      value = rules.decode(info.payload);
    } catch {
      this.#malformed++;
      return;
    }
    this.#mergeValue(keyOf(info), { ...info, rules, value });
  }

  /** `set` is not changed; it may be this one. What it had dropped counts as dropped here. */
  mergeAll(set: MonitoringInfoSet): void {
    const { malformed, overLimit } = set.dropped;
    for (const [key, entry] of set.#entries) this.#mergeValue(key, entry);
    this.#malformed += malformed;
    this.#overLimit += overLimit;
  }

  /** As `merge`, of an encoded MonitoringInfo. */
  mergeEncoded(bytes: Uint8Array): void {
    let info: MonitoringInfo;
    try {
      info = decodeMonitoringInfo(bytes);
    } catch {
      this.#malformed++;
      return;
    }
    this.merge(info);
  }

  /** In the order in which they first came. */
  values(): MonitoringInfo[] {
    return [...this.#entries.values()].map(({ urn, type, labels, rules, value, startTime }) => ({
      urn,
      type,
      payload: rules.encode(value),
      labels: { ...labels },
      startTime,
    }));
  }

  /** `values()` as bytes of the MonitoringInfo message. */
  encoded(): Uint8Array[] {
    return this.values().map(encodeMonitoringInfo);
  }

  #mergeValue(key: string, info: Pick<Entry, "urn" | "type" | "labels" | "rules" | "startTime" | "value">): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      const fixedBytes = 4 * key.length + 128;
      const valueBytes = info.rules.bytes(info.value);
      if (this.size >= this.#limits.maxInfos || this.#bytes + fixedBytes + valueBytes > this.#limits.maxBytes) {
        this.#overLimit++;
        return;
      }
      const { urn, type, labels, rules, startTime, value } = info;
      this.#entries.set(key, {
        urn,
        type,
        labels: { ...labels },
        rules,
        valueBytes,
        startTime: startTime && { ...startTime },
        value,
      });
      this.#bytes += fixedBytes + valueBytes;
      return;
    }
    let value: unknown;
    try {
      value = entry.rules.merge(entry.value, info.value);
    } catch {
      this.#malformed++;
      return;
    }
    const valueBytes = entry.rules.bytes(value);
    // A counter at the limit still counts: only values that grow are refused.
    if (valueBytes > entry.valueBytes && this.#bytes + valueBytes - entry.valueBytes > this.#limits.maxBytes) {
      this.#overLimit++;
      return;
    }
    this.#bytes += valueBytes - entry.valueBytes;
    entry.valueBytes = valueBytes;
    entry.value = value;
    entry.startTime = earliest(entry.startTime, info.startTime);
  }
}

/** The value of a sum_int64 info, for tests; undefined for another type or a malformed payload. @internal */
export function decodeCounter(info: MonitoringInfo): bigint | undefined {
  if (info.type !== SUM_INT64_TYPE) return undefined;
  try {
    return metricType(info.type).decode(info.payload) as bigint;
  } catch {
    return undefined;
  }
}

function keyOf(info: MonitoringInfo): string {
  // By name alone: sorting whole pairs as strings confuses {a: "b,c"} with {"a,b": "c"}.
  const labels = Object.entries(info.labels).sort(([left], [right]) => (left < right ? -1 : left > right ? 1 : 0));
  return JSON.stringify([info.urn, info.type, labels]);
}

function earliest(left: MonitoringInfo["startTime"], right: MonitoringInfo["startTime"]): MonitoringInfo["startTime"] {
  if (left === undefined || right === undefined) return left ?? (right && { ...right });
  if (left.seconds !== right.seconds) return left.seconds < right.seconds ? left : { ...right };
  return left.nanos <= right.nanos ? left : { ...right };
}
