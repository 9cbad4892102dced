// A Python pipeline from Kafka to Kafka on a real broker, with harness and worker killed on the way (kafka_cases.py).
import { javaTest } from "../support/java-test.ts";
import { runPython } from "../support/weir-server.ts";

const TITLE = "records from Kafka are counted once, and offsets are committed when a checkpoint has them";

javaTest(TITLE, ["kafka-broker"], 180_000, async (t) => {
  const { code, stdout, stderr } = await runPython("test/kafka/kafka_cases.py", ["harness", "worker"], 170_000);
  t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
  t.regex(stdout, /records counted once/);
  t.regex(stdout, /committed offsets were compared [1-9]\d+ times, with [1-9]\d* checkpoints/);
});
