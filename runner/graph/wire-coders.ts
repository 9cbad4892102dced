/**
 * Coders of what crosses between harness and runner. The runner walks standard coders; whatever else there is gets
 * a length prefix, on the writer's side and on the reader's, so that bytes written under one are read under the same.
 *
 * Invariants: `wire` and the others are pure functions of the coder id: the same id gives the same result wherever it
 * stands (key of a grouping, inside an iterable, in a timer), hence keys are the same bytes everywhere. Derived coders
 * are added to the plan's coders under readable, deterministic ids.
 * Source: Beam's fn_api_runner/translations.py, `maybe_length_prefixed_coder`.
 */
import type { Coder } from "../../proto/gen/beam_runner_api.ts";
import { userError } from "../base/errors.ts";
import { unusedId } from "./plan-node.ts";
import { CODER_URN } from "./urns.ts";

const LEAF_CODERS: ReadonlySet<string> = new Set([
  CODER_URN.bytes,
  CODER_URN.stringUtf8,
  CODER_URN.bool,
  CODER_URN.varint,
  CODER_URN.double,
  CODER_URN.intervalWindow,
  CODER_URN.globalWindow,
]);

/** Row, nullable and sharded_key are not among them: opaque behind a length prefix, they need no walking. */
const COMPOSITE_CODERS: ReadonlySet<string> = new Set([
  CODER_URN.kv,
  CODER_URN.iterable,
  CODER_URN.stateBackedIterable,
  CODER_URN.windowedValue,
  CODER_URN.paramWindowedValue,
]);

const NO_PAYLOAD = new Uint8Array();

export class WireCoders {
  readonly #coders: Map<string, Coder>;
  readonly #derived = new Map<string, string>();
  readonly #equal = new Map<string, boolean>();

  /** @param coders the plan's table, to which derived coders are added. */
  constructor(coders: Map<string, Coder>) {
    this.#coders = coders;
  }

  get(id: string): Coder {
    const coder = this.#coders.get(id);
    if (coder === undefined) throw userError("INVALID_ARGUMENT", `Coder '${id}' is not in the pipeline.`);
    return coder;
  }

  urn(id: string): string {
    return this.get(id).spec?.urn ?? "";
  }

  /** The coder under which elements of a coder cross; the id itself where the runner knows it through and through. */
  wire(id: string): string {
    return this.#derive(`wire ${id}`, () => {
      const coder = this.get(id);
      const urn = coder.spec?.urn ?? "";
      if (urn === CODER_URN.lengthPrefix || LEAF_CODERS.has(urn)) return id;
      if (!COMPOSITE_CODERS.has(urn)) return this.of(`${id}:lp`, CODER_URN.lengthPrefix, [id]);
      const isWindowed = urn === CODER_URN.windowedValue || urn === CODER_URN.paramWindowedValue;
      const components = coder.componentCoderIds.map((component, index) =>
        isWindowed && index === 1 ? this.wireWindow(component) : this.wire(component),
      );
      if (components.every((component, index) => component === coder.componentCoderIds[index])) return id;
      return this.of(`${id}:wire`, urn, components, coder.spec?.payload);
    });
  }

  /**
   * The coder under which windows of a coder cross, in elements, timers and state keys alike: the runner needs every
   * window's maximum timestamp, so a custom window becomes custom_window(length_prefix(coder)).
   */
  wireWindow(id: string): string {
    return this.#derive(`window ${id}`, () => {
      const urn = this.urn(id);
      if (urn === CODER_URN.globalWindow || urn === CODER_URN.intervalWindow) return id;
      if (urn === CODER_URN.customWindow) {
        const component = this.get(id).componentCoderIds[0] ?? "";
        const wired = this.wire(component);
        return wired === component ? id : this.of(`${id}:window`, urn, [wired]);
      }
      const prefixed = urn === CODER_URN.lengthPrefix ? id : this.of(`${id}:lp`, CODER_URN.lengthPrefix, [id]);
      return this.of(`${id}:window`, CODER_URN.customWindow, [prefixed]);
    });
  }

  /** windowed_value of two coders, both as they cross. */
  windowed(elementId: string, windowId: string): string {
    return this.of(`windowed(${elementId},${windowId})`, CODER_URN.windowedValue, [elementId, windowId]);
  }

  /** timer of two coders, both as they cross. */
  timer(keyId: string, windowId: string): string {
    return this.of(`timer(${keyId},${windowId})`, CODER_URN.timer, [keyId, windowId]);
  }

  /**
   * kv<K, iterable<V>> as kv<K, state_backed_iterable<V>>.
   * The payload is the number of elements past which an SDK would write to state itself: as in Beam, "1".
   */
  stateBacked(kvId: string): string {
    const [key = "", values = ""] = this.get(kvId).componentCoderIds;
    const iterable = this.of(
      `${values}:state_backed`,
      CODER_URN.stateBackedIterable,
      this.get(values).componentCoderIds,
      new TextEncoder().encode("1"),
    );
    return this.of(`${kvId}:state_backed`, CODER_URN.kv, [key, iterable]);
  }

  /** A coder with this content, by a readable id; an equal one that is there under that id is reused. */
  of(id: string, urn: string, components: readonly string[], payload: Uint8Array = NO_PAYLOAD): string {
    const key = JSON.stringify([urn, Buffer.from(payload).toString("base64"), components]);
    return this.#derive(key, () => {
      const free = unusedId(this.#coders, id);
      this.#coders.set(free, { spec: { urn, payload }, componentCoderIds: [...components] });
      return free;
    });
  }

  /** True when two coders have the same structure, whatever their ids. */
  equal(left: string, right: string): boolean {
    if (left === right) return true;
    // Remembered, because coders share components: without it a hostile pipeline takes exponential time.
    const pair = JSON.stringify([left, right]);
    const known = this.#equal.get(pair);
    if (known !== undefined) return known;
    const a = this.get(left);
    const b = this.get(right);
    const result =
      a.spec?.urn === b.spec?.urn &&
      Buffer.compare(a.spec?.payload ?? NO_PAYLOAD, b.spec?.payload ?? NO_PAYLOAD) === 0 &&
      a.componentCoderIds.length === b.componentCoderIds.length &&
      a.componentCoderIds.every((component, index) => this.equal(component, b.componentCoderIds[index] ?? ""));
    this.#equal.set(pair, result);
    return result;
  }

  /** The ids and everything that they are made of. `into` (length_prefix) false leaves out what the runner never sees. */
  closure(ids: Iterable<string>, intoLengthPrefix = true): string[] {
    const seen = new Set<string>();
    const stack = [...ids];
    for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
      if (seen.has(id)) continue;
      seen.add(id);
      const coder = this.get(id);
      if (intoLengthPrefix || coder.spec?.urn !== CODER_URN.lengthPrefix) stack.push(...coder.componentCoderIds);
    }
    return [...seen].sort();
  }

  #derive(key: string, make: () => string): string {
    const known = this.#derived.get(key);
    if (known !== undefined) return known;
    const id = make();
    this.#derived.set(key, id);
    return id;
  }
}
