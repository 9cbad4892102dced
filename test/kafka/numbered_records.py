"""Input and expected output of kafka_counts.py.

Record n has key n % key_count and is the (n // key_count + 1)-th of it. The records of a key are in one partition, so
that what the pipeline writes does not depend on what is read first, and a second time it writes the same.
"""
import collections
import threading

import kafka_counts

# The records' timestamps grow from here by a second with each.
BASE_MS = 1_600_000_000_000


class Numbering:
  def __init__(self, key_count, partition_count):
    self.key_count = key_count
    self.partition_count = partition_count

  def key_of(self, number):
    return b'key-%d' % (number % self.key_count)

  def put(self, broker, numbers, **options):
    """Writes these records; options are KafkaBroker.produce's."""
    broker.produce(
        'in',
        [(number % self.key_count % self.partition_count, self.key_of(number), b'%d %d' %
          (number // self.key_count + 1, number), BASE_MS + number * 1000) for number in numbers], **options)

  @staticmethod
  def expected_value(seq):
    """A count that is not its record's SEQ would mean that a record was lost in the state, or was counted twice."""
    return b'%d %d %d' % (seq, seq, seq * (seq + 1) // 2)

  def expected_counts(self, total):
    seqs = ((number, number // self.key_count + 1) for number in range(total))
    return {(self.key_of(number), seq): self.expected_value(seq) for number, seq in seqs}

  def expected_windows(self, total):
    counts = collections.Counter()
    for number in range(total):
      counts[self.key_of(number), number - number % kafka_counts.WINDOW_SECONDS] += 1
    return {(key, start): b'%d %d' % (start, count) for (key, start), count in counts.items()}


class Feed:
  """Writes records to the topic `in`, a few at a time, until it is closed."""

  def __init__(self, broker, numbering, records_per_step=24, step_seconds=0.1):
    self._broker = broker
    self._numbering = numbering
    self._records_per_step = records_per_step
    self._step_seconds = step_seconds
    self._failure = None
    self.count = 0
    self._stop = threading.Event()
    self._thread = threading.Thread(target=self._run)
    self._thread.start()

  def _run(self):
    try:
      while not self._stop.wait(self._step_seconds):
        self._put(self.count + self._records_per_step)
    except BaseException as failure:  # pylint: disable=broad-except
      self._failure = failure

  def _put(self, end):
    self._numbering.put(self._broker, range(self.count, end))
    self.count = end

  def finish(self, total):
    """Ends it when at least `total` records are written. Returns how many are."""
    self.close()
    if self._failure is not None:
      raise self._failure
    if self.count < total:
      self._put(total)
    return self.count

  def close(self):
    """Idempotent."""
    self._stop.set()
    self._thread.join()


def found(broker, topic):
  """What was written by (key, first word of the value): the different values, each with how often."""
  by_name = collections.defaultdict(collections.Counter)
  for _, _, key, value in broker.read(topic):
    by_name[key, int(value.split()[0])][value] += 1
  return by_name


def compare(broker, topic, expected):
  """Each expected value is there, and no other of its name. Returns how many were written more than once."""
  by_name = found(broker, topic)
  missing = sorted(set(expected) - set(by_name))
  assert not missing, '%s: %d are missing, as %r' % (topic, len(missing), missing[:5])
  unknown = sorted(set(by_name) - set(expected))
  assert not unknown, '%s: %d should not be there, as %r' % (topic, len(unknown), unknown[:5])
  wrong = {name: dict(values) for name, values in by_name.items() if set(values) != {expected[name]}}
  assert not wrong, '%s: %d are wrong, as %r' % (topic, len(wrong), sorted(wrong.items())[:5])
  return sum(sum(values.values()) - 1 for values in by_name.values())
