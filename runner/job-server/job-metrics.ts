/**
 * GetJobMetricsResponse put together from MonitoringInfos that are encoded already: nothing is decoded on the way from
 * a harness to the client.
 */
import { BinaryWriter } from "@bufbuild/protobuf/wire";

/** Field 1, wire type 2. */
const FIELD_1 = 10;
/** Field 2, wire type 2. */
const FIELD_2 = 18;

/** GetJobMetricsResponse { metrics = 1: MetricResults { attempted = 1, committed = 2 } }. */
export function encodeJobMetrics(attempted: readonly Uint8Array[], committed: readonly Uint8Array[]): Uint8Array {
  const writer = new BinaryWriter();
  writer.uint32(FIELD_1).fork();
  for (const info of attempted) writer.uint32(FIELD_1).bytes(info);
  for (const info of committed) writer.uint32(FIELD_2).bytes(info);
  return writer.join().finish();
}

/** Of a job without any: the Go SDK takes a response without the MetricResults message for a pointer to one. */
export const NO_METRICS: Uint8Array = encodeJobMetrics([], []);
