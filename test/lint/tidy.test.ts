// Tidiness that no lint rule sees: names, sizes, file headers. Each rule also has a made-up file that it must refuse.
import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const MAX_LINES = 400;

/** Files that may be longer. This list only shrinks. */
const LONGER: ReadonlySet<string> = new Set([]);

interface Source {
  readonly path: string;
  readonly text: string;
}

interface Rule {
  readonly name: string;
  readonly canary: Source;
  complaint(source: Source): string | undefined;
}

const isTest = (path: string): boolean => path.endsWith(".test.ts");

const rules: readonly Rule[] = [
  {
    name: "a file name is kebab-case and says what the file is",
    canary: { path: "runner/base/streamUtils.ts", text: "" },
    complaint: ({ path }) => {
      const name = basename(path).replace(/(\.test)?\.ts$/, "");
      if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name)) return "is not kebab-case";
      return /(^|-)(utils?|helpers?|misc|common|manager)(-|$)/.test(name) ? "has a name that says nothing" : undefined;
    },
  },
  {
    name: `a file has at most ${MAX_LINES} lines`,
    canary: { path: "runner/base/long.ts", text: "\n".repeat(MAX_LINES + 1) },
    complaint: ({ path, text }) => {
      const lineCount = text.split("\n").length - 1;
      return lineCount > MAX_LINES && !LONGER.has(path) ? `has ${lineCount} lines` : undefined;
    },
  },
  {
    name: "a source file begins with a comment that says what it is responsible for",
    canary: { path: "runner/base/bare.ts", text: 'import { a } from "./a.ts";\n' },
    complaint: ({ path, text }) =>
      isTest(path) || /^(#!.*\n)?\/[/*]/.test(text) ? undefined : "has no header comment",
  },
  {
    name: "no test is left out or run alone",
    canary: { path: "runner/base/a.test.ts", text: `test.${"only"}("x", (t) => t.pass());` },
    complaint: ({ path, text }) =>
      isTest(path) && /\btest(\.serial)?\.(only|skip)\(/.test(text) ? "has test.only or test.skip" : undefined,
  },
];

function sourcesBelow(folder: string): Source[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts") && !path.includes("canary"))
    .map((path) => ({ path: join(folder, path), text: readFileSync(join(root, folder, path), "utf8") }));
}

const sources = [...sourcesBelow("runner"), ...sourcesBelow("sdk-harness"), ...sourcesBelow("test")];

for (const rule of rules) {
  test(`${rule.name}`, (t) => {
    t.truthy(rule.complaint(rule.canary), "the rule must refuse its canary");
    const complaints = sources.flatMap((source) => {
      const complaint = rule.complaint(source);
      return complaint === undefined ? [] : [`${source.path} ${complaint}`];
    });
    t.deepEqual(complaints, []);
  });
}

test("the rules see the sources", (t) => {
  t.true(sources.length > 50, `only ${sources.length} files were found`);
});

test("NOTICE names every package that is needed to run", (t) => {
  const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Record<
    string,
    Record<string, string>
  >;
  const notice = readFileSync(join(root, "NOTICE"), "utf8");
  const names = Object.keys({ ...dependencies, ...optionalDependencies });
  t.true(names.length > 5);
  t.deepEqual(
    names.filter((name) => !notice.includes(name)),
    [],
  );
});
