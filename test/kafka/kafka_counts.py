"""A streaming pipeline from Kafka to Kafka: records are counted per key in user state, and per key in windows.

Imported by the harness too (PYTHONPATH). Reads topic `in` by a splittable DoFn of its own, which commits offsets for
group GROUP when its bundles are finalized, as sources in Python do. A record is (key, "SEQ NUMBER"): the SEQ-th of its
key, from 1; NUMBER grows in each partition and is its time in seconds. Writes to `counts` (key, "COUNT SEQ SUM"), with
the count and the sum of all SEQ so far, and to `windows` (key, "START COUNT") at the end of each window. What is written
again after a crash is the same again, since the records of a key are all in one partition.
"""
import os
import sys
import threading

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.userstate import CombiningValueStateSpec
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp
from confluent_kafka import Consumer, Producer, TopicPartition

GROUP = 'weir'
WINDOW_SECONDS = 200
POLL_SECONDS = 0.05
PAUSE_SECONDS = 0.05
RECORDS_PER_STEP = 1000
REQUEST_SECONDS = 30


class PartitionReader:
  """One consumer for each partition of a process: DoFn instances come and go with their bundles."""
  _all = {}
  _lock = threading.Lock()

  def __init__(self, servers, partition):
    self._partition = partition
    self._consumer = Consumer({
        'bootstrap.servers': servers, 'group.id': GROUP, 'enable.auto.commit': False, 'auto.offset.reset': 'error'
    })
    self._position = None
    # A bundle that nobody waits for any more may still read.
    self._reading = threading.Lock()

  @classmethod
  def of(cls, servers, partition):
    with cls._lock:
      if (servers, partition) not in cls._all:
        cls._all[servers, partition] = cls(servers, partition)
      return cls._all[servers, partition]

  def read(self, position):
    """Some records from `position` on, or none if none came for a while."""
    with self._reading:
      if position != self._position:
        self._consumer.assign([TopicPartition('in', self._partition, position)])
        self._position = position
      messages = self._consumer.consume(RECORDS_PER_STEP, POLL_SECONDS)
      for message in messages:
        if message.error() is not None:
          raise RuntimeError('partition %d: %s' % (self._partition, message.error()))
        self._position = message.offset() + 1
      return messages

  def commit(self, position):
    self._consumer.commit(offsets=[TopicPartition('in', self._partition, position)], asynchronous=False)


class EndlessOffsets(OffsetRestrictionTracker):
  """So that a drain ends it where it stands."""

  def is_bounded(self):
    return False


class ReadPartition(beam.DoFn, beam.transforms.core.RestrictionProvider):
  """All records of a partition, without end."""

  def __init__(self, servers):
    self._servers = servers

  def initial_restriction(self, partition):
    return OffsetRange(0, 2**62)

  def create_tracker(self, restriction):
    return EndlessOffsets(restriction)

  def restriction_size(self, partition, restriction):
    return 1

  def restriction_coder(self):
    return beam.coders.FastPrimitivesCoder()

  @beam.DoFn.unbounded_per_element()
  def process(self,
              partition,
              finalizer=beam.DoFn.BundleFinalizerParam,
              tracker=beam.DoFn.RestrictionParam(),
              watermark=beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())):
    reader = PartitionReader.of(self._servers, partition)
    position = tracker.current_restriction().start
    records = reader.read(position)
    done = [position]
    finalizer.register(lambda: reader.commit(done[0]))
    for record in records:
      if not tracker.try_claim(record.offset()):
        return
      done[0] = record.offset() + 1
      seq, number = record.value().split()
      yield TimestampedValue((record.key().decode(), int(seq)), Timestamp(int(number)))
      watermark.set_watermark(Timestamp(int(number)))
    tracker.defer_remainder(Duration(0 if records else PAUSE_SECONDS))


class CountInState(beam.DoFn):
  COUNT = CombiningValueStateSpec('count', combine_fn=sum)
  SUM = CombiningValueStateSpec('sum', combine_fn=sum)

  def process(self, element, count=beam.DoFn.StateParam(COUNT), seqs=beam.DoFn.StateParam(SUM)):
    key, seq = element
    count.add(1)
    seqs.add(seq)
    yield key, '%d %d %d' % (count.read(), seq, seqs.read())


class WriteTopic(beam.DoFn):
  """Each element is taken by the broker before its bundle ends."""

  def __init__(self, servers, topic):
    self._servers = servers
    self._topic = topic

  def setup(self):
    self._producer = Producer({'bootstrap.servers': self._servers, 'linger.ms': 2})

  def start_bundle(self):
    self._failures = []

  def _delivered(self, error, _message):
    if error is not None:
      self._failures.append(error)

  def process(self, element):
    self._producer.produce(self._topic, key=element[0], value=element[1], on_delivery=self._delivered)
    self._producer.poll(0)

  def finish_bundle(self):
    left = self._producer.flush(REQUEST_SECONDS)
    if left or self._failures:
      raise RuntimeError('%d records were not taken: %s' % (left + len(self._failures), self._failures[:1]))


class Describe(beam.DoFn):
  def process(self, element, window=beam.DoFn.WindowParam):
    key, seqs = element
    yield key, '%d %d' % (int(window.start), len(list(seqs)))


class LeavePid(beam.DoFn):
  """Leaves a file harness-PID, for those who want to kill it."""

  def __init__(self, directory):
    self._directory = directory

  def setup(self):
    open(os.path.join(self._directory, 'harness-%d' % os.getpid()), 'wb').close()

  def process(self, element):
    yield element


def main(servers, partition_count, directory, arguments):
  with beam.Pipeline(options=PipelineOptions(arguments, streaming=True)) as pipeline:
    records = (
        pipeline | beam.Create(range(partition_count)) | beam.Reshuffle()
        | beam.ParDo(ReadPartition(servers)).with_output_types(tuple[str, int]))
    _ = (
        records | beam.ParDo(CountInState()).with_output_types(tuple[str, str]) | beam.ParDo(LeavePid(directory))
        | 'WriteCounts' >> beam.ParDo(WriteTopic(servers, 'counts')))
    _ = (
        records | beam.WindowInto(FixedWindows(WINDOW_SECONDS)) | beam.GroupByKey() | beam.ParDo(Describe())
        | 'WriteWindows' >> beam.ParDo(WriteTopic(servers, 'windows')))


if __name__ == '__main__':
  # By its importable name, so that a harness finds what is pickled by reference.
  import kafka_counts
  kafka_counts.main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
