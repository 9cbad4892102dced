/**
 * Says in time that a port is taken. grpc-js binds every address of a name and is content with one of them: on a
 * machine where another server has 127.0.0.1:8099, "localhost:8099" would be bound on ::1 alone, and half of the
 * clients would talk to the other server.
 */
import { lookup } from "node:dns/promises";
import { createServer } from "node:net";
import { WeirError } from "../base/errors.ts";

/** @throws WeirError FAILED_PRECONDITION naming the port and its flag when any address of `host` has it taken. */
export async function assertPortFree(host: string, port: number, flag: string): Promise<void> {
  if (port === 0) return;
  for (const { address } of await addressesOf(host)) {
    const failure = await tryToListen(address, port);
    // An address family that the machine lacks is no obstacle.
    if (failure === undefined || failure.code === "EADDRNOTAVAIL" || failure.code === "EAFNOSUPPORT") continue;
    throw new WeirError({
      code: "FAILED_PRECONDITION",
      domain: "user",
      message:
        failure.code === "EADDRINUSE"
          ? `Port ${port} is in use on ${host} (${address}).`
          : `Cannot listen on ${host}:${port}: ${failure.message}.`,
      hint: `Choose another one with ${flag}, or 0 for any free port.`,
      cause: failure,
    });
  }
}

async function addressesOf(host: string): Promise<readonly { readonly address: string }[]> {
  try {
    return await lookup(host, { all: true });
  } catch (cause) {
    const message = `The host name ${host} cannot be resolved: ${(cause as Error).message}.`;
    throw new WeirError({ code: "FAILED_PRECONDITION", domain: "user", message, hint: "Check --job-host.", cause });
  }
}

function tryToListen(address: string, port: number): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", (failure) => resolve(failure));
    probe.listen({ host: address, port, exclusive: true }, () => probe.close(() => resolve(undefined)));
  });
}
