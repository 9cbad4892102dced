/** Puts the input channels of a task together, as a snapshot has left them. */
import { MIN_TIMESTAMP } from "../../time/timestamp.ts";
import type { InFlightOfChannel } from "./in-flight/in-flight-rows.ts";
import { restoredChannels } from "./in-flight/task-in-flight.ts";
import { InputGate } from "./input-gate.ts";
import type { StreamTaskDeployed } from "./stream-task-environment.ts";
import type { TaskMarks } from "./task-marks.ts";

/**
 * @param inFlight what was in the channels
 * @param blocks false: a channel is read on behind a barrier (AT_LEAST_ONCE)
 * @param wake called when something has come in
 * @throws WeirError naming a channel that the snapshot has and the task has not
 */
export function openGate(
  { vertex, inputs }: StreamTaskDeployed,
  marks: TaskMarks,
  inFlight: readonly InFlightOfChannel[],
  blocks: boolean,
  wake: () => void,
): InputGate {
  const restored = restoredChannels(
    inFlight,
    inputs.map(({ queue }) => queue.id),
  );
  const sides = new Set<string>(vertex.stage?.sideInputs.flatMap((side) => side.datasets) ?? []);
  const mains = new Set<string>(vertex.inputs);
  const markOf = (name: string) => marks.get(name) ?? MIN_TIMESTAMP;
  return new InputGate(
    inputs.map(({ datasetId, queue }) => {
      queue.onItem = wake;
      const side = sides.has(datasetId) && !mains.has(datasetId);
      return { datasetId, side, queue, restored: restored.get(queue.id) };
    }),
    { main: markOf("main"), side: new Map([...sides].map((datasetId) => [datasetId, markOf(`side ${datasetId}`)])) },
    blocks,
  );
}
