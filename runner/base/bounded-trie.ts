/**
 * The bounded trie metric: a set of paths in at most `bound` leaves. Beyond the bound the bushiest subtree is folded
 * into one truncated leaf, which stands for every path with that prefix (lineage uses it for the names it reads).
 *
 * Invariants: values are immutable and may be shared; size(root) <= bound; ties are broken by key, so that merging is
 * commutative. It is associative as long as nothing is truncated.
 * Source: BoundedTrie of metrics.proto; apache_beam/metrics/cells.py BoundedTrieData, whose combine forgets the bound
 * of its operands, which this does not.
 */
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { assert } from "./assert.ts";
import { eachField } from "./monitoring-info.ts";

/** The SDKs' own default; also for a payload that names none. */
const DEFAULT_BOUND = 100;
/** An SDK may ask for any bound up to 2^31; the runner keeps one such trie per step and name, so it sets an end. */
const MAX_BOUND = 10_000;
/** A path in a lineage has fewer than ten segments; nesting beyond this is an attack on the stack. */
const MAX_DEPTH = 200;

interface TrieNode {
  readonly truncated: boolean;
  readonly children: ReadonlyMap<string, TrieNode>;
  /** Leaves at or below this node: at least 1. */
  readonly size: number;
}

export interface BoundedTrie {
  readonly bound: number;
  /** Undefined when nothing was ever added. */
  readonly root: TrieNode | undefined;
}

const LEAF: TrieNode = { truncated: false, children: new Map(), size: 1 };
const TRUNCATED: TrieNode = { truncated: true, children: new Map(), size: 1 };

/** @throws Error (any) when the bytes are no BoundedTrie. */
export function decodeBoundedTrie(bytes: Uint8Array): BoundedTrie {
  let bound = 0;
  let root: TrieNode | undefined;
  const singleton: string[] = [];
  eachField(bytes, (field, reader) => {
    if (field === 1) bound = reader.int32();
    else if (field === 2) root = decodeNode(reader.bytes(), 0);
    else if (field === 3) singleton.push(reader.string());
    else return false;
    return true;
  });
  if (singleton.length > MAX_DEPTH) throw new Error(`A bounded trie may be ${MAX_DEPTH} levels deep.`);
  if (root === undefined && singleton.length > 0)
    root = singleton.reduceRight<TrieNode>((child, segment) => inner(new Map([[segment, child]])), LEAF);
  return fit({ bound: bound > 0 ? Math.min(bound, MAX_BOUND) : DEFAULT_BOUND, root });
}

export function encodeBoundedTrie(trie: BoundedTrie): Uint8Array {
  const writer = new BinaryWriter().tag(1, 0).int32(trie.bound);
  const path = singlePath(trie.root);
  // Python too writes a lone path as a singleton.
  if (path !== undefined) for (const segment of path) writer.tag(3, 2).string(segment);
  else if (trie.root !== undefined) encodeNode(writer.tag(2, 2), trie.root);
  return writer.finish();
}

/** The union within the smaller bound; an empty trie changes nothing but another empty one's bound. */
export function mergeBoundedTries(left: BoundedTrie, right: BoundedTrie): BoundedTrie {
  if (left.root === undefined && right.root === undefined) return left.bound <= right.bound ? left : right;
  if (left.root === undefined) return right;
  if (right.root === undefined) return left;
  return fit({ bound: Math.min(left.bound, right.bound), root: mergeNodes(left.root, right.root) });
}

/** Every path, segments joined by "/" and a truncated one ending in "*"; for tests. @internal */
export function boundedTriePaths(trie: BoundedTrie): string[] {
  const walk = (node: TrieNode): string[] => {
    if (node.truncated) return ["*"];
    if (node.children.size === 0) return [""];
    return [...node.children].sort(byKey).flatMap(([key, child]) => walk(child).map((rest) => `${key}/${rest}`));
  };
  return trie.root === undefined ? [] : walk(trie.root);
}

