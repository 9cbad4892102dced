/** Branded ids: a string that was made for one purpose cannot be passed for another. */

declare const brand: unique symbol;
export type Branded<Base, Name extends string> = Base & { readonly [brand]: Name };

export type JobId = Branded<string, "JobId">;
export type PreparationId = Branded<string, "PreparationId">;
/** A vertex of the execution graph. */
export type VertexId = Branded<string, "VertexId">;
/** An intermediate dataset: what one vertex writes for others, under one partitioner. */
export type DatasetId = Branded<string, "DatasetId">;
/** A TypeScript worker process. */
export type WorkerId = Branded<string, "WorkerId">;
/** One SDK harness; sent by it as `worker_id` metadata on every Fn API call. */
export type HarnessId = Branded<string, "HarnessId">;
/** One execution attempt of one subtask of one vertex of one job. */
export type TaskAttemptId = Branded<string, "TaskAttemptId">;
/** One instruction sent to a harness. */
export type InstructionId = Branded<string, "InstructionId">;
/** hash(encoded key) mod max_parallelism. */
export type KeyGroup = Branded<number, "KeyGroup">;
