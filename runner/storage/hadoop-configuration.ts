/**
 * What Hadoop's own tools would know of a cluster: core-site.xml and hdfs-site.xml of HADOOP_CONF_DIR, and from them
 * where the NameNodes answer WebHDFS. Only what that needs is understood: names, values, and ${references}.
 *
 * Source: hdfs-default.xml for names and ports.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { userError } from "../base/errors.ts";

export type HadoopConfiguration = ReadonlyMap<string, string>;

const FILES = ["core-site.xml", "hdfs-site.xml"];
const MAX_REFERENCES = 20;
const HTTP_PORT = 9870;
const HTTPS_PORT = 9871;
/** Of the NameNode's own protocol: where users' URIs point. Its HTTP server has a port of its own. */
const RPC_PORTS: ReadonlySet<string> = new Set(["", "8020", "9000"]);
const ANY_ADDRESS = /^(0\.0\.0\.0|\[::\]|::)$/;

/**
 * @param directory HADOOP_CONF_DIR; undefined or empty: there is none
 * @throws WeirError FAILED_PRECONDITION naming HADOOP_CONF_DIR when neither file can be read
 */
export function readHadoopConfiguration(directory: string | undefined): HadoopConfiguration | undefined {
  if (directory === undefined || directory === "") return undefined;
  const properties = new Map<string, string>();
  let problem = "";
  let read = 0;
  for (const name of FILES)
    try {
      for (const [key, value] of propertiesOf(readFileSync(join(directory, name), "utf8"))) properties.set(key, value);
      read++;
    } catch (cause) {
      problem = (cause as Error).message;
    }
  if (read === 0)
    throw userError("FAILED_PRECONDITION", `HADOOP_CONF_DIR is ${directory}, and has no configuration: ${problem}.`);
  for (const [key, value] of properties) properties.set(key, resolved(value, properties));
  return properties;
}

function* propertiesOf(xml: string): Iterable<[string, string]> {
  const text = xml.replaceAll(/<!--.*?-->/gs, "");
  for (const [, property = ""] of text.matchAll(/<property>(.*?)<\/property>/gs)) {
    const name = /<name>(.*?)<\/name>/s.exec(property)?.[1];
    const value = /<value>(.*?)<\/value>/s.exec(property)?.[1] ?? "";
    if (name !== undefined) yield [unescaped(name), unescaped(value)];
  }
}

function unescaped(text: string): string {
  const entities: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return text.trim().replaceAll(/&(lt|gt|quot|apos|amp);/g, (_, name: string) => entities[name] ?? "");
}

function resolved(value: string, properties: HadoopConfiguration): string {
  let text = value;
  for (let count = 0; count < MAX_REFERENCES && text.includes("${"); count++)
    text = text.replace(/\$\{([^{}]+)\}/, (whole, name: string) => properties.get(name) ?? whole);
  return text;
}

/** The HOST:PORT, or name of a service, that URIs without one mean; undefined where the default is not HDFS. */
export function defaultAuthority(configuration: HadoopConfiguration | undefined): string | undefined {
  const name = configuration?.get("fs.defaultFS") ?? configuration?.get("fs.default.name");
  return /^hdfs:\/\/([^/]+)/.exec(name ?? "")?.[1];
}

/**
 * Where the NameNodes of a cluster answer WebHDFS, as URLs without a path; several where there is a standby.
 * Without a configuration that knows the cluster, a port that is not one of the NameNode's own protocol is taken as
 * that of its HTTP server.
 * @param authority HOST, HOST:PORT, or the name of a service
 */
export function nameNodeUrls(authority: string, configuration: HadoopConfiguration | undefined): readonly string[] {
  const isSecure = configuration?.get("dfs.http.policy") === "HTTPS_ONLY";
  const key = isSecure ? "dfs.namenode.https-address" : "dfs.namenode.http-address";
  const scheme = isSecure ? "https" : "http";
  const services = listOf(configuration?.get("dfs.nameservices"));
  if (services.includes(authority)) {
    const nodes = listOf(configuration?.get(`dfs.ha.namenodes.${authority}`));
    const suffixes = nodes.length === 0 ? [`.${authority}`] : nodes.map((node) => `.${authority}.${node}`);
    return suffixes.map((suffix) => {
      const rpcAddress = configuration?.get(`dfs.namenode.rpc-address${suffix}`) ?? authority;
      return urlOf(scheme, configuration?.get(`${key}${suffix}`), rpcAddress);
    });
  }
  if (authority === defaultAuthority(configuration)) return [urlOf(scheme, configuration?.get(key), authority)];
  const { host, port } = partsOf(authority);
  return [`${scheme}://${host}:${RPC_PORTS.has(port) ? defaultPort(scheme) : port}`];
}

function urlOf(scheme: string, address: string | undefined, rpcAddress: string): string {
  const { host, port } = partsOf(address ?? "");
  const isSaid = host !== "" && !ANY_ADDRESS.test(host);
  return `${scheme}://${isSaid ? host : partsOf(rpcAddress).host}:${port === "" ? defaultPort(scheme) : port}`;
}

function defaultPort(scheme: string): number {
  return scheme === "https" ? HTTPS_PORT : HTTP_PORT;
}

function partsOf(authority: string): { readonly host: string; readonly port: string } {
  const match = /^(.*?)(?::(\d+))?$/.exec(authority);
  return { host: match?.[1] ?? "", port: match?.[2] ?? "" };
}

function listOf(value: string | undefined): string[] {
  return (value ?? "")
    .split(",")
    .map((each) => each.trim())
    .filter((each) => each !== "");
}
