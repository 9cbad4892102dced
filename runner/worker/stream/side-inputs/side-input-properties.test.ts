// Side inputs of a task against a naive model, over random arrivals, watermarks, bundles, expiries and restores: what a
// window holds, when it can be read, that nothing changes under a bundle, and that a cache token stands for one content.
import test from "ava";
import fc from "fast-check";
import { MemoryRows } from "../../../state/state-rows.ts";
import type { Timestamp } from "../../../time/timestamp.ts";
import {
  chunkOf,
  fixed,
  interval,
  MULTIMAP,
  openSideInputs,
  readAll,
  request,
  type Shape,
  textsIn,
} from "./side-input-fixture.ts";

const SIZE_MS = 10;
const WINDOWS = [0, 1, 2, 3];
const KEYS = ["a", "b", "c"];
/** So that most contents have several. */
const PAGE_BYTES = 5;

interface Added {
  readonly key: string;
  readonly text: string;
  readonly paneIndex: number;
}

type Action =
  | { readonly kind: "add"; readonly window: number; readonly elements: readonly Added[] }
  | { readonly kind: "advance" | "expire"; readonly byMs: number }
  | { readonly kind: "open" | "close" | "restore" };

const added = fc.record({ key: fc.constantFrom(...KEYS), text: fc.string({ maxLength: 6, unit: "grapheme-ascii" }) });
const action: fc.Arbitrary<Action> = fc.oneof(
  fc
    .record({
      window: fc.constantFrom(...WINDOWS),
      paneIndex: fc.nat(2),
      elements: fc.array(added, { minLength: 1, maxLength: 4 }),
    })
    .map(({ window, paneIndex, elements }) => ({
      kind: "add" as const,
      window,
      elements: elements.map((each) => ({ ...each, paneIndex })),
    })),
  fc.record({ kind: fc.constantFrom("advance" as const, "expire" as const), byMs: fc.integer({ min: 1, max: 15 }) }),
  fc.record({ kind: fc.constantFrom("open" as const, "close" as const, "restore" as const) }),
);

interface State {
  /** What each window holds, in the order of its arrival. */
  readonly contents: readonly (readonly Added[])[];
  readonly watermark: number;
  /** Of main input: windows before it are read no more. */
  readonly expired: number;
}

/** Applies what a closed bundle lets in. Discarded panes of an updating side input replace each other. */
function next(state: State, { kind, ...rest }: Action, updating: boolean): State {
  if (kind === "advance") return { ...state, watermark: state.watermark + (rest as { byMs: number }).byMs };
  if (kind === "expire") return { ...state, expired: state.expired + (rest as { byMs: number }).byMs };
  if (kind !== "add") return state;
  const { window, elements } = rest as { window: number; elements: readonly Added[] };
  const contents = state.contents.map((content, index) => {
    if (index !== window) return content;
    const [newest] = elements;
    return [...(updating ? content.filter(({ paneIndex }) => paneIndex === newest?.paneIndex) : content), ...elements];
  });
  return { ...state, contents };
}

class Checked {
  readonly #shape: Shape;
  readonly #isMap: boolean;
  readonly #table = new MemoryRows().table("side-inputs");
  #subject;
  #restores = 0;
  /** As bundles see it, and with all that has arrived. */
  #seen: State = { contents: WINDOWS.map(() => []), watermark: 0, expired: 0 };
  #arrived: State = this.#seen;
  readonly #open: (() => void)[] = [];
  readonly #byToken = new Map<string, string>();

  constructor(shape: Shape, isMap: boolean) {
    this.#shape = shape;
    this.#isMap = isMap;
    this.#subject = this.#openSubject();
  }

