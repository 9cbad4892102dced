/**
 * What a bundle is: what it runs, its input, its timers; and the messages that bring it to an SDK, in the request itself
 * or over the Data stream. Pure.
 *
 * Invariant: elements come before timers, in order, and each stream's end comes once, after all that is on it.
 */
import type { Elements, ProcessBundleRequest_CacheToken } from "../../../proto/gen/beam_fn_api.ts";
import type { InstructionId } from "../../base/ids.ts";
import type { Skip } from "../../coders/element-boundary.ts";
import type { BundleInput } from "./bundle-input.ts";
import { encodeData, encodeTimers } from "./encode-elements.ts";

export interface BundlePlan extends SdkAbilities {
  readonly descriptorId: string;
  readonly sourceTransformId: string;
  readonly sinkTransformIds: readonly string[];
  /** Every timer family of the stage: its streams are ended in both directions. */
  readonly timerFamilies?: readonly { readonly transformId: string; readonly timerFamilyId: string }[];
  /** Bytes of one message on the Data stream. */
  readonly chunkBytes: number;
  readonly skip: Skip;
}

/** What an environment says that its SDK can do, as far as bundles are concerned. */
export interface SdkAbilities {
  /** The SDK takes small input in the request itself. */
  readonly embedsElements?: boolean;
  /** The SDK tells with its progress whether it still consumes what it has received. */
  readonly tellsConsumption?: boolean;
}

/** What a bundle has beside its elements. */
export interface BundleExtras {
  /** Fired timers, in order: sent after the elements. */
  readonly timers: readonly {
    readonly transformId: string;
    readonly timerFamilyId: string;
    readonly timers: Uint8Array;
  }[];
  readonly cacheTokens: ProcessBundleRequest_CacheToken[];
}

export const NO_EXTRAS: BundleExtras = { timers: [], cacheTokens: [] };

/** Java's SDK has it, Python's (2.77), Go's (2.77) and TypeScript's (2.49) have not. */
const EMBEDDING = "beam:protocol:control_request_elements_embedding:v1";
/** Python's SDK (2.77) and Java's have it. */
const CONSUMPTION = "beam:protocol:sdk_consuming_received_data:v1";
/** Larger input is no longer small beside its request, and should not delay others' instructions. */
const MAX_EMBEDDED_BYTES = 16 * 1024;

export function sdkAbilities(environment: { readonly capabilities: readonly string[] } | undefined): SdkAbilities {
  const has = (urn: string) => environment?.capabilities.includes(urn) === true;
  return { embedsElements: has(EMBEDDING), tellsConsumption: has(CONSUMPTION) };
}

/** The whole input with every stream's end, where the SDK takes it so and it is small. */
export function embeddedElements(
  instructionId: InstructionId,
  { sourceTransformId: transformId, timerFamilies = [], embedsElements }: BundlePlan,
  input: BundleInput,
  { timers }: BundleExtras,
): Elements | undefined {
  const byteLength = timers.reduce((sum, batch) => sum + batch.timers.length, input.byteLength);
  if (embedsElements !== true || byteLength > MAX_EMBEDDED_BYTES) return undefined;
  const none = new Uint8Array();
  const data = input.chunks.map((chunk) => ({ instructionId, transformId, data: chunk.data, isLast: false }));
  return {
    data: [...data, { instructionId, transformId, data: none, isLast: true }],
    timers: [
      ...timers.map((batch) => ({ instructionId, ...batch, isLast: false })),
      ...timerFamilies.map((family) => ({ instructionId, ...family, timers: none, isLast: true })),
    ],
  };
}

/** The same as encoded Elements messages of about `chunkBytes`, each made when it is asked for. */
export function* dataMessages(
  instructionId: InstructionId,
  { sourceTransformId, timerFamilies = [], chunkBytes }: BundlePlan,
  input: BundleInput,
  { timers }: BundleExtras,
): Generator<Buffer, void> {
  let batch: Uint8Array[] = [];
  let batchBytes = 0;
  for (const chunk of input.chunks) {
    if (batchBytes > 0 && batchBytes + chunk.data.length > chunkBytes) {
      yield encodeData(instructionId, sourceTransformId, batch, false);
      batch = [];
      batchBytes = 0;
    }
    batch.push(chunk.data);
    batchBytes += chunk.data.length;
  }
  if (batchBytes > 0) yield encodeData(instructionId, sourceTransformId, batch, false);
  for (const fired of timers)
    yield encodeTimers(instructionId, fired.transformId, fired.timerFamilyId, [fired.timers], false);
  // On its own: the Python SDK drops data that comes with the last message.
  yield encodeData(instructionId, sourceTransformId, [], true);
  for (const { transformId, timerFamilyId } of timerFamilies)
    yield encodeTimers(instructionId, transformId, timerFamilyId, [], true);
}
