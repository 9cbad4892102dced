/**
 * A TypeScript SDK harness in this process, joined to a HarnessConnection by a wire that decides when each message
 * arrives: at once in unit tests, by a seed in the simulation. Each stream keeps its order; streams overtake each other.
 */
import {
  Elements,
  type ProcessBundleDescriptor,
  type StateRequest,
  type StateResponse,
} from "../../proto/gen/beam_fn_api.ts";
import { WeirError } from "../../runner/base/errors.ts";
import type { HarnessId } from "../../runner/base/ids.ts";
import { HarnessConnection, type StateReply } from "../../runner/worker/task/harness-connection.ts";
import { SdkHarness } from "../../sdk-harness/sdk-harness.ts";
import type { FunctionRegistry } from "../../sdk-harness/user-functions.ts";

export type WireStream = "control" | "data" | "state";

export interface HarnessWire {
  /** Calls `arrive` later, after everything that went the same way on the same stream before. */
  deliver(stream: WireStream, direction: "to-harness" | "to-runner", arrive: () => void): void;
}

/** Everything arrives in the order in which it was sent, with the next microtask. */
const directWire: HarnessWire = { deliver: (_stream, _direction, arrive) => queueMicrotask(arrive) };

export interface InProcessHarnessInit {
  readonly harnessId: string;
  readonly functions: FunctionRegistry;
  readonly descriptor: (descriptorId: string) => ProcessBundleDescriptor | undefined;
  readonly nowMs: () => number;
  readonly turn?: () => Promise<void>;
  readonly wire?: HarnessWire;
  /** See SdkHarnessInit. */
  readonly messageBytes?: number;
}

export interface InProcessHarness {
  readonly connection: HarnessConnection;
  readonly harness: SdkHarness;
  /** As if its process had died. */
  kill(reason: string): void;
}

export function startInProcessHarness(init: InProcessHarnessInit): InProcessHarness {
  const { wire = directWire, turn = () => Promise.resolve() } = init;
  const connection = new HarnessConnection(init.harnessId as HarnessId);
  let dataTail = Promise.resolve();
  const harness = new SdkHarness({
    functions: init.functions,
    nowMs: init.nowMs,
    turn,
    ...(init.messageBytes === undefined ? {} : { messageBytes: init.messageBytes }),
    runner: {
      descriptor: init.descriptor,
      respond: (response) => wire.deliver("control", "to-runner", () => connection.onInstructionResponse(response)),
      elements: (elements) =>
        wire.deliver("data", "to-runner", () => {
          dataTail = dataTail
            .then(() => connection.onElements(elements))
            .catch((failure: unknown) =>
              connection.lose(`its data could not be taken (${WeirError.from(failure).message})`),
            );
        }),
      state: (request) =>
        wire.deliver("state", "to-runner", () => {
          void answerState(connection, request).then((response) =>
            wire.deliver("state", "to-harness", () => harness.onStateResponse(response)),
          );
        }),
    },
  });
  const ended = () => harness.close();
  connection.attachControl({
    write: (request) => {
      wire.deliver("control", "to-harness", () => harness.onInstruction(request));
      return true;
    },
    once: () => undefined,
    end: ended,
  });
  connection.attachData({
    write: (message) => {
      wire.deliver("data", "to-harness", () => harness.onElements(Elements.decode(message)));
      return true;
    },
    once: () => undefined,
    end: ended,
  });
  return {
    connection,
    harness,
    kill: (reason) => {
      harness.close();
      connection.lose(reason);
    },
  };
}

async function answerState(connection: HarnessConnection, request: StateRequest): Promise<StateResponse> {
  const { id, instructionId } = request;
  try {
    const bundle = connection.bundle(instructionId);
    if (bundle === undefined) throw new Error(`No running bundle "${instructionId}".`);
    return { id, error: "", response: responseOf(await bundle.onState(request)) };
  } catch (failure) {
    return { id, error: WeirError.from(failure).message, response: undefined };
  }
}

function responseOf(reply: StateReply): NonNullable<StateResponse["response"]> {
  switch (reply.kind) {
    case "get":
      return { $case: "get", value: { data: reply.data, continuationToken: reply.continuationToken } };
    case "append":
      return { $case: "append", value: {} };
    case "clear":
      return { $case: "clear", value: {} };
  }
}
