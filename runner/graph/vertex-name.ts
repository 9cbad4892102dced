/** Names of vertices, for people: what they run, without saying a shared prefix more than once. */

const LONGEST_NAME = 160;
const DEEPEST_COMPOSITE = 50;

/** ["Read/Impulse", "Read/Map", "Count"] → "Read/{Impulse, Map}, Count". */
export function vertexName(uniqueNames: readonly string[]): string {
  const name = grouped(uniqueNames).join(", ");
  return name.length <= LONGEST_NAME ? name : `${name.slice(0, LONGEST_NAME - 1)}…`;
}

/** One entry per run of names in the same composite. */
function grouped(names: readonly string[], depth = 0): string[] {
  if (depth > DEEPEST_COMPOSITE) return [...names];
  const groups: { readonly composite: string; readonly parts: string[] }[] = [];
  for (const name of names) {
    const slash = name.indexOf("/");
    const composite = slash < 0 ? name : name.slice(0, slash);
    const part = slash < 0 ? "" : name.slice(slash + 1);
    const last = groups.at(-1);
    if (last !== undefined && last.composite === composite && last.parts.length > 0 && part !== "") {
      last.parts.push(part);
    } else groups.push({ composite, parts: part === "" ? [] : [part] });
  }
  return groups.map(({ composite, parts }) => {
    if (parts.length === 0) return composite;
    const inner = grouped(parts, depth + 1);
    return inner.length === 1 ? `${composite}/${inner[0]}` : `${composite}/{${inner.join(", ")}}`;
  });
}
