/**
 * The head of a TestStream: emits one event at a time, each when the job is quiet, which the job server finds out.
 *
 * The job's processing time is the TestStream's: it begins at 0 and moves by events only, as on Python's own runner, so
 * that tests can set timers for absolute times. After the last event all outputs' watermarks are at +∞; when the job is
 * quiet again, processing time is at its end, so that what waits for it does not wait for ever (as on Prism). The
 * position is a row, so that a restored task goes on with the event that was next.
 * Source: TestStreamPayload of beam_runner_api.proto; times in it are milliseconds.
 */
import { type TestStreamPayload_Event, TestStreamPayload } from "../../../proto/gen/beam_runner_api.ts";
import { varintSize, writeVarint } from "../../base/varint.ts";
import { encodeHeader } from "../../coders/windowed-value.ts";
import type { HeadSpec, TestStreamOutput } from "../../graph/execution-graph.ts";
import { NO_KEY_GROUP, type StateTable } from "../../state/state-rows.ts";
import { MAX_TIMESTAMP, type Timestamp } from "../../time/timestamp.ts";
import { openTestStreamEvents, type TestStreamEvents } from "./test-stream-events.ts";
import type { StreamOutputs } from "./stream-outputs.ts";
import { END_OF_PROCESSING_TIME_MS } from "./job-clock.ts";
import type { StreamTaskDeployed, StreamTaskEnvironment } from "./stream-task-environment.ts";

const POSITION_ROW = `${NO_KEY_GROUP}position`;
/** One for each output's tag. */
const WATERMARK_ROW_PREFIX = `${NO_KEY_GROUP}watermark\n`;
const GLOBAL_WINDOW: readonly Uint8Array[] = [new Uint8Array(0)];

export class TestStreamHead {
  readonly #environment: StreamTaskEnvironment;
  readonly #head: Extract<HeadSpec, { kind: "test-stream" }>;
  readonly #outputs: StreamOutputs;
  readonly #table: StateTable;
  readonly #events: TestStreamEvents;
  readonly #onProgress: (failure?: unknown) => void;
  #position = 0;
  /** Of the job, once the first event was asked for. */
  #nowMs: number | undefined;
  #isTimeTold = false;
  #isFetching = false;
  /** Watermarks are at +∞. */
  #isComplete = false;
  #ended = false;

