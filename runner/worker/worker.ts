/**
 * A worker process: the Fn API endpoint for its SDK harnesses, the exchange for other workers, and the stream to the
 * job server that tells it what to run. It owns everything that it starts; when it closes, no harness, port or spill
 * file of its is left.
 *
 * Invariant: without contact to its job server for the length of the lease it ends its harnesses and stops.
 */
import { rm } from "node:fs/promises";
import type { CoordinatorMessage } from "../../proto/gen/worker.ts";
import { type DeployTask, type OpenJob, TaskStateChange_State, type WorkerMessage } from "../../proto/gen/worker.ts";
import type { ProvisionInfo } from "../../proto/gen/beam_provision_api.ts";
import { present } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { WeirError } from "../base/errors.ts";
import { GrpcServer } from "../base/grpc.ts";
import type { DatasetId, HarnessId, JobId, TaskAttemptId, VertexId, WorkerId } from "../base/ids.ts";
import type { Limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { ResourceScope } from "../base/resource-scope.ts";
import { diskRoom } from "../state/disk-room.ts";
import { PartitionStore } from "../state/partition-store.ts";
import { SideInputStore } from "../state/side-input-store.ts";
import { ExchangeClient, LocalOrRemoteReader } from "./exchange/exchange-client.ts";
import { CoordinatorLink, type LeaderEpochs } from "./coordinator-link.ts";
import { exchangeService } from "./exchange/exchange-server.ts";
import { StreamChannels } from "./exchange/stream-channels.ts";
import { LostPartitionError } from "./exchange/lost-partition-error.ts";
import { artifactRetrievalService } from "./fn-api/artifact-retrieval-service.ts";
import { controlService, dataService, stateService } from "./fn-api/fn-api-services.ts";
import type { HarnessConnection } from "./task/harness-connection.ts";
import { loggingService } from "./fn-api/logging-service.ts";
import { provisionService } from "./fn-api/provision-service.ts";
import { workerStatusService } from "./fn-api/worker-status-service.ts";
import { EnvironmentLostError } from "./harness-pool.ts";
import { HarnessLogs } from "./harness-logs.ts";
import { SlowBundles } from "./slow-bundles.ts";
import type { HarnessEndpoints, HarnessLauncher, PartitionReader } from "./task/ports.ts";
import type { TaskDeployment } from "./task/task-environment.ts";
import { type TellMetrics, WorkerJob } from "./worker-job.ts";
import { fullDiskMessages } from "./full-disk-messages.ts";
import { jobDescriptionOf, partitionRefMessage, partitionRefOf, sealedOf } from "./worker-messages.ts";

export interface WorkerInit {
  readonly workerId: WorkerId;
  /** HOST:PORT of the job server's coordinator service. */
  readonly coordinator: string;
  /** Where the exchange binds, and what other workers use. */
  readonly host: string;
  readonly slots: number;
  /** Started and restarted by the job server. */
  readonly local: boolean;
  /** Of the process: workers that come after this one share it. */
  readonly epochs: LeaderEpochs;
  readonly limits: Limits;
  readonly spillDirectory: string;
  readonly launcher: HarnessLauncher;
  /** See WorkerJobInit. */
  readonly keepsStandby: boolean;
  readonly version: string;
  readonly clock: Clock;
  readonly log: Log;
}

const RUNNER_CAPABILITIES = [
  "beam:protocol:monitoring_info_short_ids:v1",
  "beam:protocol:control_response_elements_embedding:v1",
];

export class Worker {
  readonly #init: WorkerInit;
  readonly #scope = new ResourceScope();
  readonly #jobs = new Map<JobId, WorkerJob>();
  readonly #connections = new Map<
    HarnessId,
    { readonly connection: HarnessConnection; readonly job: WorkerJob; readonly environmentId: string }
  >();
  readonly #ended = Promise.withResolvers<string>();
  #link: CoordinatorLink | undefined;
  #endpoints: HarnessEndpoints | undefined;
  #exchangeAddress = "";
  #store: PartitionStore | undefined;
  #sideInputs: SideInputStore | undefined;
  #reader: PartitionReader | undefined;
  #channels: StreamChannels | undefined;

  private constructor(init: WorkerInit) {
    this.#init = init;
  }

  /** Starts the servers and registers. @throws WeirError when the coordinator cannot be reached. */
  static async open(init: WorkerInit): Promise<Worker> {
    const worker = new Worker(init);
    try {
      await worker.#open();
      return worker;
    } catch (failure) {
      await worker.close();
      throw failure;
    }
  }

  /** Resolves with the reason when the worker has to end: the job server is gone. */
  get ended(): Promise<string> {
    return this.#ended.promise;
  }

  /** A job server has taken it. */
  get wasRegistered(): boolean {
    return this.#link?.isRegistered ?? false;
  }

  async #open(): Promise<void> {
    const { limits, spillDirectory, host, workerId, clock, log } = this.#init;
    this.#scope.defer(() => rm(spillDirectory, { recursive: true, force: true }));
    const toJobs = { jobIds: () => this.#jobs.keys(), send: this.#send.bind(this) };
    this.#scope.defer(diskRoom.listen(fullDiskMessages({ workerId, ...toJobs, clock, log })));
    const store = this.#scope.own(
      await PartitionStore.open({
        directory: spillDirectory,
        partitionMemoryBytes: limits.partitionMemoryBytes,
        bundleMemoryBytes: limits.bundleMemoryBytes,
      }),
    );
    this.#store = store;
    this.#sideInputs = this.#scope.own(
      SideInputStore.open({
        directory: spillDirectory,
        memoryBytes: limits.sideInputMemoryBytes,
        mapEntryBytes: limits.mapEntryBytes,
      }),
    );
    const client = this.#scope.own(new ExchangeClient({ creditBytes: limits.exchangeCreditBytes }));
    this.#reader = new LocalOrRemoteReader(workerId, store, client);
    const channels = this.#scope.own(new StreamChannels({ workerId }));
    this.#channels = channels;
    const exchange = await GrpcServer.open(
      [exchangeService(store, { chunkBytes: limits.chunkBytes }), channels.served],
      host,
      0,
    );
    this.#scope.own(exchange);
    this.#exchangeAddress = exchange.address;
    const directory = {
      connection: (harnessId: HarnessId) => this.#connections.get(harnessId)?.connection,
      connections: () => [...this.#connections.values()].map((entry) => entry.connection),
      descriptor: (descriptorId: string) => {
        for (const job of this.#jobs.values()) {
          const descriptor = job.descriptor(descriptorId);
          if (descriptor !== undefined) return descriptor;
        }
        return undefined;
      },
    };
    const harnessLogs = new HarnessLogs({
      harness: (harnessId) => this.#connections.get(harnessId),
      tell: (value) => this.#send({ $case: "jobMessage", value }),
      log: this.#init.log,
    });
    const status = workerStatusService({ clock: this.#init.clock });
    const fnApi = await GrpcServer.open(
      [
        controlService(directory),
        dataService(directory),
        stateService(directory),
        loggingService({ onEntries: (harnessId, entries) => harnessLogs.take(harnessId, entries) }),
        provisionService({ infoFor: (harnessId) => this.#provisionInfo(harnessId) }),
        artifactRetrievalService({
          addressFor: (harnessId) => this.#connections.get(harnessId)?.job.description.artifactAddress,
        }),
        status.served,
      ],
      host,
      0,
    );
    this.#scope.own(fnApi);
    const watching = new AbortController();
    this.#scope.defer(() => watching.abort());
    const slowBundles = new SlowBundles({
      harnesses: () => this.#connections.values(),
      status,
      tell: (value) => this.#send({ $case: "slowBundle", value }),
      clock: this.#init.clock,
      log: this.#init.log,
    });
    void slowBundles.run(watching.signal);
    const address = fnApi.address;
    this.#endpoints = { control: address, logging: address, provision: address, artifact: address, status: address };
    this.#connect();
  }

  #connect(): void {
    const { workerId, slots, version, local, coordinator, epochs, clock, log } = this.#init;
    const registration = {
      workerId,
      exchangeAddress: this.#exchangeAddress,
      pid: BigInt(process.pid),
      slots,
      version,
      local,
    };
    const onMessage = (message: NonNullable<CoordinatorMessage["message"]>) => this.#onMessage(message);
    const link = this.#scope.own(new CoordinatorLink({ coordinator, registration, epochs, onMessage, clock, log }));
    this.#link = link;
    void link.ended.then((reason) => this.#ended.resolve(reason));
  }

  #send(message: NonNullable<WorkerMessage["message"]>): void {
    this.#link?.send(message);
  }

  #onMessage(message: NonNullable<CoordinatorMessage["message"]>): void {
    switch (message.$case) {
      case "registered":
        break;
      case "openJob":
        this.#openJob(message.value);
        break;
      case "deployTask":
        void this.#runTask(message.value);
        break;
      case "cancelTask":
        this.#jobs.get(message.value.jobId as JobId)?.cancel(message.value.taskAttemptId as TaskAttemptId);
        break;
      case "splitTask":
        void this.#jobs.get(message.value.jobId as JobId)?.splitTask(message.value.taskAttemptId as TaskAttemptId);
        break;
      case "releaseDatasets":
        for (const attemptId of message.value.taskAttemptIds)
          void this.#store?.releaseAttempt(message.value.jobId as JobId, attemptId as TaskAttemptId);
        break;
      case "releaseJob":
        void this.#releaseJob(message.value.jobId as JobId);
        break;
      default:
        this.#jobs.get(message.value.jobId as JobId)?.onStreamMessage(message);
    }
  }

  #openJob(message: OpenJob): void {
    const jobId = message.jobId as JobId;
    if (this.#jobs.has(jobId)) return;
    const { limits, spillDirectory, launcher, keepsStandby, clock, log, workerId } = this.#init;
    const job: WorkerJob = new WorkerJob({
      workerId,
      description: jobDescriptionOf(message),
      limits,
      spillDirectory,
      endpoints: present(this.#endpoints, "the Fn API's endpoints"),
      launcher,
      keepsStandby,
      store: present(this.#store, "the partition store"),
      sideInputs: present(this.#sideInputs, "the side input store"),
      reader: present(this.#reader, "the partition reader"),
      channels: present(this.#channels, "the channels"),
      send: (message) => this.#send(message),
      onConnection: (connection, environmentId) =>
        this.#connections.set(connection.harnessId, { connection, job, environmentId }),
      onGone: (harnessId) => this.#connections.delete(harnessId),
      clock,
      log: log.child({ job: jobId }),
    });
    this.#jobs.set(jobId, job);
  }

  async #runTask(message: DeployTask): Promise<void> {
    const jobId = message.jobId as JobId;
    const attemptId = message.taskAttemptId as TaskAttemptId;
    const job = this.#jobs.get(jobId);
    if (job === undefined) return;
    const report = (change: Partial<Extract<WorkerMessage["message"], { $case: "taskState" }>["value"]>) =>
      this.#send({
        $case: "taskState",
        value: { jobId, taskAttemptId: attemptId, state: 0, sealed: [], failure: undefined, ...change },
      });
    const vertex = job.description.graph.vertices.find(({ id }) => id === (message.vertexId as VertexId));
    const ids = { job: jobId, stage: vertex?.name, task: attemptId };
    try {
      const task: TaskDeployment = {
        attemptId,
        vertex: present(vertex, `vertex ${message.vertexId}`),
        mainInput: message.mainInput.map((ref) => partitionRefOf(jobId, ref)),
        sideInput: message.sideInput.map((ref) => partitionRefOf(jobId, ref)),
        outputPartitions: message.outputPartitions as Record<DatasetId, number>,
      };
      const result = await job.run(task, (...sets) => this.#sendMetrics(jobId, attemptId, ...sets));
      report({ state: TaskStateChange_State.FINISHED, sealed: sealedOf(result) });
    } catch (thrown) {
      const error = WeirError.from(thrown);
      if (error.code === "CANCELLED") this.#init.log.debug(ids, "task cancelled");
      else this.#init.log.warn({ ...ids, err: error }, "task failed");
      report({
        state: TaskStateChange_State.FAILED,
        failure: {
          message: error.message,
          domain: error.domain,
          code: error.code,
          retry: error.retry,
          lostInput: error instanceof LostPartitionError ? [partitionRefMessage(error.ref)] : [],
          environmentLost: error instanceof EnvironmentLostError,
        },
      });
    }
  }

  #sendMetrics(jobId: JobId, taskAttemptId: TaskAttemptId, ...[committedSet, attemptedSet]: Parameters<TellMetrics>) {
    const committed = committedSet.encoded();
    const attempted = attemptedSet === committedSet ? committed : attemptedSet.encoded();
    this.#send({ $case: "metrics", value: { jobId, taskAttemptId, committed, attempted } });
  }

  async #releaseJob(jobId: JobId): Promise<void> {
    const job = this.#jobs.get(jobId);
    if (job !== undefined) {
      await job.close().catch((failure: unknown) => {
        this.#init.log.warn({ job: jobId, err: failure }, "closing a job failed");
      });
      this.#jobs.delete(jobId);
    }
    this.#send({ $case: "jobReleased", value: { jobId } });
  }

  #provisionInfo(harnessId: HarnessId): ProvisionInfo | undefined {
    const entry = this.#connections.get(harnessId);
    const endpoints = this.#endpoints;
    if (entry === undefined || endpoints === undefined) return undefined;
    const { description } = entry.job;
    const url = (address: string) => ({ url: address, authentication: undefined });
    return {
      pipelineOptions: description.pipelineOptions as Record<string, unknown>,
      retrievalToken: description.retrievalToken,
      statusEndpoint: url(endpoints.status),
      loggingEndpoint: url(endpoints.logging),
      artifactEndpoint: url(endpoints.artifact),
      controlEndpoint: url(endpoints.control),
      dependencies: (description.graph.environments[entry.environmentId]?.dependencies ?? []).map((artifact) => ({
        ...artifact,
      })),
      runnerCapabilities: RUNNER_CAPABILITIES,
      metadata: { job_id: description.jobId, job_name: description.jobName },
      siblingWorkerIds: [],
    };
  }

  /** Ends tasks, harnesses, servers and files. Idempotent. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#jobs.values()].map((job) => job.close()));
    this.#jobs.clear();
    await this.#scope.close();
  }
}
