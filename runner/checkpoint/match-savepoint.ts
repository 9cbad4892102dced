/**
 * Whether a snapshot fits a pipeline that is not the job that took it, and which of its stages goes on from which. Pure.
 *
 * Ids differ from one submission to the next; the transforms' unique names are stable. A stage goes on from the
 * snapshot's stage with the same name and the same transforms. State must still be there with the same id, kind and coders.
 */
import { windowingChanges } from "./match-windowing.ts";
import type { ManifestCoder, ManifestTable, ManifestVertex, SnapshotManifest } from "./snapshot-manifest.ts";

/** What the pipeline is, as a manifest would say it. */
export interface PipelineFacts {
  readonly vertices: readonly ManifestVertex[];
  readonly tables: readonly ManifestTable[];
  readonly coders: Readonly<Record<string, ManifestCoder>>;
}

export interface MatchedVertex {
  readonly formerVertexId: string;
  readonly renamed: readonly { readonly formerId: string; readonly id: string }[];
}

export interface SavepointMatch {
  /** By the pipeline's vertex id; what is not in it begins anew. */
  readonly vertices: ReadonlyMap<string, MatchedVertex>;
  /** What the snapshot has and the pipeline lacks: sentences, naming transforms. Fatal unless the user allows it. */
  readonly notRestored: readonly string[];
  /** What cannot be read any more: sentences, naming transforms. */
  readonly incompatible: readonly string[];
  /** What is another now, and can be read all the same: sentences, naming transforms. */
  readonly changed: readonly string[];
}

type SnapshotFacts = Pick<SnapshotManifest, "vertices" | "tables" | "coders">;

export function matchSavepoint(snapshot: SnapshotFacts, pipeline: PipelineFacts): SavepointMatch {
  const notRestored: string[] = [];
  const incompatible: string[] = [];
  const changed: string[] = [];
  const vertices = new Map<string, MatchedVertex>();
  if (snapshot.vertices === undefined)
    return {
      vertices,
      notRestored,
      incompatible: ["The snapshot does not say which transforms it is of: an older Weir took it."],
      changed,
    };
  const open = Map.groupBy(pipeline.vertices, signatureOf);
  const names = new Set(pipeline.vertices.flatMap(({ transforms }) => transforms.map(({ name }) => name)));
  for (const former of snapshot.vertices) {
    const vertex = open.get(signatureOf(former))?.shift();
    if (vertex === undefined) {
      notRestored.push(missing(former, names));
      continue;
    }
    const renamed = former.transforms.flatMap(({ id: formerId }, index) => {
      const id = vertex.transforms[index]?.id ?? formerId;
      return id === formerId ? [] : [{ formerId, id }];
    });
    vertices.set(vertex.vertexId, { formerVertexId: former.vertexId, renamed });
    const tables = new Map(
      pipeline.tables.filter(({ vertexId }) => vertexId === vertex.vertexId).map((table) => [idOf(table), table]),
    );
    for (const was of (snapshot.tables ?? []).filter(({ vertexId }) => vertexId === former.vertexId)) {
      const is = tables.get(idOf(was));
      if (is === undefined) notRestored.push(`${capital(what(was))} is in the snapshot and not in the pipeline.`);
      else {
        incompatible.push(...changes(was, snapshot.coders ?? {}, is, pipeline.coders));
        if (was.windowing === undefined || is.windowing === undefined) continue;
        const windowing = windowingChanges(was.windowing, is.windowing);
        const named = (change: string) => `${capital(what(was))}: ${change}`;
        incompatible.push(...windowing.incompatible.map(named));
        changed.push(...windowing.changed.map(named));
      }
    }
  }
  return { vertices, notRestored, incompatible, changed };
}

function signatureOf({ name, transforms }: ManifestVertex): string {
  return [name, ...transforms.map((transform) => transform.name)].join("\n");
}

function missing({ name, transforms }: ManifestVertex, names: ReadonlySet<string>): string {
  const gone = transforms.map((transform) => transform.name).filter((transform) => !names.has(transform));
  return gone.length > 0
    ? `The snapshot has state of ${gone.map((transform) => `"${transform}"`).join(", ")}, which the pipeline does not have.`
    : `The snapshot has state of the stage "${name}", whose transforms are in other stages of the pipeline.`;
}

function idOf({ transform, kind, stateId }: ManifestTable): string {
  const family = kind === "timers" || kind === "grouping" ? kind : "state";
  return [transform, family, stateId].join("\n");
}

function what({ transform, kind, stateId }: ManifestTable): string {
  if (kind === "grouping") return `what "${transform}" has grouped`;
  return kind === "timers" ? `timer "${stateId}" of "${transform}"` : `state "${stateId}" of "${transform}"`;
}

function changes(
  was: ManifestTable,
  formerCoders: Readonly<Record<string, ManifestCoder>>,
  is: ManifestTable,
  coders: Readonly<Record<string, ManifestCoder>>,
): string[] {
  if (was.kind !== is.kind) return [`${capital(what(was))} was a ${was.kind} and is a ${is.kind} now.`];
  if (was.timeDomain !== undefined && is.timeDomain !== undefined && was.timeDomain !== is.timeDomain)
    return [`${capital(what(was))} was one of ${was.timeDomain} and is one of ${is.timeDomain} now.`];
  const parts = {
    keyCoderId: "key",
    windowCoderId: "window",
    valueCoderId: "value",
    mapKeyCoderId: "map key",
  } as const;
  return Object.entries(parts).flatMap(([member, name]) => {
    const [before, now] = [
      coderText(formerCoders, was[member as keyof typeof parts]),
      coderText(coders, is[member as keyof typeof parts]),
    ];
    return before === now ? [] : [`${capital(what(was))}: the coder of its ${name} was ${before} and is ${now} now.`];
  });
}

function coderText(coders: Readonly<Record<string, ManifestCoder>>, id: string): string {
  const coder = coders[id];
  if (coder === undefined) return id === "" ? "none" : "unknown";
  const components = coder.components.map((component) => coderText(coders, component)).join(", ");
  const schema = coder.payload === undefined ? "" : `{${coder.payload}}`;
  return `${coder.urn}${schema}${components === "" ? "" : `<${components}>`}`;
}

function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
