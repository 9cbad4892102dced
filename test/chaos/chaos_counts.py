"""The pipeline of the chaos scenes: Kafka, a count per key in user state, Kafka exactly once.

Imported by the harnesses too (PYTHONPATH). Source and state are kafka_counts.py's, the sink is transactional_sink.py's.
"""
import os
import sys
import zlib

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from kafka_counts import CountInState, LeavePid, ReadPartition
from transactional_sink import WriteExactlyOnce


def with_shard(counted, shard_count):
  key, value = counted
  return zlib.crc32(key.encode()) % shard_count, (key, value)


def submit(servers, partition_count, directory, arguments):
  """Prints the job's id and leaves the job alone."""
  pipeline = beam.Pipeline(options=PipelineOptions(arguments, streaming=True))
  _ = (
      pipeline | beam.Create(range(partition_count)) | beam.Reshuffle()
      | beam.ParDo(ReadPartition(servers)).with_output_types(tuple[str, int])
      | beam.ParDo(CountInState()).with_output_types(tuple[str, str]) | beam.ParDo(LeavePid(directory))
      | beam.Map(with_shard, partition_count).with_output_types(tuple[int, tuple[str, str]])
      | beam.ParDo(WriteExactlyOnce(servers, 'counts')))
  print(pipeline.run()._job_id, flush=True)
  os._exit(0)


if __name__ == '__main__':
  # By its importable name, so that a harness finds what is pickled by reference.
  import chaos_counts
  chaos_counts.submit(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
