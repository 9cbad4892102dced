/**
 * Monitoring infos by short id: an SDK may send only {short id: payload} and tell what the ids stand for once, when
 * asked. Ids belong to one harness process and never change there.
 *
 * Source: ProcessBundleResponse.monitoring_data and MonitoringInfosMetadataRequest of beam_fn_api.proto.
 */
import type { MonitoringInfo } from "../../../proto/gen/metrics.ts";
import type { HarnessConnection } from "./harness-connection.ts";

const known = new WeakMap<HarnessConnection, Map<string, MonitoringInfo>>();

/** The full infos of a response. @throws WeirError when the harness is lost while it is asked for metadata. */
export async function fullMonitoringInfos(
  harness: HarnessConnection,
  response: {
    readonly monitoringInfos: readonly MonitoringInfo[];
    readonly monitoringData: Readonly<Record<string, Uint8Array>>;
  },
): Promise<readonly MonitoringInfo[]> {
  const ids = Object.keys(response.monitoringData);
  if (response.monitoringInfos.length > 0 || ids.length === 0) return response.monitoringInfos;
  let table = known.get(harness);
  if (table === undefined) {
    table = new Map();
    known.set(harness, table);
  }
  const unknown = ids.filter((id) => !table.has(id));
  if (unknown.length > 0) {
    const answer = await harness.instruct(harness.newInstructionId(), {
      $case: "monitoringInfos",
      value: { monitoringInfoId: unknown },
    });
    if (answer.response?.$case === "monitoringInfos")
      for (const [id, info] of Object.entries(answer.response.value.monitoringInfo)) table.set(id, info);
  }
  return ids.flatMap((id) => {
    const info = table.get(id);
    const payload = response.monitoringData[id];
    return info === undefined || payload === undefined ? [] : [{ ...info, payload }];
  });
}
