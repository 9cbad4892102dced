"""ReadFromKafka and WriteToKafka of Beam's Java SDK around a stateful DoFn in Python.

Reads topic `in` of kafka_counts.py and writes what that writes to `counts`.
"""
import sys

import apache_beam as beam
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka
from apache_beam.options.pipeline_options import PipelineOptions

from kafka_counts import CountInState

GROUP = 'weir-java'
FETCH_MS = 100


def parse(record):
  key, value = record
  return key.decode(), int(value.split()[0])


def encode(counted):
  return counted[0].encode(), counted[1].encode()


def main(servers, expansion_service, arguments):
  with beam.Pipeline(options=PipelineOptions(arguments, streaming=True)) as pipeline:
    consumer = {
        'bootstrap.servers': servers,
        'auto.offset.reset': 'earliest',
        'group.id': GROUP,
        # Or Kafka's client commits what it has read, by itself and every five seconds.
        'enable.auto.commit': 'false',
        # At this pace, however much there is, the broker answers with one batch.
        'fetch.min.bytes': '1000000000',
        'fetch.max.wait.ms': str(FETCH_MS),
        'max.partition.fetch.bytes': '1'
    }
    # It commits at the end of windows of five minutes.
    read = ReadFromKafka(
        consumer, ['in'], commit_offset_in_finalize=True, timestamp_policy=ReadFromKafka.create_time_policy,
        consumer_polling_timeout=1, expansion_service=expansion_service)
    _ = (
        pipeline
        | read
        | beam.Map(parse).with_output_types(tuple[str, int])
        | beam.ParDo(CountInState()).with_output_types(tuple[str, str])
        | beam.Map(encode).with_output_types(tuple[bytes, bytes])
        | WriteToKafka({'bootstrap.servers': servers}, 'counts', expansion_service=expansion_service))


if __name__ == '__main__':
  # By its importable name, so that a harness finds what is pickled by reference.
  import java_kafka
  java_kafka.main(sys.argv[1], sys.argv[2], sys.argv[3:])
