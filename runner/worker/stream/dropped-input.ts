/**
 * Counters of dropped input, under the names by which the Java reference's runners count it, so that dashboards and
 * tests made for other runners find them.
 */
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import { varintLength, writeVarint } from "../../coders/byte-reader.ts";

export interface DroppedCounter {
  readonly namespace: string;
  readonly name: string;
}

/** Elements that came to a grouping after their window had expired. */
export const DROPPED_DUE_TO_LATENESS: DroppedCounter = {
  namespace: "org.apache.beam.runners.core.LateDataDroppingDoFnRunner",
  name: "droppedDueToLateness",
};
/** Elements that came to a grouping after its trigger had finished. */
export const DROPPED_DUE_TO_CLOSED_WINDOW: DroppedCounter = {
  namespace: "org.apache.beam.runners.core.ReduceFnRunner",
  name: "droppedDueToClosedWindow",
};
/** Elements that came to a stateful DoFn, or one with sorted input, after their window or their turn had passed. */
export const STATEFUL_PAR_DO_DROPPED: DroppedCounter = {
  namespace: "org.apache.beam.runners.core.StatefulDoFnRunner",
  name: "StatefulParDoDropped",
};

/** So many more were dropped. */
export function droppedInfo(transformId: string, counter: DroppedCounter, count: number): MonitoringInfo {
  const payload = new Uint8Array(varintLength(count));
  writeVarint(payload, 0, count);
  return {
    urn: "beam:metric:user:sum_int64:v1",
    type: "beam:metrics:sum_int64:v1",
    payload,
    labels: { PTRANSFORM: transformId, NAMESPACE: counter.namespace, NAME: counter.name },
    startTime: undefined,
  };
}
