import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { defaultAuthority, nameNodeUrls, readHadoopConfiguration } from "./hadoop-configuration.ts";

function property(name: string, value: string): string {
  return `<property>\n  <name>${name}</name>\n  <value>${value}</value><final>true</final>\n</property>`;
}

async function configurationOf(t: ExecutionContext, core: string, hdfs: string) {
  const directory = await mkdtemp(join(tmpdir(), "weir-hadoop-"));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  await writeFile(join(directory, "core-site.xml"), `<?xml version="1.0"?><configuration>${core}</configuration>`);
  await writeFile(join(directory, "hdfs-site.xml"), `<configuration>${hdfs}</configuration>`);
  return readHadoopConfiguration(directory);
}

test("without a configuration the NameNode is the URI's, at its HTTP port", (t) => {
  t.deepEqual(nameNodeUrls("nn", undefined), ["http://nn:9870"]);
  t.deepEqual(nameNodeUrls("nn:8020", undefined), ["http://nn:9870"]);
  t.deepEqual(nameNodeUrls("nn:9000", undefined), ["http://nn:9870"]);
  t.deepEqual(nameNodeUrls("nn:50070", undefined), ["http://nn:50070"]);
  t.is(defaultAuthority(undefined), undefined);
  t.is(readHadoopConfiguration(""), undefined);
});

test("the default file system is the configuration's, its NameNode where that says", async (t) => {
  const configuration = await configurationOf(
    t,
    `<!-- ${property("fs.defaultFS", "hdfs://old:1")} -->${property("host", "master")}${property("fs.defaultFS", "hdfs://${host}:8020")}`,
    property("dfs.namenode.http-address", "0.0.0.0:50070"),
  );
  t.is(defaultAuthority(configuration), "master:8020");
  t.deepEqual(nameNodeUrls("master:8020", configuration), ["http://master:50070"]);
  t.deepEqual(nameNodeUrls("other:8020", configuration), ["http://other:9870"]);
  const secure = await configurationOf(
    t,
    property("fs.defaultFS", "hdfs://master"),
    property("dfs.http.policy", "HTTPS_ONLY"),
  );
  t.deepEqual(nameNodeUrls("master", secure), ["https://master:9871"]);
});

test("a service with a standby has the addresses of both", async (t) => {
  const configuration = await configurationOf(
    t,
    property("fs.defaultFS", "hdfs://lake"),
    [
      property("dfs.nameservices", "pond, lake"),
      property("dfs.ha.namenodes.lake", "nn1,nn2"),
      property("dfs.namenode.http-address.lake.nn1", "one:9870"),
      property("dfs.namenode.rpc-address.lake.nn2", "two:8020"),
    ].join("\n"),
  );
  t.deepEqual(nameNodeUrls("lake", configuration), ["http://one:9870", "http://two:9870"]);
});

test("a directory without configuration is named", (t) => {
  t.throws(() => readHadoopConfiguration("/nowhere/conf"), { message: /HADOOP_CONF_DIR is \/nowhere\/conf/ });
});

test("a default file system that is not HDFS says nothing of HDFS", async (t) => {
  t.is(defaultAuthority(await configurationOf(t, property("fs.defaultFS", "file:///"), "")), undefined);
});
