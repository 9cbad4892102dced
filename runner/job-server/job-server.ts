/**
 * The job server: store, artifacts, job registry and the two gRPC servers, opened and closed in order. What runs the
 * jobs is handed in.
 *
 * Invariant: after `close` no port, file lock or temporary file of it is left, and every job that ran is terminal.
 */
import type { Clock } from "../base/clock.ts";
import { GrpcServer, type ServedService } from "../base/grpc.ts";
import type { ServerLimits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { ResourceScope } from "../base/resource-scope.ts";
import type { BuildOptions } from "../graph/build-execution-graph.ts";
import type { ExecutionGraph } from "../graph/execution-graph.ts";
import { artifactRetrieval } from "./artifact-retrieval.ts";
import { ArtifactStaging } from "./artifact-staging.ts";
import { ArtifactStore } from "./artifact-store.ts";
import { assertPortFree } from "./assert-port-free.ts";
import type { OnShutdown } from "./end-jobs.ts";
import type { JobExecutor } from "./job-executor.ts";
import { jobControl } from "./job-control.ts";
import { jobInspection } from "./job-inspection.ts";
import { JobRegistry } from "./job-registry.ts";
import { jobService } from "./job-service.ts";
import { JobStore } from "./job-store.ts";
import { recoverJobs } from "./recover-jobs.ts";
import { keptArtifacts, unfinishedJobs } from "./take-up-jobs.ts";

export interface JobServerInit {
  readonly host: string;
  /** 0 for any free port; also `artifactPort`. */
  readonly jobPort: number;
  readonly artifactPort: number;
  readonly artifactsDirectory: string;
  readonly dataDirectory: string;
  /** Checkpoint storage of a server that is gone for good: its jobs go on here. */
  readonly recoverFrom?: string | undefined;
  readonly historySize: number;
  readonly cleanArtifactsPerJob: boolean;
  readonly onShutdown: OnShutdown;
  readonly limits: ServerLimits;
  readonly buildGraph: (pipeline: Uint8Array, options: BuildOptions) => ExecutionGraph;
  readonly openExecutor: (context: ExecutorContext) => OpenedExecutor;
  readonly clock: Clock;
  readonly log: Log;
}

export interface ExecutorContext {
  /** Fences messages of this process against those of its predecessors on the same store. */
  readonly leaderEpoch: bigint;
}

export interface OpenedExecutor {
  readonly executor: JobExecutor;
  /** Served on the job port beside the Job API: what workers connect to. */
  readonly services: readonly ServedService[];
}

/** Streams get their last events in this time when the server ends. */
const STREAM_GRACE_MS = 300;

export class JobServer {
  readonly #scope: ResourceScope;
  readonly jobs: JobRegistry;
  /** HOST:PORT. */
  readonly jobAddress: string;
  readonly artifactAddress: string;

  private constructor(scope: ResourceScope, jobs: JobRegistry, jobAddress: string, artifactAddress: string) {
    this.#scope = scope;
    this.jobs = jobs;
    this.jobAddress = jobAddress;
    this.artifactAddress = artifactAddress;
  }

  /** @throws WeirError naming the flag when a port is taken or a folder cannot be used. */
  static async open(init: JobServerInit): Promise<JobServer> {
    const scope = new ResourceScope();
    try {
      return await openIn(scope);
    } catch (failure) {
      await scope.close();
      throw failure;
    }

    async function openIn(scope: ResourceScope): Promise<JobServer> {
      const { host, log } = init;
      await assertPortFree(host, init.jobPort, "--job-port");
      await assertPortFree(host, init.artifactPort, "--artifact-port");
      const store = scope.own(JobStore.open(init.dataDirectory, init.clock.nowMs()));
      let unfinished = unfinishedJobs(store);
      const artifacts = scope.own(
        await ArtifactStore.open({
          directory: init.artifactsDirectory,
          serverId: store.serverId,
          clean: init.cleanArtifactsPerJob,
          kept: keptArtifacts(unfinished),
        }),
      );
      if (init.recoverFrom !== undefined) {
        await recoverJobs({ path: init.recoverFrom, store, artifacts, log });
        unfinished = unfinishedJobs(store);
      }
      const staging = new ArtifactStaging(artifacts, log);
      const artifactServer = await GrpcServer.open(
        [staging.served, artifactRetrieval(artifacts)],
        host,
        init.artifactPort,
      );
      scope.defer(() => artifactServer.close(STREAM_GRACE_MS));
      const { executor, services } = init.openExecutor({ leaderEpoch: store.leaderEpoch });
      scope.own(executor);
      const artifactAddress = artifactServer.address;
      const jobs = JobRegistry.open({ ...init, store, executor, staging, artifacts, artifactAddress });
      jobs.takeUp(unfinished);
      const jobServer = await GrpcServer.open(
        [jobService(jobs, artifactAddress), jobInspection(jobs), jobControl(jobs), ...services],
        host,
        init.jobPort,
      );
      scope.defer(() => jobServer.close(STREAM_GRACE_MS));
      // Jobs end first, while their clients still listen.
      scope.own(jobs);
      return new JobServer(scope, jobs, jobServer.address, artifactAddress);
    }
  }

  /** Ends jobs, streams and servers, in this order. Idempotent. */
  close(): Promise<void> {
    return this.#scope.close();
  }
}
