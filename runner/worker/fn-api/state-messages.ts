/**
 * The messages of the state stream, by hand where there are many of them: an SDK asks for each key's user state, and
 * waits for each answer. Requests for bags (value, bag and combining state) are read in place, names that are those of
 * the request before are not decoded again; every other request is left to the generated decoder.
 *
 * Source: StateRequest {id = 1, instruction_id = 2, state_key = 3 {bag_user_state = 3 {transform_id = 1,
 * user_state_id = 2, window = 3, key = 4}}, get = 1000 {continuation_token = 1}, append = 1001 {data = 1}, clear = 1002}
 * and StateResponse {id = 1, error = 2, get = 1000 {continuation_token = 1, data = 2}, append = 1001, clear = 1002} of
 * beam_fn_api.proto.
 */
import { StateRequest, StateResponse } from "../../../proto/gen/beam_fn_api.ts";
import { readVarint, varintLength, writeVarint } from "../../coders/byte-reader.ts";
import type { StateReply } from "../task/harness-connection.ts";

const NO_BYTES = new Uint8Array(0);
/** The fields 1000 to 1002 begin with these two bytes: their tags are 8002, 8010 and 8018. */
const GET = Buffer.from([0xc2, 0x3e]);
const APPEND = Buffer.from([0xca, 0x3e]);
const CLEAR = Buffer.from([0xd2, 0x3e]);

/** A string that came before, with its bytes. */
class KnownText {
  #bytes: Uint8Array = NO_BYTES;
  #text = "";

  at(bytes: Buffer, start: number, end: number): string {
    const known = this.#bytes;
    let same = end - start === known.length;
    for (let at = known.length - 1; same && at >= 0; at--) same = bytes[start + at] === known[at];
    if (!same) {
      this.#bytes = Uint8Array.prototype.slice.call(bytes, start, end);
      this.#text = bytes.toString("utf8", start, end);
    }
    return this.#text;
  }
}

/** Reads the requests of one stream. */
export class StateRequestReader {
  readonly #instruction = new KnownText();
  readonly #transform = new KnownText();
  readonly #state = new KnownText();
  #at = 0;

  /** @param message kept: keys and data are views into it */
  read(message: Buffer): StateRequest {
    return this.#readBagRequest(message) ?? StateRequest.decode(message);
  }

