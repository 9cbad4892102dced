/*
 * Loaded by mocha before the tests of Beam's TypeScript SDK: what would run on the SDK's in-process direct runner goes
 * to the job endpoint instead, and each test's end is written as one JSON line, with the jobs that it submitted.
 * WEIR_CONFORMANCE (JSON): endpoint, environment, results.
 */
const fs = require("node:fs");
const path = require("node:path");

// The SDK's serializer calls what Node 23 took away.
require("node:util").isPrimitive ??= (value) => Object(value) !== value;

const settings = JSON.parse(process.env.WEIR_CONFORMANCE);
// First, since its modules import each other in circles.
require(process.env.WEIR_BEAM_SDK);
const runners = path.join(process.env.WEIR_BEAM_SDK, "dist", "src", "apache_beam", "runners");
const { directRunner } = require(path.join(runners, "direct_runner.js"));
const { PortableRunner } = require(path.join(runners, "portable_runner", "runner.js"));

let jobs = 0;
const direct = Object.getPrototypeOf(directRunner());
direct.unsupportedFeatures = () => [];
direct.runPipeline = (pipeline, options) => {
  jobs++;
  const runner = new PortableRunner({ jobEndpoint: settings.endpoint, environmentType: settings.environment });
  return runner.runPipeline(pipeline, options);
};
// The SDK prints every step of a job.
console.debug = () => {};

const write = (record) => fs.appendFileSync(settings.results, JSON.stringify(record) + "\n");

exports.mochaHooks = {
  beforeEach() {
    jobs = 0;
  },
  afterEach() {
    const { state, err, duration } = this.currentTest;
    write({
      event: "end",
      test: "typescript::" + this.currentTest.fullTitle(),
      outcome: state === "passed" ? "passed" : this.currentTest.isPending() ? "skipped" : "failed",
      message: err === undefined ? (this.currentTest.isPending() ? "by Beam: " + this.currentTest.title : "") : String(err.message).slice(0, 2000),
      detail: err === undefined ? "" : String(err.stack).slice(0, 20000),
      jobs,
      seconds: (duration ?? 0) / 1000,
      marked: false,
    });
  },
};
