/**
 * When is a job quiet? Pure; the rounds of questions and answers are test-stream-driver's.
 *
 * No single answer tells: workers answer one after another, and what one has sent may reach another that has answered
 * already. So a job is quiet when in two rounds, the second begun after all answers to the first, every worker was
 * idle, as many items were taken out of channels as were put in, and no count and no activity number changed in
 * between: then nobody did anything in all the time from the last answer of the first round to the first question
 * of the second, and nothing was on its way (Mattern's four-counter method, 1987).
 */
import type { WorkerId } from "../base/ids.ts";

export interface ProbeAnswer {
  readonly workerId: WorkerId;
  readonly sentItems: bigint;
  readonly receivedItems: bigint;
  readonly idle: boolean;
  readonly activity: bigint;
}

/** `still`: one quiet round; another one decides. */
export type Quiescence = "busy" | "still" | "quiet";

export class QuiescenceDetector {
  #previous: string | undefined;

  /** Takes a whole round: one answer of each worker. After "quiet" it begins anew. */
  round(answers: readonly ProbeAnswer[]): Quiescence {
    let inTransit = 0n;
    for (const { sentItems, receivedItems } of answers) inTransit += sentItems - receivedItems;
    if (inTransit !== 0n || !answers.every(({ idle }) => idle)) {
      this.#previous = undefined;
      return "busy";
    }
    const seen = answers
      .map(({ workerId, sentItems, receivedItems, activity }) =>
        [workerId, sentItems, receivedItems, activity].join(" "),
      )
      .sort()
      .join("\n");
    const quiet = seen === this.#previous;
    this.#previous = quiet ? undefined : seen;
    return quiet ? "quiet" : "still";
  }

  /** Something was done to the job: rounds so far say nothing any more. */
  disturbed(): void {
    this.#previous = undefined;
  }
}
