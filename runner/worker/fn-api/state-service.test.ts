import * as grpc from "@grpc/grpc-js";
import test, { type ExecutionContext } from "ava";
import type { StateRequest, StateResponse } from "../../../proto/gen/beam_fn_api.ts";
import { GrpcServer, openClient } from "../../base/grpc.ts";
import type { HarnessId, InstructionId } from "../../base/ids.ts";
import { HarnessConnection, type StateReply } from "../task/harness-connection.ts";
import { stateService } from "./fn-api-services.ts";

/** A harness's state stream; `onState` answers for its one bundle. */
async function openState(t: ExecutionContext, onState: () => Promise<StateReply> | StateReply) {
  const connection = new HarnessConnection("harness" as HarnessId);
  const watched = { descriptorId: "d", activity: 0, awaitsInput: false, progress: () => Promise.resolve(undefined) };
  const streams = { watched, onData: () => undefined, onTimers: () => undefined, onState };
  connection.openBundle("bundle" as InstructionId, streams);
  const served = stateService({
    connection: () => connection,
    connections: () => [connection],
    descriptor: () => undefined,
  });
  const server = await GrpcServer.open([served], "localhost", 0);
  const client = openClient(served.service, server.address);
  const metadata = new grpc.Metadata();
  metadata.set("worker_id", "harness");
  const open = client["state"] as (metadata: grpc.Metadata) => grpc.ClientDuplexStream<StateRequest, StateResponse>;
  const call = open.call(client, metadata);
  call.on("error", () => undefined);
  t.teardown(async () => {
    call.cancel();
    client.close();
    await server.close();
  });
  return call;
}

function getRequest(id: string, instructionId = "bundle"): StateRequest {
  return {
    id,
    instructionId,
    stateKey: undefined,
    request: { $case: "get", value: { continuationToken: new Uint8Array() } },
  };
}

const REQUESTS = 500;

for (const isAsync of [false, true])
  test(`an SDK that asks faster than it reads is not listened to, ${isAsync ? "later" : "at once"} answered`, async (t) => {
    const page: StateReply = { kind: "get", data: new Uint8Array(64 * 1024), continuationToken: new Uint8Array() };
    let begun = 0;
    const call = await openState(t, () => {
      begun++;
      return isAsync ? new Promise((resolve) => setImmediate(() => resolve(page))) : page;
    });
    for (let at = 0; at < REQUESTS; at++) call.write(getRequest(`${at}`));
    let read = 0;
    let mostWaiting = 0;
    for await (const response of call as AsyncIterable<StateResponse>) {
      mostWaiting = Math.max(mostWaiting, begun - read);
      t.is(response.id, `${read}`);
      if (++read === REQUESTS) break;
      await new Promise((resolve) => setImmediate(resolve));
    }
    t.is(read, REQUESTS);
    t.true(mostWaiting <= 150, `${mostWaiting} answers waited`);
  });

test("a request that fails, or is no running bundle's, is answered with the reason", async (t) => {
  const call = await openState(t, () => Promise.reject(new Error("no such state")));
  const answers: StateResponse[] = [];
  call.write(getRequest("1"));
  call.write(getRequest("2", "another"));
  for await (const response of call as AsyncIterable<StateResponse>) if (answers.push(response) === 2) break;
  t.deepEqual(
    new Map(answers.map(({ id, error }) => [id, error])),
    new Map([
      ["1", "no such state"],
      ["2", 'No running bundle "another".'],
    ]),
  );
});
