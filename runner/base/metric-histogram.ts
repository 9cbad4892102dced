/**
 * The histogram metric: counts per bucket. Only histograms over the same buckets can be added up; the buckets'
 * description itself is carried as bytes and not interpreted.
 *
 * Invariant: `count` is summed by itself, since it also counts what fell outside all buckets.
 * Source: HistogramValue of metrics.proto; apache_beam/utils/histogram.py.
 */
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { eachField } from "./monitoring-info.ts";

/** Immutable. */
export interface MetricHistogram {
  readonly count: bigint;
  /** BucketOptions as they came; undefined in an empty histogram of some SDKs. */
  readonly bucketOptions: Uint8Array | undefined;
  readonly bucketCounts: readonly bigint[];
}

/** Bytes of one encoded histogram: some ten thousand buckets, far beyond any SDK's, and an end to what is kept. */
const MAX_PAYLOAD_BYTES = 128 * 1024;
const LENGTH_DELIMITED = 2;

/** @throws Error (any) when the bytes are no HistogramValue. */
export function decodeMetricHistogram(bytes: Uint8Array): MetricHistogram {
  if (bytes.length > MAX_PAYLOAD_BYTES) throw new Error(`A histogram may be ${MAX_PAYLOAD_BYTES} bytes long.`);
  let count: bigint | undefined;
  let bucketOptions: Uint8Array | undefined;
  const bucketCounts: bigint[] = [];
  eachField(bytes, (field, reader, wireType) => {
    if (field === 1) count = BigInt(reader.int64());
    else if (field === 2) bucketOptions = Uint8Array.from(reader.bytes());
    else if (field === 3 && wireType === LENGTH_DELIMITED) {
      const packed = new BinaryReader(reader.bytes());
      while (packed.pos < packed.len) bucketCounts.push(BigInt(packed.int64()));
    } else if (field === 3) bucketCounts.push(BigInt(reader.int64()));
    else return false;
    return true;
  });
  return { count: count ?? bucketCounts.reduce((sum, one) => sum + one, 0n), bucketOptions, bucketCounts };
}

export function encodeMetricHistogram(histogram: MetricHistogram): Uint8Array {
  const writer = new BinaryWriter().tag(1, 0).int64(BigInt.asIntN(64, histogram.count));
  if (histogram.bucketOptions !== undefined) writer.tag(2, LENGTH_DELIMITED).bytes(histogram.bucketOptions);
  if (histogram.bucketCounts.length > 0) {
    writer.tag(3, LENGTH_DELIMITED).fork();
    for (const count of histogram.bucketCounts) writer.int64(BigInt.asIntN(64, count));
    writer.join();
  }
  return writer.finish();
}

/** @throws Error when their buckets differ: the counts of one mean nothing in the other. */
export function mergeMetricHistograms(left: MetricHistogram, right: MetricHistogram): MetricHistogram {
  const bucketOptions = left.bucketOptions ?? right.bucketOptions;
  if (left.bucketOptions && right.bucketOptions && Buffer.compare(left.bucketOptions, right.bucketOptions) !== 0)
    throw new Error("Histograms over different buckets cannot be merged.");
  const length = Math.max(left.bucketCounts.length, right.bucketCounts.length);
  const bucketCounts = Array.from(
    { length },
    (_, index) => (left.bucketCounts[index] ?? 0n) + (right.bucketCounts[index] ?? 0n),
  );
  return { count: left.count + right.count, bucketOptions, bucketCounts };
}
