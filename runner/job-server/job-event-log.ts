/**
 * What happened to one job, in order: states and messages. A subscriber gets the history first and then follows; the
 * end of the log is the end of every subscription.
 *
 * Invariants: at most MAX_MESSAGES messages and `maxTextBytes` of text are kept, the oldest go first, and a
 * subscriber that missed some is told how many; states are always kept. A slow subscriber costs nothing but its place.
 */
import type { StoredEvent } from "../checkpoint/stored-submission.ts";
import { importanceNumber, type MessageImportance, messageImportance } from "./job-executor.ts";
import type { JobState } from "./job-state.ts";

interface EventBase {
  /** Counts up from 1 in each job. */
  readonly sequence: number;
  readonly timeMs: number;
}

export interface StateEvent extends EventBase {
  readonly kind: "state";
  readonly state: JobState;
}

export interface MessageEvent extends EventBase {
  readonly kind: "message";
  readonly importance: MessageImportance;
  readonly text: string;
}

export type JobEvent = StateEvent | MessageEvent;

const BATCH_SIZE = 256;
const MAX_MESSAGES = 10_000;
/** A longer text keeps its beginning and its end: a traceback's last line is what matters. */
const MAX_TEXT_LENGTH = 128 * 1024;

/** `text`, cut in the middle when it is longer than a message may be. */
export function boundedText(text: string): string {
  if (text.length <= MAX_TEXT_LENGTH) return text;
  const half = MAX_TEXT_LENGTH / 2;
  return `${text.slice(0, half)}\n… ${text.length - MAX_TEXT_LENGTH} characters left out …\n${text.slice(-half)}`;
}

export class JobEventLog {
  readonly #maxTextBytes: number;
  #events: JobEvent[] = [];
  #messageCount = 0;
  #textLength = 0;
  #lastSequence = 0;
  #ended = false;
  #appended = Promise.withResolvers<void>();

  /** @param history of a job that another server ran before */
  constructor(maxTextBytes: number, history: readonly JobEvent[] = []) {
    this.#maxTextBytes = maxTextBytes;
    for (const event of history) this.append(event);
  }

  /** A log that has ended, for a job of the past. */
  static of(events: readonly JobEvent[]): JobEventLog {
    const log = new JobEventLog(Infinity);
    log.#events = [...events];
    log.#lastSequence = events.at(-1)?.sequence ?? 0;
    log.end();
    return log;
  }

  get nextSequence(): number {
    return this.#lastSequence + 1;
  }

  /** All states so far, oldest first. */
  get states(): StateEvent[] {
    return this.#events.filter((event) => event.kind === "state");
  }

  /** Kept ones with greater sequence numbers, oldest first. */
  after(sequence: number): readonly JobEvent[] {
    return this.#events.slice(this.#indexAfter(sequence));
  }

  /** All states, and as many of the last messages as have at most `maxTextLength` characters. */
  tail(maxTextLength: number): readonly JobEvent[] {
    let length = 0;
    return this.#events
      .toReversed()
      .filter((event) => event.kind === "state" || (length += event.text.length) <= maxTextLength)
      .reverse();
  }

  /** Adds an event. @returns the sequence number below which messages are no longer kept. */
  append(event: JobEvent): number | undefined {
    this.#events.push(event);
    this.#lastSequence = event.sequence;
    if (event.kind === "message") {
      this.#messageCount++;
      this.#textLength += event.text.length;
    }
    this.#wake();
    return this.#messageCount > MAX_MESSAGES || this.#textLength > this.#maxTextBytes ? this.#trim() : undefined;
  }

  /** Nothing more will come. Idempotent. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  #wake(): void {
    const appended = this.#appended;
    this.#appended = Promise.withResolvers<void>();
    appended.resolve();
  }

  /** History, then news as it comes, in batches; returns after the end of the log or when `signal` is aborted. */
  async *follow(signal: AbortSignal): AsyncGenerator<readonly JobEvent[], void, undefined> {
    let lastSequence = 0;
    signal.addEventListener("abort", () => this.#wake(), { once: true });
    while (!signal.aborted) {
      const ended = this.#ended;
      const appended = this.#appended.promise;
      const batch = this.#after(lastSequence);
      if (batch.length > 0) {
        lastSequence = (batch.at(-1) as JobEvent).sequence;
        yield batch;
      } else if (ended) {
        return;
      } else {
        await appended;
      }
    }
  }

  #indexAfter(sequence: number): number {
    let low = 0;
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#events[middle] as JobEvent).sequence > sequence) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #after(sequence: number): JobEvent[] {
    const low = this.#indexAfter(sequence);
    const batch: JobEvent[] = [];
    let previous = sequence;
    for (const event of this.#events.slice(low, low + BATCH_SIZE)) {
      const missed = event.sequence - previous - 1;
      if (missed > 0) {
        const text = `${missed} earlier message(s) are no longer kept.`;
        batch.push({ kind: "message", sequence: event.sequence - 1, timeMs: event.timeMs, importance: "BASIC", text });
      }
      batch.push(event);
      previous = event.sequence;
    }
    return batch;
  }

  /** Drops the older half of the messages, so that the cost per message stays constant. */
  #trim(): number {
    let toDrop = Math.ceil(this.#messageCount / 2);
    let droppedBelow = 0;
    this.#events = this.#events.filter((event) => {
      if (event.kind === "state" || toDrop === 0) return true;
      toDrop--;
      this.#messageCount--;
      this.#textLength -= event.text.length;
      droppedBelow = event.sequence + 1;
      return false;
    });
    return droppedBelow;
  }
}

/** As it is written beside a job's checkpoints. */
export function storedEvent(event: JobEvent): StoredEvent {
  const { sequence, timeMs } = event;
  return event.kind === "state"
    ? { sequence, timeMs, state: event.state }
    : { sequence, timeMs, importance: importanceNumber(event.importance), text: event.text };
}

/** The same back again. */
export function eventOf({ sequence, timeMs, state, importance, text }: StoredEvent): JobEvent {
  return state === undefined
    ? { kind: "message", sequence, timeMs, importance: messageImportance(importance ?? 0), text: text ?? "" }
    : { kind: "state", sequence, timeMs, state: state as JobState };
}
