import test from "ava";
import { vertexName } from "./vertex-name.ts";

test("a vertex is named by its transforms, each composite once", (t) => {
  t.is(vertexName(["Read/Impulse", "Read/Map", "Count"]), "Read/{Impulse, Map}, Count");
  t.is(vertexName(["A/B/C", "A/B/D", "A/B/D/E"]), "A/B/{C, D, D/E}");
  t.is(vertexName(["A/B/C/D"]), "A/B/C/D");
  t.is(vertexName(["Map", "Map/Inner"]), "Map, Map/Inner");
});

test("a long name is cut", (t) => {
  const name = vertexName(Array.from({ length: 1000 }, (_, index) => `Map${index}`));
  t.is(name.length, 160);
  t.true(name.endsWith("…"));
});
