/**
 * ReadResponse of exchange.proto as bytes, by hand: the data is copied once, into the message.
 * Decoding is the generated code's, which hands out slices.
 */
import { varintSize, writeVarint } from "../../base/varint.ts";

/** The methods of the Exchange service whose messages are Buffers on both sides. */
export const RAW_METHODS: ReadonlySet<string> = new Set(["read"]);

/** Field 1, length-delimited. */
const DATA_TAG = 0x0a;
/** Field 2, varint. */
const ELEMENT_COUNT_TAG = 0x10;
/** Field 3, true. */
const END = Buffer.from([0x18, 1]);

/** The partition's last message. */
export const END_RESPONSE: Buffer = END;

export function encodeReadResponse(data: Uint8Array, elementCount: number): Buffer {
  const size = 1 + varintSize(data.byteLength) + data.byteLength + 1 + varintSize(elementCount);
  const message = Buffer.allocUnsafeSlow(size);
  message[0] = DATA_TAG;
  let at = writeVarint(message, 1, data.byteLength);
  message.set(data, at);
  at += data.byteLength;
  message[at] = ELEMENT_COUNT_TAG;
  writeVarint(message, at + 1, elementCount);
  return message;
}
