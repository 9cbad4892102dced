/**
 * Requests to WebHDFS, HDFS's HTTP interface. The NameNode answers, or sends on to the DataNode that has the bytes; where
 * there is a standby NameNode, the one that is active is found. A client of our own on Node's fetch, since the packages
 * for it have had no releases for years, and hold files in memory. DataNodes are spoken to by node:http: they say "100
 * Continue" without being asked, which fetch takes for an error.
 *
 * Source: Hadoop's WebHDFS REST API, and the names of its RemoteExceptions.
 */
import { once } from "node:events";
import { type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { userInfo } from "node:os";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { text } from "node:stream/consumers";
import type { ErrorCode } from "../base/errors.ts";

export interface WebHdfsRequest {
  readonly method: "GET" | "PUT" | "DELETE";
  /** Absolute, not encoded. */
  readonly path: string;
  readonly operation: string;
  readonly parameters?: Readonly<Record<string, string>>;
}

/** What the NameNode or a DataNode refused, or that none of them could be asked. */
export class WebHdfsFailure extends Error {
  override readonly name = "WebHdfsFailure";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

/** Of a request until its answer begins, and of a small answer until it has ended. */
const ANSWER_TIMEOUT_MS = 30_000;
const STANDBY = "StandbyException";

const CODES: Readonly<Record<string, ErrorCode>> = {
  FileNotFoundException: "NOT_FOUND",
  FileAlreadyExistsException: "ALREADY_EXISTS",
  AccessControlException: "FAILED_PRECONDITION",
  SecurityException: "FAILED_PRECONDITION",
  AuthorizationException: "FAILED_PRECONDITION",
  InvalidToken: "FAILED_PRECONDITION",
  ParentNotDirectoryException: "FAILED_PRECONDITION",
  InvalidPathException: "INVALID_ARGUMENT",
  IllegalArgumentException: "INVALID_ARGUMENT",
  QuotaExceededException: "RESOURCE_EXHAUSTED",
  DSQuotaExceededException: "RESOURCE_EXHAUSTED",
  NSQuotaExceededException: "RESOURCE_EXHAUSTED",
  ChecksumException: "DATA_LOSS",
};

export class WebHdfsClient {
  readonly #nameNodes: readonly string[];
  readonly #user: string;
  /** The one that answered last. */
  #active = 0;

  /** @param nameNodes URLs without a path, at least one */
  constructor(nameNodes: readonly string[], user = hadoopUser()) {
    this.#nameNodes = nameNodes;
    this.#user = user;
  }

  /** Asks the NameNode. @returns the JSON of its answer; undefined for an empty one. @throws WebHdfsFailure */
  async ask(request: WebHdfsRequest): Promise<unknown> {
    const body = await (await this.#askNameNode(request, AbortSignal.timeout(ANSWER_TIMEOUT_MS))).text();
    return body === "" ? undefined : (JSON.parse(body) as unknown);
  }

  /**
   * Writes or reads bytes at a DataNode.
   * @param body what is written; undefined for a read
   * @returns the answer's body, which the caller reads to its end
   * @throws WebHdfsFailure
   */
  async transfer(request: WebHdfsRequest, signal: AbortSignal, body?: Readable): Promise<Readable> {
    const answer = await this.#askNameNode(request, signal);
    const location = answer.headers.get("location");
    await answer.body?.cancel();
    if (location === null) throw new WebHdfsFailure("UNAVAILABLE", "the NameNode names no DataNode");
    const url = new URL(location);
    const response = await exchanged(url, request.method, signal, body);
    const { statusCode = 0 } = response;
    if (statusCode >= 200 && statusCode < 300) return response;
    throw refusal(statusCode, await text(response).catch(() => ""));
  }

  /** With its redirection, if any. The body has none of the bytes to be written. */
  async #askNameNode(request: WebHdfsRequest, signal: AbortSignal): Promise<Response> {
    const path = request.path.split("/").map(encodeURIComponent).join("/");
    const query = new URLSearchParams({ op: request.operation, "user.name": this.#user, ...request.parameters });
    let failure: WebHdfsFailure | undefined;
    for (let tried = 0; tried < this.#nameNodes.length; tried++) {
      try {
        const url = `${this.#nameNodes[this.#active] ?? ""}/webhdfs/v1${path}?${query.toString()}`;
        const response = await fetched(url, { method: request.method, signal, redirect: "manual" });
        if (response.ok || response.status === 307) return response;
        throw refusal(response.status, await response.text().catch(() => ""));
      } catch (thrown) {
        if (!(thrown instanceof WebHdfsFailure) || thrown.code !== "UNAVAILABLE") throw thrown;
        // Which of the two is active may have changed, or one is gone.
        failure = thrown;
        this.#active = (this.#active + 1) % this.#nameNodes.length;
      }
    }
    throw failure ?? new WebHdfsFailure("UNAVAILABLE", "there is no NameNode");
  }
}

async function fetched(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (cause) {
    throw unanswered(new URL(url), cause);
  }
}

async function exchanged(url: URL, method: string, signal: AbortSignal, body?: Readable): Promise<IncomingMessage> {
  const headers = { "content-type": "application/octet-stream" };
  const request = (url.protocol === "https:" ? requestHttps : requestHttp)(url, { method, headers, signal });
  const answered = once(request, "response") as Promise<[IncomingMessage]>;
  if (body === undefined) request.end();
  // When it fails the request does too, unless the answer came first.
  else pipeline(body, request).catch(() => undefined);
  try {
    const [response] = await answered;
    return response;
  } catch (cause) {
    throw unanswered(url, cause);
  }
}

function unanswered({ origin }: URL, cause: unknown): WebHdfsFailure {
  return new WebHdfsFailure("UNAVAILABLE", `${origin} does not answer: ${reasonOf(cause)}`, cause);
}

/** fetch says only that it failed; why is in the causes. */
function reasonOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  if (thrown.cause !== undefined) return reasonOf(thrown.cause);
  if (thrown instanceof AggregateError && thrown.message === "") return reasonOf(thrown.errors[0]);
  return thrown.message;
}

function refusal(status: number, body: string): WebHdfsFailure {
  const { exception, message } = remoteException(body);
  if (exception === undefined && status === 401)
    return new WebHdfsFailure("FAILED_PRECONDITION", "the cluster wants Kerberos, which Weir cannot do by WebHDFS");
  const code = exception === STANDBY ? "UNAVAILABLE" : (CODES[exception ?? ""] ?? "UNAVAILABLE");
  const reason = exception === undefined ? `HTTP status ${status}` : `${exception}: ${message}`;
  return new WebHdfsFailure(code, reason);
}

/** Of its message the first line: some have a stack trace behind it. */
function remoteException(body: string): { readonly exception?: string; readonly message: string } {
  try {
    const { RemoteException } = JSON.parse(body) as { RemoteException: { exception: string; message?: string } };
    return { exception: RemoteException.exception, message: RemoteException.message?.split("\n")[0] ?? "" };
  } catch {
    return { message: "" };
  }
}

/** As Hadoop's clients: HADOOP_USER_NAME, or who runs this process. */
function hadoopUser(): string {
  const said = process.env["HADOOP_USER_NAME"];
  if (said !== undefined && said !== "") return said;
  try {
    return userInfo().username;
  } catch {
    return "weir";
  }
}