  constructor(
    environment: StreamTaskEnvironment,
    _task: StreamTaskDeployed,
    head: Extract<HeadSpec, { kind: "test-stream" }>,
    outputs: StreamOutputs,
    onProgress: (failure?: unknown) => void,
  ) {
    this.#environment = environment;
    this.#head = head;
    this.#outputs = outputs;
    this.#onProgress = onProgress;
    this.#table = environment.rows.table("test-stream");
    const payload = TestStreamPayload.decode(head.payload);
    this.#events = openTestStreamEvents(
      payload,
      head.outputs.map(({ tag }) => tag),
    );
    const row = this.#table.get(POSITION_ROW);
    if (row !== undefined) {
      const view = new DataView(row.buffer, row.byteOffset);
      this.#position = view.getFloat64(0);
      this.#nowMs = view.getFloat64(8);
    }
  }

  /** All events have been emitted, all watermarks are at +∞, and so is processing time. */
  get ended(): boolean {
    return this.#ended;
  }

  /** A restored one says again where it stands: to consumers that were restored, and to clocks that begin anew. */
  start(): void {
    if (this.#nowMs !== undefined) this.#moveTime(this.#nowMs);
    for (const [key, row] of this.#table.entries())
      if (key.startsWith(WATERMARK_ROW_PREFIX))
        this.#emitWatermark(
          key.slice(WATERMARK_ROW_PREFIX.length),
          new DataView(row.buffer, row.byteOffset).getFloat64(0) as Timestamp,
        );
  }

  /** An event is being fetched. */
  get idle(): boolean {
    return !this.#isFetching;
  }

  /** Emits the next event. */
  advance(): void {
    if (this.#ended || this.#isFetching) return;
    // A restored task tells its time again: workers that have replaced others do not know it.
    if (!this.#isTimeTold) this.#moveTime(this.#nowMs ?? 0);
    if (this.#isComplete) {
      this.#moveTime(END_OF_PROCESSING_TIME_MS);
      this.#ended = true;
      return;
    }
    const next = this.#events.get(this.#position);
    if (!(next instanceof Promise)) {
      this.#emit(next);
      return;
    }
    this.#isFetching = true;
    next
      .then((event) => {
        this.#isFetching = false;
        this.#emit(event);
        this.#onProgress();
      })
      .catch((failure: unknown) => this.#onProgress(failure));
  }

  /** No further event: watermarks go to +∞. */
  drain(): void {
    this.#complete();
  }

  #emit(next: TestStreamPayload_Event | undefined): void {
    // One that was fetched while the job began to drain.
    if (this.#isComplete) return;
    if (next === undefined) {
      this.#complete();
      return;
    }
    this.#position++;
    const { event } = next;
    switch (event?.$case) {
      case "elementEvent": {
        const output = this.#output(event.value.tag);
        if (output !== undefined) this.#emitElements(output, event.value.elements);
        break;
      }
      case "watermarkEvent": {
        const timestamp = this.#timestamp(event.value.newWatermark);
        this.#table.put(`${WATERMARK_ROW_PREFIX}${event.value.tag}`, float64s(timestamp));
        this.#emitWatermark(event.value.tag, timestamp);
        break;
      }
      case "processingTimeEvent":
        this.#moveTime((this.#nowMs ?? 0) + this.#ms(event.value.advanceDuration));
        break;
      case undefined:
        break;
    }
    this.#store();
  }

  #emitWatermark(tag: string, timestamp: Timestamp): void {
    const datasets = this.#head.outputs.length === 1 ? undefined : new Set<string>(this.#output(tag)?.datasets ?? []);
    this.#outputs.emitWatermark(timestamp, datasets);
  }

  #emitElements(
    output: TestStreamOutput,
    elements: readonly { readonly encodedElement: Uint8Array; readonly timestamp: bigint }[],
  ): void {
    const parts: Uint8Array[] = [];
    for (const { encodedElement, timestamp } of elements)
      parts.push(
        encodeHeader(this.#timestamp(timestamp), GLOBAL_WINDOW),
        varint(encodedElement.length),
        encodedElement,
      );
    const bundle = this.#outputs.begin();
    bundle.acceptHead({ data: Buffer.concat(parts), elementCount: elements.length }, new Set<string>(output.datasets));
    bundle.commit();
  }

  /** An empty tag means the main output; where there is one output, any tag means that. */
  #output(tag: string): TestStreamOutput | undefined {
    const { outputs } = this.#head;
    if (outputs.length === 1) return outputs[0];
    return outputs.find((output) => output.tag === tag);
  }

  /** Of the model's millisecond: no element falls behind a watermark by it. */
  #timestamp(units: bigint): Timestamp {
    return Math.floor(this.#ms(units)) as Timestamp;
  }

  #ms(units: bigint): number {
    return Number(units) / this.#events.unitsPerMs;
  }

  #moveTime(nowMs: number): void {
    this.#nowMs = nowMs;
    this.#isTimeTold = true;
    this.#environment.setProcessingTime(nowMs);
  }

  #complete(): void {
    this.#isComplete = true;
    this.#events.close();
    this.#outputs.emitWatermark(MAX_TIMESTAMP);
    this.#store();
  }

  #store(): void {
    this.#table.put(POSITION_ROW, float64s(this.#position, this.#nowMs ?? 0));
  }

  close(): void {
    this.#events.close();
  }
}

function float64s(...values: readonly number[]): Uint8Array {
  const row = new Uint8Array(8 * values.length);
  const view = new DataView(row.buffer);
  values.forEach((value, index) => view.setFloat64(8 * index, value));
  return row;
}

function varint(value: number): Uint8Array {
  const bytes = new Uint8Array(varintSize(value));
  writeVarint(bytes, 0, value);
  return bytes;
}
