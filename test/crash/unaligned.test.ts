// Unaligned checkpoints while user code stands still (unaligned_cases.py).
import { pythonCases } from "../support/python-cases.ts";

const CASES = {
  worker:
    "checkpoints do not wait for user code that takes its time, and a lost worker costs nothing that was on its way",
  retained: "another submission of the same script goes on from an unaligned checkpoint",
};

pythonCases("test/crash/unaligned_cases.py", CASES, /as it should be/);