  /** Fields in their order, each once: undefined for whatever else. */
  #readBagRequest(message: Buffer): StateRequest | undefined {
    const total = message.length;
    if (message[0] !== 0x0a) return undefined;
    let end = this.#enter(message, 1, total);
    if (end < 0) return undefined;
    // As the generated decoder reads it, where it is ASCII; others are left to that.
    const id = message.toString("latin1", this.#at, end);
    if (message[end] !== 0x12 || !isAscii(id)) return undefined;
    end = this.#enter(message, end + 1, total);
    if (end < 0) return undefined;
    const instructionId = this.#instruction.at(message, this.#at, end);
    if (message[end] !== 0x1a) return undefined;
    const keyEnd = this.#enter(message, end + 1, total);
    if (message[this.#at] !== 0x1a || this.#enter(message, this.#at + 1, total) !== keyEnd) return undefined;
    let transformId = "";
    let userStateId = "";
    let window: Uint8Array = NO_BYTES;
    let key: Uint8Array = NO_BYTES;
    let tag = 0;
    while (this.#at < keyEnd) {
      const next = message[this.#at] as number;
      if (next <= tag) return undefined;
      tag = next;
      const fieldEnd = this.#enter(message, this.#at + 1, keyEnd);
      if (fieldEnd < 0) return undefined;
      if (tag === 0x0a) transformId = this.#transform.at(message, this.#at, fieldEnd);
      else if (tag === 0x12) userStateId = this.#state.at(message, this.#at, fieldEnd);
      else if (tag === 0x1a) window = message.subarray(this.#at, fieldEnd);
      else if (tag === 0x22) key = message.subarray(this.#at, fieldEnd);
      else return undefined;
      this.#at = fieldEnd;
    }
    const request = this.#readBody(message, keyEnd);
    if (request === undefined) return undefined;
    const value = { transformId, userStateId, window, key };
    return { id, instructionId, stateKey: { type: { $case: "bagUserState", value } }, request };
  }

  /** The last field. */
  #readBody(message: Buffer, start: number): StateRequest["request"] {
    const total = message.length;
    const [kind, wide] = [message[start], message[start + 1]];
    if (wide !== 0x3e || this.#enter(message, start + 2, total) !== total) return undefined;
    if (kind === 0xd2) return this.#at === total ? { $case: "clear", value: {} } : undefined;
    let bytes: Uint8Array = NO_BYTES;
    if (this.#at < total) {
      if (message[this.#at] !== 0x0a || this.#enter(message, this.#at + 1, total) !== total) return undefined;
      bytes = message.subarray(this.#at, total);
    }
    if (kind === 0xc2) return { $case: "get", value: { continuationToken: bytes } };
    return kind === 0xca ? { $case: "append", value: { data: bytes } } : undefined;
  }

  /** Goes behind the length at `position`. @returns the end of what is that long; -1 when it is not within `limit` */
  #enter(message: Buffer, position: number, limit: number): number {
    const first = message[position] ?? 0x80;
    const length = first < 0x80 ? first : readVarint(message, position, "state request");
    this.#at = position + (first < 0x80 ? 1 : varintLength(length));
    const end = this.#at + length;
    return end <= limit ? end : -1;
  }
}

/** One StateResponse message. */
export function encodeStateReply(id: string, reply: StateReply): Buffer {
  const idBytes = id.length;
  // Ids are the SDK's own: short ones of digits, but they need not be.
  if (idBytes > 127 || !isAscii(id)) return generic(id, reply);
  if (reply.kind !== "get") {
    const message = Buffer.allocUnsafe(idBytes + 5);
    const at = writeId(message, id);
    (reply.kind === "append" ? APPEND : CLEAR).copy(message, at);
    message[at + 2] = 0;
    return message;
  }
  const { continuationToken: token, data } = reply;
  const bodyBytes = fieldBytes(token) + fieldBytes(data);
  const message = Buffer.allocUnsafe(idBytes + 4 + varintLength(bodyBytes) + bodyBytes);
  let at = writeId(message, id);
  at += GET.copy(message, at);
  at = writeVarint(message, at, bodyBytes);
  at = writeField(message, at, 0x0a, token);
  writeField(message, at, 0x12, data);
  return message;
}

export function encodeStateError(id: string, error: string): Buffer {
  return Buffer.from(StateResponse.encode({ id, error, response: undefined }).finish());
}

function generic(id: string, reply: StateReply): Buffer {
  const response: StateResponse["response"] =
    reply.kind === "get"
      ? { $case: "get", value: { data: reply.data, continuationToken: reply.continuationToken } }
      : { $case: reply.kind, value: {} };
  return Buffer.from(StateResponse.encode({ id, error: "", response }).finish());
}

function isAscii(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (text.charCodeAt(at) > 127) return false;
  return true;
}

function writeId(into: Buffer, id: string): number {
  into[0] = 0x0a;
  into[1] = id.length;
  for (let at = 0; at < id.length; at++) into[2 + at] = id.charCodeAt(at);
  return 2 + id.length;
}

function fieldBytes(bytes: Uint8Array): number {
  return bytes.length === 0 ? 0 : 1 + varintLength(bytes.length) + bytes.length;
}

function writeField(into: Buffer, position: number, tag: number, bytes: Uint8Array): number {
  if (bytes.length === 0) return position;
  into[position] = tag;
  const at = writeVarint(into, position + 1, bytes.length);
  into.set(bytes, at);
  return at + bytes.length;
}
