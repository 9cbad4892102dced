/**
 * Which folder of runner/ may import which (runner/ARCHITECTURE.md). A folder imports itself and what its rule names;
 * only what is directly in runner/ (main.ts, serve.ts, work.ts) sees all. `typesOf` may be imported as types only.
 * test/lint/run-lint.ts also asserts that every module was cruised: a compiler that the tool does not know makes it check none and pass.
 */
const layers = [
  { folder: "base", may: [] },
  { folder: "coders", may: ["base", "time"], typesOf: ["graph"] },
  { folder: "time", may: ["base"] },
  { folder: "triggers", may: ["base", "time"] },
  { folder: "storage", may: ["base"] },
  { folder: "graph", may: ["base", "coders", "time"] },
  { folder: "state", may: ["base", "coders", "time"], typesOf: ["graph"] },
  { folder: "checkpoint", may: ["base", "storage"] },
  { folder: "worker/task", may: ["base", "coders", "time", "state"], typesOf: ["graph", "checkpoint"] },
  {
    folder: "worker",
    except: "worker/task",
    may: ["base", "coders", "time", "triggers", "state", "storage", "graph", "worker"],
    typesOf: ["checkpoint"],
  },
  { folder: "inspect", may: ["base", "coders", "time", "state", "checkpoint", "storage"], typesOf: ["graph"] },
  { folder: "job-server", may: ["base", "graph", "checkpoint", "storage"] },
];

const folders = (names) => `^runner/(${names.join("|")})/`;
const TESTS = "\\.test\\.ts$";

module.exports = {
  forbidden: [
    ...layers.map(({ folder, may, typesOf = [], except }) => ({
      name: `${folder.replace("/", "-")}-imports`,
      comment: `runner/${folder} may import only: ${[folder, ...may].join(", ")}${typesOf.length ? `; types of: ${typesOf.join(", ")}` : ""}`,
      severity: "error",
      from: { path: `^runner/${folder}/`, pathNot: except ? [`^runner/${except}/`, TESTS] : [TESTS] },
      to: {
        path: "^runner/",
        pathNot: folders([folder, ...may, ...typesOf]),
      },
    })),
    ...layers
      .filter(({ typesOf }) => typesOf !== undefined)
      .map(({ folder, typesOf, except }) => ({
        name: `${folder.replace("/", "-")}-imports-types-only`,
        comment: `runner/${folder} may import only types of: ${typesOf.join(", ")}`,
        severity: "error",
        from: { path: `^runner/${folder}/`, pathNot: except ? [`^runner/${except}/`, TESTS] : [TESTS] },
        to: { path: folders(typesOf), dependencyTypesNot: ["type-only"] },
      })),
    {
      name: "sdk-harness-imports",
      comment: "sdk-harness is a process of its own: of the runner it may use base, coders and time.",
      severity: "error",
      from: { path: "^sdk-harness/", pathNot: TESTS },
      to: { path: "^(runner|test)/", pathNot: folders(["base", "coders", "time"]) },
    },
    {
      name: "generated-protos-stop-at-the-edge",
      comment: "base, coders, time, state and storage know no protobuf; a row coder's payload is a Schema, though.",
      severity: "error",
      from: { path: "^runner/(base|coders|time|state|storage)/", pathNot: TESTS },
      to: { path: "^proto/gen/", pathNot: "^proto/gen/schema\\.ts$" },
    },
    {
      name: "no-cycles",
      comment: "Of types neither: two files that cannot be read apart are one idea in two files.",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "no-tests-in-production",
      severity: "error",
      from: { path: "^runner/", pathNot: TESTS },
      to: { path: [TESTS, "^test/"] },
    },
    {
      name: "no-development-packages-in-production",
      severity: "error",
      from: { path: "^runner/", pathNot: TESTS },
      to: { dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown"] },
    },
    { name: "not-to-unresolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: ["node_modules", "^proto/gen"] },
    tsPreCompilationDeps: "specify",
    tsConfig: { fileName: `${__dirname}/tsconfig.json` },
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "node", "default", "types"] },
    moduleSystems: ["es6", "cjs"],
  },
};
