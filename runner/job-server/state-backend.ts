/**
 * What Flink's state backends become in Weir, which has one of its own: memory, and files beyond its budget. A job that
 * names one is told to what it is mapped.
 */

const WEIRS =
  "state is kept in memory up to the worker's budget (`weir serve --worker-memory-mb`) and in SQLite files beyond it, and a checkpoint writes only what has changed";

/** As Beam and Flink know them: by short name, and by the class of the backend or of its factory. */
const BACKENDS: ReadonlyMap<string, string> = new Map([
  ["rocksdb", `as with RocksDB's incremental checkpoints, ${WEIRS}.`],
  ["hashmap", `unlike on Flink's heap it may grow larger than memory: ${WEIRS}.`],
  ["filesystem", `unlike on Flink's heap it may grow larger than memory: ${WEIRS}.`],
  ["jobmanager", `unlike on Flink's heap it may grow larger than memory: ${WEIRS}.`],
]);

const CLASSES: readonly (readonly [RegExp, string])[] = [
  [/RocksDB\w*StateBackend/i, "rocksdb"],
  [/HashMapStateBackend/i, "hashmap"],
  [/FsStateBackend/i, "filesystem"],
  [/MemoryStateBackend/i, "jobmanager"],
];

/** @param given the value of --state_backend. @returns a sentence for the user */
export function stateBackendSentence(given: string): string {
  const name = CLASSES.find(([pattern]) => pattern.test(given))?.[1] ?? given.toLowerCase();
  const mapping = BACKENDS.get(name);
  const option = `Option --state_backend (given: ${given})`;
  if (mapping !== undefined) return `${option} is mapped to Weir's own state backend: ${mapping}`;
  return `${option} names a state backend that Weir does not know (rocksdb, hashmap and filesystem are mapped); its own is used: ${WEIRS}.`;
}
