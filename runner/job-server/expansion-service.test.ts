import test, { type ExecutionContext } from "ava";
import { ExpansionRequest, ExpansionResponse, ExpansionServiceDefinition } from "../../proto/gen/beam_expansion_api.ts";
import { userError, WeirError } from "../base/errors.ts";
import { type GenericService, GrpcServer, openClient, unaryCall, unaryHandler } from "../base/grpc.ts";
import { silentLog } from "../base/log.ts";
import { ExpansionService } from "./expansion-service.ts";

const EXPANSION = ExpansionServiceDefinition as unknown as GenericService;

interface Backend {
  readonly stopped: boolean;
  /** It ends as if it had been killed. */
  end(): Promise<void>;
}

/** An expansion service whose backends answer with their number; those of `failing` do not start. */
async function open(t: ExecutionContext, failing: readonly number[] = []) {
  const backends: Backend[] = [];
  let starts = 0;
  const service = await ExpansionService.open({
    host: "localhost",
    port: 0,
    log: silentLog(),
    start: async () => {
      const number = ++starts;
      if (failing.includes(number)) throw userError("FAILED_PRECONDITION", `No Python for number ${number}.`);
      const handlers = { expand: unaryHandler(() => ExpansionResponse.fromPartial({ error: `number ${number}` })) };
      const server = await GrpcServer.open([{ service: EXPANSION, handlers }], "localhost", 0);
      const ended = Promise.withResolvers<void>();
      const state = { stopped: false };
      const end = async () => {
        await server.close();
        ended.resolve();
      };
      const stop = async () => {
        state.stopped = true;
        await end();
      };
      backends.push(Object.assign(state, { end }));
      return { address: server.address, ended: ended.promise, stop };
    },
  });
  t.teardown(() => service.close());
  const expand = async (): Promise<string> => {
    const client = openClient(EXPANSION, service.address);
    try {
      return (await unaryCall<object, { error: string }>(client, "expand", ExpansionRequest.fromPartial({}))).error;
    } finally {
      client.close();
    }
  };
  return { service, backends, expand, starts: () => starts };
}

test("nothing is started before somebody asks, and then one for all that ask", async (t) => {
  const { service, backends, expand, starts } = await open(t);
  t.is(starts(), 0);
  t.deepEqual(await Promise.all([expand(), expand(), expand()]), ["number 1", "number 1", "number 1"]);
  await service.close();
  t.deepEqual([starts(), backends[0]?.stopped], [1, true]);
});

test("when it has ended another one is started for the next request", async (t) => {
  const { backends, expand } = await open(t);
  t.is(await expand(), "number 1");
  await backends[0]?.end();
  t.is(await expand(), "number 2");
});

test("who asks is told why it cannot be started, and it is tried again", async (t) => {
  const { expand } = await open(t, [1]);
  const { code, message } = await t.throwsAsync(expand(), { instanceOf: WeirError });
  t.deepEqual([code, message], ["FAILED_PRECONDITION", "No Python for number 1."]);
  t.is(await expand(), "number 2");
});

test("a port in use is named with its flag", async (t) => {
  const { service } = await open(t);
  const port = Number(service.address.split(":")[1]);
  const start = () => Promise.reject(new Error("not asked"));
  await t.throwsAsync(ExpansionService.open({ host: "localhost", port, start, log: silentLog() }), {
    message: new RegExp(`Port ${port} is in use.*--expansion-port`),
  });
});

test("of what the other server cannot do the caller is told by that", async (t) => {
  const { service } = await open(t);
  const client = openClient(EXPANSION, service.address);
  t.teardown(() => client.close());
  const { code } = await t.throwsAsync(unaryCall(client, "discoverSchemaTransform", {}), { instanceOf: WeirError });
  t.is(code, "UNIMPLEMENTED");
});
