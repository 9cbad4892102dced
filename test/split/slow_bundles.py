"""A slow bundle is split and the rest of it runs on an idle harness: elements tell which thread made them, and when.

Usage: slow_bundles.py ENDPOINT sdf|channel harness|worker
The idle harness is another one of the same worker, or one of an idle worker (which is asked for only after seconds).
"""
import sys
import threading
import time

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from apache_beam.transforms.core import RestrictionProvider

SIZE = 40
SECONDS_EACH = 0.15


class Ranges(RestrictionProvider):
  def initial_restriction(self, size):
    return OffsetRange(0, size)

  def create_tracker(self, restriction):
    return OffsetRestrictionTracker(restriction)

  def restriction_size(self, _, restriction):
    return restriction.size()


class SlowRange(beam.DoFn):
  def process(self, _, tracker=beam.DoFn.RestrictionParam(Ranges())):
    position = tracker.current_restriction().start
    while tracker.try_claim(position):
      time.sleep(SECONDS_EACH)
      yield position, threading.get_ident(), time.time()
      position += 1


class SlowElement(beam.DoFn):
  def process(self, element):
    time.sleep(SECONDS_EACH)
    yield element, threading.get_ident(), time.time()


def each_once_and_side_by_side(made):
  positions = sorted(position for position, _, _ in made)
  assert positions == list(range(SIZE)), positions
  overlaps = [
      1 for _, thread, end in made for _, other, other_end in made
      if thread != other and abs(end - other_end) < SECONDS_EACH / 2
  ]
  assert overlaps, 'no two elements were made at the same time'


def main(endpoint, kind, idle):
  options = PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=LOOPBACK',
      '--sdk_worker_parallelism=' + ('2' if idle == 'harness' else '1')
  ])
  with beam.Pipeline(options=options) as p:
    if kind == 'sdf':
      made = p | beam.Create([SIZE]) | beam.ParDo(SlowRange())
    else:
      made = p | beam.Impulse() | beam.FlatMap(lambda _: range(SIZE)) | beam.Reshuffle() | beam.ParDo(SlowElement())
    assert_that(made, each_once_and_side_by_side)
  print('each element once, side by side')


if __name__ == '__main__':
  main(*sys.argv[1:])
