/**
 * Which execution attempt each region of a streaming job is in. Pure.
 *
 * Invariants: a region is up, in one attempt, or down; an attempt's number is given to one region, once, and grows.
 */
import type { VertexId, WorkerId } from "../base/ids.ts";
import type { PlannedRegion, StreamingPlan } from "./streaming-plan.ts";

export interface DeployedRegion extends PlannedRegion {
  readonly executionAttempt: number;
}

export class RegionAttempts {
  #regions: readonly PlannedRegion[] = [];
  /** Of those that are up, by index. */
  readonly #attempts = new Map<number, number>();

  /** Regions that are up stay so: the plan has them where they are. */
  replan({ regions }: StreamingPlan): void {
    this.#regions = regions;
  }

  get isAnyUp(): boolean {
    return this.#attempts.size > 0;
  }

  /** In the plan's order. */
  get up(): readonly DeployedRegion[] {
    return this.#regions.flatMap((region) => {
      const executionAttempt = this.#attempts.get(region.index);
      return executionAttempt === undefined ? [] : [{ ...region, executionAttempt }];
    });
  }

  get down(): readonly PlannedRegion[] {
    return this.#regions.filter(({ index }) => !this.#attempts.has(index));
  }

  /** Of the vertex' region; undefined while it is down. */
  attemptOf(vertexId: string): number | undefined {
    return this.up.find(({ vertexIds }) => vertexIds.has(vertexId as VertexId))?.executionAttempt;
  }

  /** Those that are up and have the vertex. */
  with(vertexId: string): readonly DeployedRegion[] {
    return this.up.filter(({ vertexIds }) => vertexIds.has(vertexId as VertexId));
  }

  /** Those that are up and have a task on the worker. */
  on(workerId: WorkerId): readonly DeployedRegion[] {
    return this.up.filter(({ byWorker }) => byWorker.has(workerId));
  }

  deployed({ index }: PlannedRegion, executionAttempt: number): void {
    this.#attempts.set(index, executionAttempt);
  }

  lost(regions: readonly PlannedRegion[]): void {
    for (const { index } of regions) this.#attempts.delete(index);
  }
}
