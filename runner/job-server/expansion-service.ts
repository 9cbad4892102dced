/**
 * The expansion port: Python transforms for pipelines of other SDKs. What is asked for here is passed on to Beam's own
 * Python expansion service, which is started at the first request, and again when it has ended; a server that nobody
 * asks pays for none.
 *
 * Beam's IOs in Java are no Python transforms: their expansion service is Beam's jar, which clients start or name.
 */
import { ArtifactRetrievalServiceDefinition } from "../../proto/gen/beam_artifact_api.ts";
import { ExpansionServiceDefinition } from "../../proto/gen/beam_expansion_api.ts";
import { type GenericService, GrpcServer } from "../base/grpc.ts";
import { proxyService } from "../base/grpc-proxy.ts";
import type { Log } from "../base/log.ts";
import { assertPortFree } from "./assert-port-free.ts";

/** An expansion service that runs. */
export interface ExpansionBackend {
  /** HOST:PORT. */
  readonly address: string;
  /** Resolves when it is gone; never rejects. */
  readonly ended: Promise<unknown>;
  stop(): Promise<void>;
}

export interface ExpansionServiceInit {
  readonly host: string;
  /** 0 for any free one. */
  readonly port: number;
  /** @throws WeirError that says why there is none; the caller gets it. */
  readonly start: () => Promise<ExpansionBackend>;
  readonly log: Log;
}

/** A transform may read a schema from a table far away while it is expanded. */
const EXPAND_DEADLINE_MS = 600_000;

export class ExpansionService {
  readonly #init: ExpansionServiceInit;
  #server: GrpcServer | undefined;
  #backend: Promise<ExpansionBackend> | undefined;
  #isClosed = false;

  private constructor(init: ExpansionServiceInit) {
    this.#init = init;
  }

  /** @throws WeirError FAILED_PRECONDITION when the port is taken */
  static async open(init: ExpansionServiceInit): Promise<ExpansionService> {
    const { host, port } = init;
    await assertPortFree(host, port, "--expansion-port");
    const service = new ExpansionService(init);
    const address = async () => (await service.#started()).address;
    service.#server = await GrpcServer.open(
      [ExpansionServiceDefinition, ArtifactRetrievalServiceDefinition].map((definition) =>
        proxyService(definition as unknown as GenericService, address, EXPAND_DEADLINE_MS),
      ),
      host,
      port,
    );
    return service;
  }

  /** HOST:PORT. */
  get address(): string {
    return this.#server?.address ?? "";
  }

  #started(): Promise<ExpansionBackend> {
    if (this.#backend !== undefined) return this.#backend;
    const starting = this.#init.start();
    this.#backend = starting;
    const forget = () => {
      if (this.#backend === starting) this.#backend = undefined;
    };
    starting.then(async (backend) => {
      this.#init.log.info({ address: backend.address }, "the Python expansion service has started");
      if (this.#isClosed) await backend.stop();
      await backend.ended;
      forget();
    }, forget);
    return starting;
  }

  /** Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#server?.close();
    await this.#backend?.then(
      (backend) => backend.stop(),
      () => undefined,
    );
  }
}
