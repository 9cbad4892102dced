"""The benchmark's pipelines with state, timers and unbounded sources.

Each counts in a metric what came out right, so that a runner that loses state, a window or a timer is seen to.
"""
import time

import apache_beam as beam
from apache_beam import coders
from apache_beam.io.restriction_trackers import OffsetRange
from apache_beam.io.restriction_trackers import OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.metrics import Metrics
from apache_beam.runners.sdf_utils import RestrictionTrackerView
from apache_beam.transforms import trigger
from apache_beam.transforms import userstate
from apache_beam.transforms import window
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.utils.timestamp import Duration
from apache_beam.utils.timestamp import Timestamp

ELEMENTS_PER_KEY = 10
# Event time passes at this many elements a second, whatever the wall clock says.
ELEMENTS_PER_EVENT_SECOND = 1000
# What the unbounded source gives before it hands itself back to the runner.
ELEMENTS_PER_ROUND = 20_000


def elements_counter():
  return Metrics.counter('bench', 'elements')


class CountPerKey(beam.DoFn):
  """Counts the values of each key in state; says how many when the last one is there."""
  COUNT = userstate.ReadModifyWriteStateSpec('count', coders.VarIntCoder())

  def __init__(self, per_key):
    self._per_key = per_key
    self._elements = elements_counter()

  def process(self, element, count=beam.DoFn.StateParam(COUNT)):
    now = (count.read() or 0) + 1
    count.write(now)
    if now == self._per_key:
      self._elements.inc(now)
    return ()


class EventTimers(beam.DoFn):
  """One timer of event time for each key; counts those that fire."""
  TIMER = userstate.TimerSpec('event', TimeDomain.WATERMARK)

  def __init__(self):
    self._elements = elements_counter()

  def process(self, element, timer=beam.DoFn.TimerParam(TIMER)):
    # A thousand different times.
    timer.set(Timestamp(10 + int(element[0]) % 1000))
    return ()

  @userstate.on_timer(TIMER)
  def fire(self):
    self._elements.inc()
    return ()


class ProcessingTimers(beam.DoFn):
  """One timer of processing time for each key, a moment after its element."""
  TIMER = userstate.TimerSpec('processing', TimeDomain.REAL_TIME)

  def __init__(self):
    self._elements = elements_counter()

  def process(self, element, timer=beam.DoFn.TimerParam(TIMER)):
    timer.set(Timestamp.of(time.time()) + Duration(seconds=0.5))
    return ()

  @userstate.on_timer(TIMER)
  def fire(self):
    self._elements.inc()
    return ()


class EndlessRange(RestrictionProvider):
  def initial_restriction(self, size):
    return OffsetRange(0, size)

  def create_tracker(self, restriction):
    return OffsetRestrictionTracker(restriction)

  def restriction_size(self, size, restriction):
    return restriction.size()

  def truncate(self, size, restriction):
    return None


class Endless(beam.DoFn):
  """
  An unbounded source that gives (key, index) at index / ELEMENTS_PER_EVENT_SECOND of event time, hands itself back
  again and again, and ends after as many as its element says. With `per_second`, that is its pace by the wall clock.
  """
  def __init__(self, key_count, per_second=None):
    self._key_count = key_count
    self._per_second = per_second

  @beam.DoFn.unbounded_per_element()
  def process(
      self,
      size,
      restriction_tracker: RestrictionTrackerView = beam.DoFn.RestrictionParam(EndlessRange()),
      watermark_estimator=beam.DoFn.WatermarkEstimatorParam(
          ManualWatermarkEstimator.default_provider())):
    restriction = restriction_tracker.current_restriction()
    first, pace = restriction.start, self._per_second
    # A tenth of a second's worth, when it has a pace.
    last = first + (ELEMENTS_PER_ROUND if pace is None else max(1, pace // 10))
    index = first
    while index < last:
      if not restriction_tracker.try_claim(index):
        return
      at = Timestamp(micros=index * 1_000_000 // (pace or ELEMENTS_PER_EVENT_SECOND))
      watermark_estimator.set_watermark(at)
      yield window.TimestampedValue((b'%08d' % (index * 2654435761 % self._key_count), index), at)
      index += 1
    restriction_tracker.defer_remainder(Duration(seconds=0 if pace is None else 0.1))


class CountPane(beam.DoFn):
  def __init__(self):
    self._elements = elements_counter()

  def process(self, element):
    self._elements.inc(element[1])
    return ()


def keyed(pipeline, size, key_count):
  def keys(segment):
    for index in range(size * segment // 100, size * (segment + 1) // 100):
      yield b'%08d' % (index * 2654435761 % key_count), 1

  return (
      pipeline | beam.Create(range(100), reshuffle=False)
      | beam.FlatMap(keys).with_output_types(tuple[bytes, int]))


def windowed_count(pipeline, size, key_count, per_second=None):
  return (
      pipeline | beam.Create([size], reshuffle=False)
      | beam.ParDo(Endless(key_count, per_second)).with_output_types(tuple[bytes, int])
      | beam.WindowInto(
          window.FixedWindows(10), trigger=trigger.AfterWatermark(),
          accumulation_mode=trigger.AccumulationMode.DISCARDING)
      | beam.combiners.Count.PerKey() | beam.ParDo(CountPane()))


def build(case, pipeline, size):
  """Applies the case. Returns the count that the metric must show."""
  if case == 'stateful_count':
    key_count = max(1, size // ELEMENTS_PER_KEY)
    _ = keyed(pipeline, key_count * ELEMENTS_PER_KEY, key_count) | beam.ParDo(CountPerKey(ELEMENTS_PER_KEY))
    return key_count * ELEMENTS_PER_KEY
  if case == 'windowed_stream':
    _ = windowed_count(pipeline, size, 1000)
    return size
  if case == 'event_timers':
    _ = keyed(pipeline, size, size) | beam.ParDo(EventTimers())
    return size
  if case == 'processing_timers':
    _ = keyed(pipeline, size, size) | beam.ParDo(ProcessingTimers())
    return size
  raise ValueError(case)
