import test from "ava";
import { StateRequest, StateResponse } from "../../../proto/gen/beam_fn_api.ts";
import type { StateReply } from "../task/harness-connection.ts";
import { encodeStateError, encodeStateReply, StateRequestReader } from "./state-messages.ts";

const bytes = (text: string) => Buffer.from(text);
const LONG = Buffer.alloc(70_000, 7);

function bagRequests(): StateRequest[] {
  const requests: StateRequest["request"][] = [
    { $case: "get", value: { continuationToken: bytes("") } },
    { $case: "get", value: { continuationToken: bytes("page 2") } },
    { $case: "append", value: { data: bytes("") } },
    { $case: "append", value: { data: bytes("value") } },
    { $case: "append", value: { data: LONG } },
    { $case: "clear", value: {} },
  ];
  const keys = [bytes(""), bytes("key"), LONG];
  return keys.flatMap((key, at) =>
    requests.map((request, number): StateRequest => ({
      id: `${at * 100 + number}`,
      instructionId: `bündel-${at}`,
      stateKey: {
        type: {
          $case: "bagUserState",
          value: { transformId: `transform ${at % 2}`, userStateId: "state", window: key.subarray(0, 2), key },
        },
      },
      request,
    })),
  );
}

const plain = (request: StateRequest) => Buffer.from(StateRequest.encode(request).finish()).toString("base64");

test("requests for bags are read as the generated decoder reads them", (t) => {
  const reader = new StateRequestReader();
  for (const request of bagRequests()) {
    const message = Buffer.from(StateRequest.encode(request).finish());
    t.is(plain(reader.read(message)), plain(StateRequest.decode(message)));
    // Cut off, it is refused as the generated decoder refuses it, or read as it reads it.
    for (const length of [1, 3, 9, message.length >> 1, message.length - 1]) {
      const cut = message.subarray(0, length);
      const read = (decode: () => StateRequest) => {
        try {
          return plain(decode());
        } catch {
          return "refused";
        }
      };
      t.is(
        read(() => new StateRequestReader().read(cut)),
        read(() => StateRequest.decode(cut)),
      );
    }
  }
});

test("other requests, and fields in another order, are left to the generated decoder", (t) => {
  const reader = new StateRequestReader();
  const side: StateRequest = {
    id: "1",
    instructionId: "2",
    stateKey: { type: { $case: "runner", value: { key: bytes("key") } } },
    request: { $case: "get", value: { continuationToken: bytes("") } },
  };
  t.is(plain(reader.read(Buffer.from(StateRequest.encode(side).finish()))), plain(side));
  const reversed = Buffer.from([0x12, 1, 0x62, 0x0a, 1, 0x61]);
  t.is(plain(reader.read(reversed)), plain(StateRequest.decode(reversed)));
});

test("answers are what the generated encoder writes", (t) => {
  const replies: StateReply[] = [
    { kind: "get", data: bytes(""), continuationToken: bytes("") },
    { kind: "get", data: bytes("data"), continuationToken: bytes("") },
    { kind: "get", data: LONG, continuationToken: bytes("more") },
    { kind: "append" },
    { kind: "clear" },
  ];
  for (const id of ["1", "bündel", "x".repeat(200)])
    for (const reply of replies) {
      const response: StateResponse["response"] =
        reply.kind === "get"
          ? { $case: "get", value: { data: reply.data, continuationToken: reply.continuationToken } }
          : { $case: reply.kind, value: {} };
      t.deepEqual(encodeStateReply(id, reply), Buffer.from(StateResponse.encode({ id, error: "", response }).finish()));
    }
  t.is(StateResponse.decode(encodeStateError("7", "no")).error, "no");
});
