/** How a checkpoint went, line by line, for people. Pure. */
import type { CheckpointRecord } from "./snapshot-manifest.ts";

/** Each begins with a word or two, padded to one width. Warnings are not among them. */
export function recordLines(record: CheckpointRecord): string[] {
  const { alignmentMs, commitWaitMs, writeMs, writtenBytes, stateBytes, waitedFor, inFlightBytes = 0 } = record;
  return [
    `took        alignment ${alignmentMs} ms, wait for bundles ${commitWaitMs} ms, write ${writeMs} ms (the slowest task, each)`,
    ...(waitedFor === undefined ? [] : [`waited for  ${waitedFor}`]),
    ...(record.unaligned === true ? [`unaligned   ${inFlightBytes} bytes were on their way`] : []),
    `bytes       ${writtenBytes} written, ${stateBytes} in all`,
  ];
}
