// Savepoints of streaming jobs, and other jobs that go on from them (savepoint_cases.py).
import { pythonCases } from "../support/python-cases.ts";

const CASES = {
  stop: "a job is stopped with a savepoint, and another one goes on at another parallelism: no number is counted twice",
  take: "a savepoint outlives its job, its job server and their disk, and another job goes on from it",
};

pythonCases("test/crash/savepoint_cases.py", CASES, /as it should be/);
