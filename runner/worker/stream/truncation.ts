/**
 * Truncates restrictions of a job that drains: what is left of each is processed to its end, and what has no end is
 * given up. Runs the SDF's truncate transform as a bundle of its own.
 *
 * Source: beam:transform:sdf_truncate_sized_restrictions:v1 of beam_runner_api.proto.
 */
import type { Log } from "../../base/log.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import type { TruncateSpec } from "../../graph/execution-graph.ts";
import { bundleInputOf } from "../task/bundle-input.ts";
import type { HarnessConnection } from "../task/harness-connection.ts";
import { BundleRunner } from "./bundle-runner.ts";
import { elementsOf } from "./encoded-elements.ts";
import type { Residuals, RunningResiduals } from "./residuals.ts";

export interface TruncationInit {
  readonly stageName: string;
  readonly descriptorId: string;
  readonly truncate: TruncateSpec;
  readonly chunkBytes: number;
  /** Over one sized element and restriction. */
  readonly skip: Skip;
  readonly residuals: Residuals;
  readonly maxBundleAttempts: number;
  readonly harness: (signal: AbortSignal) => Promise<HarnessConnection>;
  readonly log: Log;
  readonly signal: AbortSignal;
}

export class Truncation {
  readonly #init: TruncationInit;
  readonly #runner: BundleRunner;
  #committed: Uint8Array[] = [];

  constructor(init: TruncationInit) {
    this.#init = init;
    this.#runner = new BundleRunner({
      stageName: `${init.stageName} (truncate)`,
      plan: {
        descriptorId: init.descriptorId,
        sourceTransformId: init.truncate.sourceTransformId,
        sinkTransformIds: [init.truncate.sinkTransformId],
        chunkBytes: init.chunkBytes,
        skip: init.skip,
      },
      output: {
        begin: () => {
          const emitted: Uint8Array[] = [];
          return {
            accept: (_sink, data) => void emitted.push(data),
            commit: () => {
              this.#committed = emitted;
            },
            abort: () => undefined,
          };
        },
      },
      userState: undefined,
      timers: undefined,
      onState: () => {
        throw new Error("Truncation reads no state.");
      },
      sideInputTokens: () => [],
      maxBundleAttempts: init.maxBundleAttempts,
      harness: init.harness,
      log: init.log,
      signal: init.signal,
    });
  }

  /** Puts what is left of the restrictions in their place. @throws WeirError when the SDK cannot truncate. */
  run(taken: RunningResiduals): Promise<void> {
    const { residuals, skip } = this.#init;
    const input = bundleInputOf(taken.elements.map((data) => ({ data, elementCount: 1 })));
    return this.#runner.run(input, undefined, () => {
      taken.commit();
      for (const data of this.#committed)
        for (const element of elementsOf(data, skip))
          residuals.add({ element: element.slice(), dueMs: 0, hold: taken.hold, truncated: true });
      this.#committed = [];
    });
  }
}
