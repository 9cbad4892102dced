import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import test, { type ExecutionContext } from "ava";
import { WebHdfsClient } from "./webhdfs-client.ts";

const REQUEST = { method: "GET", path: "/a b", operation: "GETFILESTATUS" } as const;

async function nameNode(t: ExecutionContext, answer: RequestListener): Promise<string> {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function refusing(exception: string): RequestListener {
  return (_request, response) => {
    response.writeHead(403, { "content-type": "application/json" });
    response.end(JSON.stringify({ RemoteException: { exception, message: "why\n\tat org.apache.hadoop" } }));
  };
}

test("of two NameNodes the active one is found, and asked first from then on", async (t) => {
  let asked = 0;
  let isActive = true;
  const standby = await nameNode(t, (request, response) => {
    asked++;
    refusing("StandbyException")(request, response);
  });
  const active = await nameNode(t, (request, response) => {
    t.regex(request.url ?? "", /^\/webhdfs\/v1\/a%20b\?op=GETFILESTATUS&user.name=somebody$/);
    if (isActive) response.end('{"found": true}');
    else refusing("StandbyException")(request, response);
  });
  const client = new WebHdfsClient([standby, active], "somebody");
  t.deepEqual(await client.ask(REQUEST), { found: true });
  t.deepEqual(await client.ask(REQUEST), { found: true });
  t.is(asked, 1);
  isActive = false;
  await t.throwsAsync(client.ask(REQUEST), { code: "UNAVAILABLE", message: "StandbyException: why" });
});

test("what the NameNode refuses is said in its words, and told apart", async (t) => {
  const refused = async (listener: RequestListener) =>
    t.throwsAsync(new WebHdfsClient([await nameNode(t, listener)]).ask(REQUEST));
  t.like(await refused(refusing("AccessControlException")), { code: "FAILED_PRECONDITION" });
  t.like(await refused(refusing("FileNotFoundException")), { code: "NOT_FOUND" });
  t.like(await refused(refusing("SafeModeException")), { code: "UNAVAILABLE", message: "SafeModeException: why" });
  const kerberos = await refused((_request, response) => response.writeHead(401).end("<html>"));
  t.like(kerberos, { code: "FAILED_PRECONDITION" });
  t.regex(kerberos?.message ?? "", /Kerberos/);
});
