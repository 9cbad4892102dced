/** Names of vertices, for people: what they run, without saying a shared prefix more than once. */

const LONGEST_NAME = 160;

/** ["Read/Impulse", "Read/Map", "Count"] → "Read/{Impulse, Map}, Count". */
export function vertexName(uniqueNames: readonly string[]): string {
  const groups: { readonly composite: string; readonly parts: string[] }[] = [];
  for (const name of uniqueNames) {
    const slash = name.indexOf("/");
    const composite = slash < 0 ? name : name.slice(0, slash);
    const part = slash < 0 ? "" : name.slice(slash + 1);
    const last = groups.at(-1);
    if (last !== undefined && last.composite === composite && part !== "") last.parts.push(part);
    else groups.push({ composite, parts: part === "" ? [] : [part] });
  }
  const name = groups
    .map(({ composite, parts }) => {
      if (parts.length === 0) return composite;
      return parts.length === 1 ? `${composite}/${parts[0]}` : `${composite}/{${vertexName(parts)}}`;
    })
    .join(", ");
  return name.length <= LONGEST_NAME ? name : `${name.slice(0, LONGEST_NAME - 1)}…`;
}