  #openSubject() {
    return openSideInputs(this.#shape, this.#table, {
      pageBytes: PAGE_BYTES,
      cacheTokenPrefix: `attempt ${this.#restores++}`,
    });
  }

  run(action: Action): void {
    // Upstream drops what is late.
    if (action.kind === "add" && (action.window + 1) * SIZE_MS <= this.#arrived.watermark) return;
    this.#arrived = next(this.#arrived, action, this.#shape.updating === true);
    switch (action.kind) {
      case "add": {
        const windows = [windowOf(action.window)];
        const elements = action.elements.map(({ key, text, paneIndex: index }) => ({
          value: this.#isMap ? ([key, text] as const) : text,
          windows,
          pane: { timing: "EARLY" as const, index },
        }));
        this.#subject.add("d1", chunkOf(...elements));
        break;
      }
      case "advance":
        this.#subject.advance("d1", this.#arrived.watermark as Timestamp);
        break;
      case "expire":
        this.#subject.expire(this.#arrived.expired as Timestamp);
        break;
      case "open":
        this.#open.push(this.#subject.freeze());
        break;
      case "close":
        this.#open.pop()?.();
        break;
      case "restore":
        if (this.#open.length === 0) this.#subject = this.#openSubject();
    }
    if (this.#open.length === 0) this.#seen = this.#arrived;
    for (const window of WINDOWS) this.#check(window);
  }

  #check(window: number): void {
    const { contents, watermark } = this.#seen;
    const content = contents[window] ?? [];
    const lastMs = (window + 1) * SIZE_MS - 1;
    // Main input reads it no more.
    if (lastMs < this.#arrived.expired) return;
    const isReady = watermark > lastMs || (this.#shape.updating === true && content.length > 0);
    const main = chunkOf({ value: "main", windows: [windowOf(window)] });
    equal(this.#subject.divide(main).ready !== undefined, isReady, `window ${window} is ready`);
    const found = this.#isMap ? this.#readMap(window) : this.#read(window);
    const wanted = this.#isMap ? mapOf(content) : content.map(({ text }) => text);
    equal(found, wanted, `content of window ${window}`);
    const [token] = this.#subject.cacheTokens();
    const name = `${Buffer.from(token?.token ?? []).toString()} ${window}`;
    const text = JSON.stringify(found);
    equal(text, this.#byToken.get(name) ?? text, "content by one token");
    this.#byToken.set(name, text);
  }

  #read(window: number): string[] {
    return textsIn(readAll(this.#subject, request("iterableSideInput", windowOf(window))).data);
  }

  #readMap(window: number): [string, string[]][] {
    const keys = textsIn(readAll(this.#subject, request("multimapKeysSideInput", windowOf(window))).data);
    return keys.map((key) => [
      key,
      textsIn(readAll(this.#subject, request("multimapSideInput", windowOf(window), key)).data),
    ]);
  }
}

function windowOf(window: number): Uint8Array {
  return interval(window * SIZE_MS, (window + 1) * SIZE_MS);
}

/** Keys in the order in which they came first. */
function mapOf(content: readonly Added[]): [string, string[]][] {
  const byKey = Map.groupBy(content, ({ key }) => key);
  return [...byKey].map(([key, elements]) => [key, elements.map(({ text }) => text)]);
}

function equal(found: unknown, wanted: unknown, what: string): void {
  const [left, right] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (left !== right) throw new Error(`${what}: ${left} instead of ${right}`);
}

for (const isMap of [false, true])
  for (const updating of [false, true])
    test(`${updating ? "an updating" : "a"} side input as ${isMap ? "a multimap" : "an iterable"} is as a naive model has it`, (t) => {
      const windowing = fixed(SIZE_MS);
      const element = isMap ? ("pair" as const) : ("text" as const);
      const pattern = isMap ? { accessPatternUrn: MULTIMAP } : {};
      fc.assert(
        fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
          const checked = new Checked({ main: windowing, side: windowing, updating, element, ...pattern }, isMap);
          for (const each of actions) checked.run(each);
        }),
        { numRuns: 300 },
      );
      t.pass();
    });
