/** The client side of JobControl for the command line. */
import { resolve } from "node:path";
import { JobControlDefinition, type SavepointRequest, type SavepointResponse } from "../../proto/gen/control.ts";
import { type GenericService, openClient, unaryCall } from "../base/grpc.ts";
import { isRemote } from "../storage/checkpoint-storage.ts";
import { explainUnavailable } from "./attach-job.ts";

/**
 * Takes a savepoint of a job; waits for it, and with `stop` for the job's end.
 * @param path as given on the command line: relative to this process' folder, or a URL; undefined: the server chooses
 * @returns where it is
 * @throws WeirError NOT_FOUND for an unknown job, and why it could not be taken
 */
export async function takeSavepoint(
  endpoint: string,
  jobId: string,
  path: string | undefined,
  stop: boolean,
): Promise<string> {
  const client = openClient(JobControlDefinition as unknown as GenericService, endpoint);
  try {
    const request = { jobId, path: path === undefined || isRemote(path) ? (path ?? "") : resolve(path), stop };
    const taken = await unaryCall<SavepointRequest, SavepointResponse>(client, "savepoint", request);
    return taken.path;
  } catch (thrown) {
    throw explainUnavailable(thrown, endpoint);
  } finally {
    client.close();
  }
}
