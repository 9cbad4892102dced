/**
 * Hand-written encoder of Elements messages for the Data stream: the payload is copied once, into the message.
 * Source: message Elements of beam_fn_api.proto (data = 1 {instruction_id = 1, transform_id = 2, data = 3, is_last = 4},
 * timers = 2 {instruction_id = 1, transform_id = 2, timer_family_id = 3, timers = 4, is_last = 5}).
 */

import { varintSize, writeVarint } from "../../base/varint.ts";

function writeField(into: Buffer, position: number, tag: number, text: Buffer): number {
  let at = position;
  into[at++] = tag;
  at = writeVarint(into, at, text.length);
  at += text.copy(into, at);
  return at;
}

/** One Elements message with one Data part: `chunks` concatenated. No chunks and `isLast` ends the stream. */
export function encodeData(
  instructionId: string,
  transformId: string,
  chunks: readonly Uint8Array[],
  isLast: boolean,
): Buffer {
  return encodePart(
    0x0a,
    [Buffer.from(instructionId), Buffer.from(transformId)],
    0x1a,
    chunks,
    isLast ? 0x20 : undefined,
  );
}

/** One Elements message with one Timers part. */
export function encodeTimers(
  instructionId: string,
  transformId: string,
  timerFamilyId: string,
  chunks: readonly Uint8Array[],
  isLast: boolean,
): Buffer {
  const names = [Buffer.from(instructionId), Buffer.from(transformId), Buffer.from(timerFamilyId)];
  return encodePart(0x12, names, 0x22, chunks, isLast ? 0x28 : undefined);
}

function encodePart(
  partTag: number,
  names: readonly Buffer[],
  payloadTag: number,
  chunks: readonly Uint8Array[],
  lastTag: number | undefined,
): Buffer {
  let payload = 0;
  for (const chunk of chunks) payload += chunk.length;
  let body = 0;
  for (const name of names) body += 1 + varintSize(name.length) + name.length;
  if (payload > 0) body += 1 + varintSize(payload) + payload;
  if (lastTag !== undefined) body += 2;
  const message = Buffer.allocUnsafe(1 + varintSize(body) + body);
  message[0] = partTag;
  let at = writeVarint(message, 1, body);
  names.forEach((name, index) => {
    at = writeField(message, at, ((index + 1) << 3) | 2, name);
  });
  if (payload > 0) {
    message[at++] = payloadTag;
    at = writeVarint(message, at, payload);
    for (const chunk of chunks) {
      message.set(chunk, at);
      at += chunk.length;
    }
  }
  if (lastTag !== undefined) {
    message[at++] = lastTag;
    message[at++] = 1;
  }
  return message;
}
