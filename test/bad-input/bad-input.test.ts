// Bad input over the wire: the client sees a clear error and the server runs the next job (cases: bad_input.py).
import { createServer } from "node:net";
import test from "ava";
import { runPython, runWeir, WeirServer } from "../support/weir-server.ts";

let server: WeirServer;

test.before(async () => {
  server = await WeirServer.open();
});

test.after.always(async (t) => {
  if (server !== undefined) t.true(await server.close(), "the server ends by SIGTERM");
});

const cases: readonly (readonly [string, string])[] = [
  ["garbage_pipeline", "garbage bytes as a pipeline are refused"],
  ["empty_pipeline", "a pipeline without a transform is refused"],
  ["unknown_urn", "an unknown primitive is refused with its URN and the transform's name"],
  ["dangling_input", "a transform that reads a PCollection that is not there is refused"],
  ["unknown_requirement", "a requirement that is not supported is refused by name"],
  ["unknown_job", "a job id that does not exist is NOT_FOUND in every call"],
  ["run_twice", "a preparation runs once, and its id is not a job's"],
  ["option_of_wrong_type", "an option of the wrong type is refused by name"],
  ["missing_harness_command", "a harness command that does not exist fails the job with its path"],
  ["harness_dies_at_start", "a harness that dies at start fails the job with its own output"],
  ["broken_harness", "garbage on any stream of a harness fails its job with a clear message"],
  ["user_exception", "a user's exception reaches the client with its traceback and the transform's name"],
];

/** Up to six jobs one after the other, each of which fails four times, on a machine that has much to do. */
const LIMIT_MS = 300_000;

for (const [name, title] of cases) {
  test.serial(title, async (t) => {
    t.timeout(LIMIT_MS + 10_000);
    const words = [name, "--endpoint", server.endpoint];
    const { code, stdout, stderr } = await runPython("test/bad-input/bad_input.py", words, LIMIT_MS);
    t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
  });
}

test("a port in use is said, with the port", async (t) => {
  const taken = createServer();
  const port = await new Promise<number>((resolve) => {
    taken.listen(0, "localhost", () => resolve((taken.address() as { port: number }).port));
  });
  try {
    const { code, stderr } = await runWeir(["serve", "--job-port", String(port), "--artifact-port", "0"]);
    t.is(code, 1);
    t.regex(stderr, new RegExp(`\\b${port}\\b`));
  } finally {
    taken.close();
  }
});

test("an artifacts folder that cannot be written is said, with the folder", async (t) => {
  const { code, stderr } = await runWeir(["serve", "--job-port", "0", "--artifacts-dir", "/dev/null/artifacts"]);
  t.is(code, 1);
  t.regex(stderr, /\/dev\/null\/artifacts/);
});
