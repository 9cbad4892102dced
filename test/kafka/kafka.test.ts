/**
 * Python pipelines from Kafka to Kafka on a real broker, with harnesses and workers killed on the way: with a source and
 * a sink in Python (kafka_cases.py), and with Beam's own in Java, in one pipeline with Python (java_kafka_cases.py).
 */
import { javaTest } from "../support/java-test.ts";
import { runPython } from "../support/weir-server.ts";

const PYTHON = "records from Kafka are counted once, and offsets are committed when a checkpoint has them";
const JAVA = "the same with ReadFromKafka and WriteToKafka in Java harnesses around a stateful DoFn in Python";

javaTest(PYTHON, ["kafka-broker"], 360_000, async (t) => {
  const { code, stdout, stderr } = await runPython("test/kafka/kafka_cases.py", ["harness", "worker"], 350_000);
  t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
  t.regex(stdout, /records counted once/);
  t.regex(stdout, /committed offsets were compared [1-9]\d+ times, with [1-9]\d* checkpoints/);
});

javaTest(JAVA, ["kafka-broker", "beam-java-kafka"], 460_000, async (t) => {
  const { code, stdout, stderr } = await runPython("test/kafka/java_kafka_cases.py", ["java", "worker"], 450_000);
  t.is(code, 0, `${stdout}\n${stderr.slice(-4_000)}`);
  t.regex(stdout, /records counted once/);
  t.regex(stdout, /committed offsets were compared [1-9]\d+ times, with [1-9]\d* checkpoints/);
});
