/**
 * Groups as a stage's bundles see them: those with many bytes of values go to the harness as a token under which the
 * SDK reads the values page by page, so that user code may iterate over more than the harness has room for.
 *
 * Invariants: only what a bundle is given is rewritten; rows, queues and pushed-back input hold whole groups, so that
 * a token means nothing beyond the bundle and its retries. Pages are whole values, at least one.
 * Source: IterableLikeCoder of the Java SDK (the form of a token, see state/grouping/group-encoder.ts).
 */
import type { StateRequest } from "../../../proto/gen/beam_fn_api.ts";
import type { Chunk } from "../../base/chunk.ts";
import { WeirError } from "../../base/errors.ts";
import { readInt32, writeVarint } from "../../coders/byte-reader.ts";
import { compileSkip, componentOf, type Skip } from "../../coders/element-boundary.ts";
import { newHeader, WindowedValueLayout } from "../../coders/windowed-value.ts";
import type { CoderTable } from "../../graph/execution-graph.ts";
import type { StateReply } from "../task/harness-connection.ts";

export interface PagedValuesLimits {
  /** Groups whose values are larger are read through state. */
  readonly stateBackedIterableBytes: number;
  readonly statePageBytes: number;
}

/** A count of -1, a run of -1 values (a varint of 64 bits), the token's length, the token. */
const COUNT_BYTES = 4;
const MINUS_ONE_VARINT_BYTES = 10;
const TOKEN_BYTES = 4;
const TOKEN_FORM_BYTES = COUNT_BYTES + MINUS_ONE_VARINT_BYTES + 1 + TOKEN_BYTES;
const CONTINUATION_BYTES = 6;

export class PagedValues {
  readonly #layout: WindowedValueLayout;
  readonly #skipKey: Skip;
  readonly #skipValue: Skip;
  readonly #limits: PagedValuesLimits;
  readonly #header = newHeader();
  /** Values of the running bundle's large groups, by token. */
  #groups: Uint8Array[] = [];

  /** @param coderId windowed_value<kv<K, state_backed_iterable<V>>> */
  constructor(coders: CoderTable, coderId: string, limits: PagedValuesLimits) {
    this.#limits = limits;
    this.#layout = new WindowedValueLayout(coders, coderId);
    const kv = coders[this.#layout.valueCoderId];
    const values = kv === undefined ? undefined : coders[componentOf(kv, 1, coderId)];
    if (kv === undefined || values === undefined)
      throw new WeirError({ code: "INTERNAL", domain: "internal", message: `Coder ${coderId} is not one of groups.` });
    this.#skipKey = compileSkip(coders, componentOf(kv, 0, coderId));
    this.#skipValue = compileSkip(coders, componentOf(values, 0, coderId));
  }

  /** The chunks of a bundle, large groups by token. What the bundle before was given is forgotten. */
  begin(chunks: readonly Chunk[]): readonly Chunk[] {
    this.#groups = [];
    return chunks.map((chunk) => this.#page(chunk));
  }

  end(): void {
    this.#groups = [];
  }

  /** Answers requests for the values behind a token. @throws WeirError NOT_FOUND for any other. */
  answer(request: StateRequest): StateReply {
    const key = request.stateKey?.type;
    const get = request.request?.$case === "get" ? request.request.value : undefined;
    const values =
      key?.$case === "runner" && key.value.key.length === TOKEN_BYTES
        ? this.#groups[Buffer.from(key.value.key).readUInt32BE()]
        : undefined;
    if (values === undefined || get === undefined)
      throw new WeirError({
        code: "NOT_FOUND",
        domain: "internal",
        message: "A bundle asked for values of a group that it was not given.",
      });
    const token = Buffer.from(get.continuationToken);
    const start = token.length === CONTINUATION_BYTES ? token.readUIntBE(0, CONTINUATION_BYTES) : 0;
    let end = start;
    while (end < values.length && end - start < this.#limits.statePageBytes) end = this.#skipValue(values, end);
    const continuationToken = Buffer.alloc(end < values.length ? CONTINUATION_BYTES : 0);
    if (continuationToken.length > 0) continuationToken.writeUIntBE(end, 0, CONTINUATION_BYTES);
    return { kind: "get", data: values.subarray(start, end), continuationToken };
  }

  #page(chunk: Chunk): Chunk {
    const { data } = chunk;
    const inlineBytes = this.#limits.stateBackedIterableBytes;
    if (data.length <= inlineBytes) return chunk;
    const parts: Uint8Array[] = [];
    let copied = 0;
    for (let start = 0; start < data.length;) {
      const end = this.#layout.skip(data, start);
      if (end - start > inlineBytes) {
        this.#layout.readHeader(data, start, this.#header);
        const countAt = this.#skipKey(data, this.#header.valueStart);
        const isWhole = readInt32(data, countAt, "a group") >= 0;
        if (isWhole && end - countAt > inlineBytes) {
          parts.push(data.subarray(copied, countAt), this.#token(data.subarray(countAt + COUNT_BYTES, end)));
          copied = end;
        }
      }
      start = end;
    }
    if (copied === 0) return chunk;
    parts.push(data.subarray(copied));
    return { data: Buffer.concat(parts), elementCount: chunk.elementCount };
  }

  #token(values: Uint8Array): Uint8Array {
    const form = Buffer.alloc(TOKEN_FORM_BYTES);
    form.writeInt32BE(-1, 0);
    form.fill(0xff, COUNT_BYTES, COUNT_BYTES + MINUS_ONE_VARINT_BYTES - 1);
    form[COUNT_BYTES + MINUS_ONE_VARINT_BYTES - 1] = 1;
    const at = writeVarint(form, COUNT_BYTES + MINUS_ONE_VARINT_BYTES, TOKEN_BYTES);
    form.writeUInt32BE(this.#groups.length, at);
    this.#groups.push(values);
    return form;
  }
}
