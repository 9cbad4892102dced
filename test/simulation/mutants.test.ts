// The mutants themselves run by `make simulate-mutants`; this says when the code has moved away under one.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { mutate, MUTANTS } from "./mutants.ts";

const root = join(import.meta.dirname, "..", "..");

test("each mutant is a change of one place in the code as it is", (t) => {
  for (const mutant of MUTANTS) {
    const source = readFileSync(join(root, mutant.file), "utf8");
    t.not(mutate(mutant, source), source);
  }
  t.is(new Set(MUTANTS.map(({ title }) => title)).size, MUTANTS.length);
});
