// Python transforms through the server's expansion port (expansion.py).
import test, { type ExecutionContext } from "ava";
import { runPython, WeirServer } from "../support/weir-server.ts";

async function expand(t: ExecutionContext, what: "expands" | "fails", variables: Record<string, string> = {}) {
  t.timeout(120_000);
  const server = await WeirServer.open(["--expansion-port", "0"], variables);
  try {
    const { code, stdout, stderr } = await runPython("test/client/expansion.py", [
      server.endpoint,
      server.expansion ?? "",
      what,
    ]);
    t.is(code, 0, stderr.slice(-4_000));
    return stdout;
  } finally {
    t.true(await server.close());
  }
}

test.serial("a Python transform is expanded, and runs beside the pipeline's own", async (t) => {
  t.regex(await expand(t, "expands"), /as it should be/);
});

test.serial("why a transform cannot be expanded comes to the client", async (t) => {
  t.regex(await expand(t, "fails"), /No module named 'apache_beam\.NoSuchTransform'/);
});

test.serial("where no Python has Beam the client is told so", async (t) => {
  t.regex(
    await expand(t, "fails", { WEIR_PYTHON: "/no/such/python" }),
    /No Python with apache-beam was found.*WEIR_PYTHON/s,
  );
});
