/**
 * A task's in-flight data between its parts and the rows of a snapshot: gathered when a barrier overtakes, given back to
 * the parts when the task is restored. Pure.
 */
import { WeirError } from "../../../base/errors.ts";
import type { ChannelId } from "../channel-queue.ts";
import { chunkBytes } from "../spilled-output.ts";
import type { RestoredChannel } from "../input-gate.ts";
import type { SideInputArrival } from "../stream-ports.ts";
import { MIN_TIMESTAMP } from "../../../time/timestamp.ts";
import type { RecordedChannel } from "./channel-recording.ts";
import type { InFlight, InFlightOfChannel } from "./in-flight-rows.ts";

/** Of each channel how far it was read, then what was in it. */
export function recordedInput(channels: readonly RecordedChannel[]): InFlightOfChannel[] {
  return channels.flatMap(({ queue, watermark, items }) => {
    const of = { datasetId: queue.id.datasetId, otherSubtask: queue.id.producerSubtask, consumerVertexId: "" };
    return [{ ...of, entry: { kind: "read", timestamp: watermark } }, ...items.map((entry) => ({ ...of, entry }))];
  });
}

export function sideInput(arrived: readonly SideInputArrival[]): InFlightOfChannel[] {
  return arrived.map(({ datasetId, entry }) => ({ datasetId, otherSubtask: 0, consumerVertexId: "", entry }));
}

/** False when a snapshot without it is the same. */
export function hasData({ stage, side, input, output }: InFlight): boolean {
  return stage.length + side.length + output.length > 0 || input.some(({ entry }) => entry.kind !== "read");
}

export function inFlightBytes({ stage, side, input, output }: InFlight): number {
  let bytes = 0;
  for (const entry of stage) if (entry.kind === "data") bytes += chunkBytes(entry.chunk);
  for (const part of [side, input, output])
    for (const { entry } of part) if (entry.kind === "data") bytes += chunkBytes(entry.chunk);
  return bytes;
}

/**
 * What was in a task's input channels.
 * @throws WeirError naming a channel that the task does not have
 */
export function restoredChannels(
  input: readonly InFlightOfChannel[],
  channels: readonly ChannelId[],
): ReadonlyMap<ChannelId, RestoredChannel> {
  const restored = new Map<
    ChannelId,
    { watermark: RestoredChannel["watermark"]; items: SideInputArrival["entry"][] }
  >();
  const byName = new Map(channels.map((id) => [`${id.datasetId}\n${id.producerSubtask}`, id]));
  for (const { datasetId, otherSubtask, entry } of input) {
    const id = byName.get(`${datasetId}\n${otherSubtask}`);
    if (id === undefined) throw unknownChannel(`from subtask ${otherSubtask} of the producer of ${datasetId}`);
    let channel = restored.get(id);
    if (channel === undefined) restored.set(id, (channel = { watermark: MIN_TIMESTAMP, items: [] }));
    if (entry.kind === "read") channel.watermark = entry.timestamp;
    else channel.items.push(entry);
  }
  return restored;
}

/** @throws WeirError DATA_LOSS: it names what the task does not have */
export function unknownChannel(which: string): WeirError {
  return new WeirError({
    code: "FAILED_PRECONDITION",
    domain: "user",
    message: `The snapshot holds data that was on its way ${which}, and the job has no such channel.`,
    hint: "An unaligned checkpoint fits only the very same pipeline at the same parallelism: a savepoint fits others.",
  });
}