/** An estimate of the memory that it holds. */
export function boundedTrieBytes(trie: BoundedTrie): number {
  const weigh = (node: TrieNode): number => {
    let bytes = 64;
    for (const [key, child] of node.children) bytes += 2 * key.length + weigh(child);
    return bytes;
  };
  return trie.root === undefined ? 0 : weigh(trie.root);
}

function fit(trie: BoundedTrie): BoundedTrie {
  let { root } = trie;
  while (root !== undefined && root.size > trie.bound) root = trim(root);
  return root === trie.root ? trie : { bound: trie.bound, root };
}

/** Folds the deepest of the bushiest subtrees; the result is smaller by at least one leaf. */
function trim(node: TrieNode): TrieNode {
  assert(node.size > 1, "a trie of one leaf cannot be trimmed");
  let bushiest: [string, TrieNode] | undefined;
  for (const entry of node.children) {
    const bySize = bushiest === undefined ? 1 : entry[1].size - bushiest[1].size;
    if (bushiest === undefined || bySize > 0 || (bySize === 0 && entry[0] < bushiest[0])) bushiest = entry;
  }
  if (bushiest === undefined || bushiest[1].size === 1) return TRUNCATED;
  const [key, child] = bushiest;
  const trimmed = trim(child);
  return {
    truncated: false,
    children: new Map(node.children).set(key, trimmed),
    size: node.size - child.size + trimmed.size,
  };
}

function mergeNodes(left: TrieNode, right: TrieNode): TrieNode {
  if (left.truncated || right.truncated) return TRUNCATED;
  if (right.children.size === 0 || left === right) return left;
  if (left.children.size === 0) return right;
  const children = new Map(left.children);
  for (const [key, child] of right.children) {
    const mine = children.get(key);
    children.set(key, mine === undefined ? child : mergeNodes(mine, child));
  }
  return inner(children);
}

function inner(children: ReadonlyMap<string, TrieNode>): TrieNode {
  let size = 0;
  for (const child of children.values()) size += child.size;
  return { truncated: false, children, size: Math.max(1, size) };
}

function decodeNode(bytes: Uint8Array, depth: number): TrieNode {
  if (depth > MAX_DEPTH) throw new Error(`A bounded trie may be ${MAX_DEPTH} levels deep.`);
  let truncated = false;
  const children = new Map<string, TrieNode>();
  eachField(bytes, (field, reader) => {
    if (field === 1) truncated = reader.bool();
    else if (field === 2) children.set(...decodeChild(reader.bytes(), depth + 1));
    else return false;
    return true;
  });
  if (truncated) return TRUNCATED;
  return children.size === 0 ? LEAF : inner(children);
}

function decodeChild(bytes: Uint8Array, depth: number): [string, TrieNode] {
  let key = "";
  let child = LEAF;
  eachField(bytes, (field, reader) => {
    if (field === 1) key = reader.string();
    else if (field === 2) child = decodeNode(reader.bytes(), depth);
    else return false;
    return true;
  });
  return [key, child];
}

/** Writes one length-delimited BoundedTrieNode. Keys are sorted, so that equal tries have equal bytes. */
function encodeNode(writer: BinaryWriter, node: TrieNode): void {
  writer.fork();
  if (node.truncated) writer.tag(1, 0).bool(true);
  for (const [key, child] of [...node.children].sort(byKey)) {
    writer.tag(2, 2).fork().tag(1, 2).string(key);
    encodeNode(writer.tag(2, 2), child);
    writer.join();
  }
  writer.join();
}

function singlePath(root: TrieNode | undefined): string[] | undefined {
  const path: string[] = [];
  let node = root;
  while (node !== undefined && node.children.size === 1) {
    const [entry] = node.children;
    path.push(entry?.[0] ?? "");
    node = entry?.[1];
  }
  return node !== undefined && !node.truncated && node.children.size === 0 && path.length > 0 ? path : undefined;
}

function byKey(left: readonly [string, unknown], right: readonly [string, unknown]): number {
  return left[0] < right[0] ? -1 : left[0] > right[0] ? 1 : 0;
}
