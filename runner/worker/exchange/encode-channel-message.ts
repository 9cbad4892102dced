/**
 * ChannelMessage of exchange.proto: data by hand, so that its bytes are copied once, into the message, also where
 * several chunks are joined; the rest by the generated code. Decoding hands out slices of the message.
 */
import { ChannelMessage } from "../../../proto/gen/exchange.ts";
import type { Chunk } from "../../base/chunk.ts";
import { WeirError } from "../../base/errors.ts";
import { asBuffer } from "../../base/grpc.ts";
import type { Timestamp } from "../../time/timestamp.ts";
import { barrierOf, type ChannelItem } from "../stream/channel-queue.ts";
import { varintSize, writeVarint } from "../../base/varint.ts";

/** Field 1, length-delimited. */
const DATA_TAG = 0x0a;
/** Fields 4, 5 and 6, varints. */
const ELEMENT_COUNT_TAG = 0x20;
const ITEM_COUNT_TAG = 0x28;
const SEQUENCE_TAG = 0x30;

/** What the exchange knows of an item beside the item. */
export interface ItemSpan {
  /** How many of the producer's items it stands for. */
  readonly itemCount: number;
  /** The number of the last of them. */
  readonly sequence: number;
}

/** One data message of all the chunks, in their order. */
export function encodeData(chunks: readonly Chunk[], span: ItemSpan): Buffer {
  let byteLength = 0;
  let elementCount = 0;
  for (const chunk of chunks) {
    byteLength += chunk.data.byteLength;
    elementCount += chunk.elementCount;
  }
  const { itemCount, sequence } = span;
  const tail = 3 + varintSize(elementCount) + varintSize(itemCount) + varintSize(sequence);
  const message = Buffer.allocUnsafeSlow(1 + varintSize(byteLength) + byteLength + tail);
  message[0] = DATA_TAG;
  let at = writeVarint(message, 1, byteLength);
  for (const chunk of chunks) {
    message.set(chunk.data, at);
    at += chunk.data.byteLength;
  }
  message[at] = ELEMENT_COUNT_TAG;
  at = writeVarint(message, at + 1, elementCount);
  message[at] = ITEM_COUNT_TAG;
  at = writeVarint(message, at + 1, itemCount);
  message[at] = SEQUENCE_TAG;
  writeVarint(message, at + 1, sequence);
  return message;
}

/** A watermark or barrier. */
export function encodeMark(mark: Exclude<ChannelItem, { kind: "data" }>, span: ItemSpan): Buffer {
  const item =
    mark.kind === "watermark"
      ? ({ $case: "watermark", value: BigInt(mark.timestamp) } as const)
      : ({ $case: "barrier", value: BigInt(mark.barrier.checkpointId) } as const);
  const after = mark.kind === "barrier" ? mark.barrier.overtakesAfterMs : undefined;
  const savepoint = mark.kind === "barrier" ? mark.barrier.savepoint : undefined;
  const message: ChannelMessage = {
    item,
    elementCount: 0,
    itemCount: span.itemCount,
    sequence: BigInt(span.sequence),
    overtakesAfterMs: after === undefined ? undefined : BigInt(Math.ceil(after)),
    savepointPath: savepoint?.path ?? "",
    savepointStops: savepoint?.stops ?? false,
  };
  return asBuffer(ChannelMessage.encode(message).finish());
}

/** @throws WeirError DATA_LOSS for a message that holds no item that we know. */
export function decodeChannelMessage(bytes: Buffer): ItemSpan & { readonly item: ChannelItem } {
  const message = ChannelMessage.decode(bytes);
  const { item, elementCount, itemCount, sequence } = message;
  const span = { itemCount, sequence: Number(sequence) };
  switch (item?.$case) {
    case "data":
      return { ...span, item: { kind: "data", chunk: { data: item.value, elementCount } } };
    case "watermark":
      return { ...span, item: { kind: "watermark", timestamp: Number(item.value) as Timestamp } };
    case "barrier":
      return { ...span, item: { kind: "barrier", barrier: barrierOf({ ...message, checkpointId: item.value }) } };
    case undefined:
      throw new WeirError({
        code: "DATA_LOSS",
        domain: "internal",
        message: `Message ${span.sequence} of a channel holds no item that this worker knows.`,
        hint: "Do all workers run the same version of Weir?",
      });
  }
}
