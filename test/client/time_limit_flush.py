"""Harnesses that flush their output by time: --experiments=data_buffer_time_limit_ms reaches them, and data and timers
that come in many messages, before their bundle ends, are all there in the end.

Usage: time_limit_flush.py ENDPOINT
"""
import json
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from apache_beam.testing.util import equal_to
from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain

KEYS = 5
EACH = 4


class Slow(beam.DoFn):
  """Emits now and then, for much longer than the time limit, and says whether something flushes by time."""
  def process(self, key):
    import threading
    import time
    from apache_beam.runners.worker.data_plane import PeriodicThread
    for number in range(EACH):
      time.sleep(0.03)
      flushes = any(isinstance(thread, PeriodicThread) for thread in threading.enumerate())
      yield str(key), (number, flushes)


class TimerForEach(beam.DoFn):
  """Sets a timer for each element, slowly; each emits its tag when it fires."""
  TIMER = userstate.TimerSpec('timer', TimeDomain.WATERMARK)

  def process(self, element, timer=beam.DoFn.TimerParam(TIMER)):
    import time
    key, (number, _) = element
    time.sleep(0.03)
    timer.set(10 + number, dynamic_timer_tag='%s-%d' % (key, number))

  @userstate.on_timer(TIMER)
  def fire(self, tag=beam.DoFn.DynamicTimerTagParam):
    yield tag


def main(endpoint):
  options = PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=PROCESS',
      '--environment_config=' + json.dumps({'command': 'weir boot python'}),
      '--experiments=data_buffer_time_limit_ms=10'
  ])
  with beam.Pipeline(options=options) as pipeline:
    slow = pipeline | beam.Create(range(KEYS)) | beam.ParDo(Slow())
    assert_that(
        slow | 'Grouped' >> beam.GroupByKey() | beam.MapTuple(lambda key, values: (key, sorted(values))),
        equal_to([(str(key), [(number, True) for number in range(EACH)]) for key in range(KEYS)]), label='data')
    assert_that(
        slow | beam.ParDo(TimerForEach()),
        equal_to(['%d-%d' % (key, number) for key in range(KEYS) for number in range(EACH)]), label='timers')
  print('as it should be')


if __name__ == '__main__':
  main(*sys.argv[1:])
