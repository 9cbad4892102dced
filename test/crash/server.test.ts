// Job servers of streaming jobs are killed, and others started on what they left (server_cases.py).
import { pythonCases } from "../support/python-cases.ts";

const CASES = {
  alone: "a job goes on from its checkpoint under the next job server, with one history under one id",
  told: "a job server that is told to end suspends its job, and the next one goes on with it",
  cancelled: "a job server that is to cancel its jobs when it ends does so, and leaves nothing",
  workers: "the same when the workers were killed with their job server",
  early: "a job that had no complete checkpoint begins again under the next job server",
  external: "a worker pool that comes back later than the job server is waited for",
  remote: "workers that were started apart join the next job server, and the job goes on on them",
  machine: "when a machine is lost with its disk the job goes on elsewhere with the checkpoint storage alone",
  fenced: "a job server that has lost its job to another one completes no checkpoint of it, and says so",
  loopback: "a job whose user code ran in its client fails when both are gone, and says why",
  batch: "a job that runs stage by stage begins again under the next job server",
};

pythonCases("test/crash/server_cases.py", CASES, /as it should be/);
