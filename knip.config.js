/**
 * Dead code (knip). `make lint` runs it twice: over everything, and with --production over what ships, where only a tag
 * excuses what tests alone use: @internal for what is for tests, @public for what is for users of sdk-harness.
 */
const isProduction = process.argv.includes("--production");

/** @type {import("knip").KnipConfig} */
export default {
  entry: [
    "runner/main.ts!",
    "sdk-harness/sdk-harness.ts!",
    "{runner,sdk-harness,test}/**/*.test.ts",
    "test/**/*-main.ts",
    "test/{run-all,lint/run-lint}.ts",
    "test/bench/*.ts",
  ],
  project: [
    "bin/**/*.js!",
    "{runner,sdk-harness}/**/*.ts!",
    "!**/*.test.ts!",
    "!**/*-fixture.ts!",
    "test/**/*.ts",
    "!test/lint/canary/**",
  ],
  // Programs that the Makefile and test/lint start.
  ignoreDependencies: ["dependency-cruiser", "oxlint", "oxlint-tsgolint", "ts-proto"],
  // Of util-linux; where there is none the test is skipped.
  ignoreBinaries: isProduction ? [] : ["unshare"],
  // A part may be exported for its own test, a type because it is in a signature.
  ignoreExportsUsedInFile: isProduction ? true : { interface: true, type: true },
  // Their patterns take every file below test/ and every test-*.ts for an entry.
  ava: false,
  node: false,
};
