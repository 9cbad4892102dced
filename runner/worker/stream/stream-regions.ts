/**
 * The streaming tasks of a job on one worker: those of each region by themselves, so that one begins a new execution
 * attempt while the others go on.
 *
 * Invariant: an execution attempt's number belongs to one region, so that what the job server says of an attempt can be
 * told to all of them: those that are in another one ignore it.
 */
import type { CoordinatorMessage } from "../../../proto/gen/worker.ts";
import { crashPoint } from "../../base/crash-points.ts";
import { barrierOf } from "./channel-queue.ts";
import type { StreamJob } from "./stream-job.ts";

export class StreamRegions {
  readonly #open: (region: number) => StreamJob;
  readonly #regions = new Map<number, StreamJob>();

  /** @param open called once for each region */
  constructor(open: (region: number) => StreamJob) {
    this.#open = open;
  }

  /** @returns false when it is none about streaming tasks */
  onMessage(message: NonNullable<CoordinatorMessage["message"]>): boolean {
    switch (message.$case) {
      case "deployStreamTasks":
        void this.#of(message.value.region).deploy(message.value);
        return true;
      case "cancelStreamTasks":
        void this.#regions.get(message.value.region)?.cancel(message.value.executionAttempt);
        return true;
      case "streamProbe":
        this.#tell((region) => region.probe(message.value.executionAttempt, message.value.probeId));
        return true;
      case "advanceTestStream":
        this.#tell((region) => region.advanceTestStream(message.value.executionAttempt));
        return true;
      case "setProcessingTime":
        this.#tell((region) => region.setProcessingTime(message.value.executionAttempt, Number(message.value.nowMs)));
        return true;
      case "triggerCheckpoint":
        crashPoint("before-barrier");
        this.#tell((region) => region.trigger(message.value.executionAttempt, barrierOf(message.value)));
        return true;
      case "checkpointEnd":
        if (message.value.complete) crashPoint("before-finalization");
        this.#tell((region) => region.checkpointEnded(message.value));
        return true;
      case "drainJob":
        this.#tell((region) => region.drain(message.value.executionAttempt));
        return true;
      default:
        return false;
    }
  }

  #of(index: number): StreamJob {
    let region = this.#regions.get(index);
    if (region === undefined) this.#regions.set(index, (region = this.#open(index)));
    return region;
  }

  #tell(what: (region: StreamJob) => void): void {
    for (const region of this.#regions.values()) what(region);
  }

  /** Ends all tasks and channels. Idempotent. */
  async close(): Promise<void> {
    await Promise.all([...this.#regions.values()].map((region) => region.close()));
  }
}
