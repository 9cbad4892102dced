/** Installs everything that tests use and npm does not have, all at once, and says what a machine lacks. */
import { mavenJars } from "./cached-tools.ts";
import { STORAGE_SERVERS } from "./storage-servers.ts";

const tools = [
  mavenJars("kafka-broker"),
  mavenJars("beam-java-kafka"),
  ...Object.values(STORAGE_SERVERS).map(({ tool }) => tool),
];
await Promise.all(
  tools.map(async (tool) => {
    if (tool.missing !== undefined) {
      console.log(`tool ${tool.name}: tests that need it are skipped, ${tool.missing}`);
      return;
    }
    try {
      await tool.install();
      console.log(`tool ${tool.name}: installed`);
    } catch (failure) {
      console.log(`tool ${(failure as Error).message}`);
      process.exitCode = 1;
    }
  }),
);
