"""The streaming job of the checkpoint benchmarks, and the client that submits it:

    python test/bench/checkpoint_pipelines.py OPTIONS_JSON RUNNER_ARGUMENT...

A source of numbers → a count for each key in user state, with a value of a size → a sink. Imported by the harness too
(PYTHONPATH). After each bundle the sink appends a line to `DIRECTORY/progress-PID`: monotonic seconds, elements of
this process so far, the greatest number so far. Whoever reads these files knows throughput and when output came.
"""
import json
import os
import random
import sys
import time

import apache_beam as beam
from apache_beam import coders
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.utils.timestamp import Duration

ENDLESS = 1 << 50
# What the source gives before it hands itself back, when nothing else ends its bundle.
NUMBERS_PER_ROUND = 20_000
IDLE_SECONDS = 0.05


def key_of(number, key_count):
  """A multiplicative hash, so that neighbours have different keys; the first `key_count` numbers have all of them."""
  return b'%08d' % (number * 2654435761 % key_count)


class Numbers(beam.DoFn, beam.transforms.core.RestrictionProvider):
  """
  (key, bytes) for 0, 1, 2, …: first `at_once` of them, then `per_second` by the wall clock, what was missed included;
  with None as fast as they are taken. Those from `at_once` on wait for a file `go`, if `waits`. `rounds` of `round_size`
  more come with a file `round-N` each.
  """

  def __init__(self, options):
    self._options = options

  def initial_restriction(self, unused):
    return OffsetRange(0, ENDLESS)

  def create_tracker(self, restriction):
    return OffsetRestrictionTracker(restriction)

  def restriction_size(self, unused, restriction):
    return restriction.size()

  def truncate(self, unused, restriction):
    return None

  def _due(self):
    """Numbers below it may come now."""
    at_once, per_second = self._options['at_once'], self._options['per_second']
    if self._options['round_size']:
      rounds = 0
      while os.path.exists(os.path.join(self._options['directory'], 'round-%d' % (rounds + 1))):
        rounds += 1
      return at_once + rounds * self._options['round_size']
    if per_second is None:
      return ENDLESS
    try:
      began = os.stat(os.path.join(self._options['directory'], 'go')).st_mtime
    except FileNotFoundError:
      return at_once
    return at_once + int((time.time() - began) * per_second)

  @beam.DoFn.unbounded_per_element()
  def process(self, unused, tracker=beam.DoFn.RestrictionParam()):
    number = tracker.current_restriction().start
    stop = min(number + NUMBERS_PER_ROUND, self._due())
    filler, key_count = b'v' * max(0, self._options['element_bytes'] - 16), self._options['key_count']
    while number < stop:
      if not tracker.try_claim(number):
        return
      yield key_of(number, key_count), b'%08d' % number + filler
      number += 1
    tracker.defer_remainder(Duration(0 if number < self._due() else IDLE_SECONDS))


class CountInState(beam.DoFn):
  """A count and `value_bytes` that cannot be compressed for each key."""
  VALUE = ReadModifyWriteStateSpec('value', coders.BytesCoder())

  def __init__(self, value_bytes):
    self._value_bytes = value_bytes

  def process(self, element, value=beam.DoFn.StateParam(VALUE)):
    _, payload = element
    count = int((value.read() or b'0')[:8]) + 1
    # No two values of a key are the same.
    filler = random.Random(int(payload[:8]) * 64 + count).randbytes(self._value_bytes) if self._value_bytes else b''
    value.write(b'%08d' % count + filler)
    yield element


class Sink(beam.DoFn):
  """Takes `seconds_per_element`, asleep; tells how far it is after each bundle."""

  def __init__(self, directory, seconds_per_element):
    self._directory = directory
    self._seconds_per_element = seconds_per_element
    self._count = 0
    self._greatest = -1
    self._told = 0

  def setup(self):
    self._descriptor = os.open(
        os.path.join(self._directory, 'progress-%d' % os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

  def process(self, element):
    self._count += 1
    self._greatest = max(self._greatest, int(element[1][:8]))
    if self._seconds_per_element:
      time.sleep(self._seconds_per_element)
      # Bundles of a slow sink are long.
      self._tell()

  def finish_bundle(self):
    self._tell()

  def _tell(self):
    if self._count > self._told:
      self._told = self._count
      os.write(self._descriptor, b'%.4f %d %d\n' % (time.monotonic(), self._count, self._greatest))


DEFAULTS = {
    'directory': None, 'at_once': 0, 'per_second': None, 'round_size': 0, 'element_bytes': 100, 'key_count': 1001,
    'value_bytes': 0, 'seconds_per_element': 0, 'has_state': True,
}


def main():
  options = dict(DEFAULTS, **json.loads(sys.argv[1]))
  pipeline = beam.Pipeline(options=PipelineOptions(sys.argv[2:], streaming=True))
  elements = (
      pipeline | beam.Create([0], reshuffle=False)
      | beam.ParDo(Numbers(options)).with_output_types(tuple[bytes, bytes]))
  if options['has_state']:
    elements |= beam.ParDo(CountInState(options['value_bytes'])).with_output_types(tuple[bytes, bytes])
  else:
    elements |= beam.Reshuffle()
  _ = elements | beam.ParDo(Sink(options['directory'], options['seconds_per_element']))
  print(pipeline.run()._job_id, flush=True)
  # Without the atexit handlers, which would wait for the job.
  os._exit(0)


if __name__ == '__main__':
  # By its importable name, so that a harness finds what is pickled by reference.
  import checkpoint_pipelines
  checkpoint_pipelines.main()
