"""A streaming job that takes a while: two unbounded sources, counts in state, sums written by timers, counted windows.

Imported by the harness too (PYTHONPATH). In `directory`, each count is appended to `state` (key, count), each sum that
a timer wrote to `timers` (window, key, sum) and each pane to `windows` (window, key, count); all are seen again when
the job goes back to a checkpoint, with the same numbers. `positions` has in order where sources began (S shard
position) and up to where they were finalized (F shard position), and `committed` what the counter of elements said at the end. Slow until there is a file `finish`. Each process that
ran it leaves `harness-PID`. Several directories, joined by colons, get such a part of the pipeline each, which nothing
connects with the others.
"""
import os
import signal
import sys

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.metrics.metric import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import CombiningValueStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

SHARD_COUNT = 2
KEY_COUNT = 5
NUMBERS_PER_STEP = 5
STEP_SECONDS = 0.1
# Of the rest, when there is a file `finish`.
NUMBERS_PER_LAST_STEP = 500
WINDOW_SECONDS = 500


def append(directory, name, line):
  descriptor = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.write(descriptor, (line + '\n').encode())
  os.close(descriptor)


class Numbers(beam.DoFn, beam.transforms.core.RestrictionProvider):
  """Those of 0, 1, 2, … that are the shard's, a few at a time; number n has timestamp n."""

  def __init__(self, directory, number_count):
    self._directory = directory
    self._number_count = number_count

  def initial_restriction(self, shard):
    return OffsetRange(0, self._number_count // SHARD_COUNT)

  def create_tracker(self, restriction):
    return OffsetRestrictionTracker(restriction)

  def restriction_size(self, shard, restriction):
    return restriction.size()

  @beam.DoFn.unbounded_per_element()
  def process(self,
              shard,
              finalizer=beam.DoFn.BundleFinalizerParam,
              tracker=beam.DoFn.RestrictionParam(),
              watermark=beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())):
    position = tracker.current_restriction().start
    append(self._directory, 'positions', 'S %d %d' % (shard, position))
    is_finishing = os.path.exists(os.path.join(self._directory, 'finish'))
    stop = position + (NUMBERS_PER_LAST_STEP if is_finishing else NUMBERS_PER_STEP)
    done = [position]
    finalizer.register(lambda: append(self._directory, 'positions', 'F %d %d' % (shard, done[0])))
    while tracker.try_claim(position):
      number = position * SHARD_COUNT + shard
      watermark.set_watermark(Timestamp(number))
      yield TimestampedValue((number % KEY_COUNT, number), Timestamp(number))
      position += 1
      done[0] = position
      if position == stop:
        tracker.defer_remainder(Duration(0 if is_finishing else STEP_SECONDS))
        return


class CountInState(beam.DoFn):
  COUNT = CombiningValueStateSpec('count', combine_fn=sum)

  def __init__(self, directory):
    self._directory = directory
    self._counted = Metrics.counter('recovery', 'counted')

  def setup(self):
    append(self._directory, 'harness-%d' % os.getpid(), '')

  def process(self, element, count=beam.DoFn.StateParam(COUNT)):
    count.add(1)
    self._counted.inc()
    append(self._directory, 'state', '%d %d' % (element[0], count.read()))
    yield element


class SumByTimer(beam.DoFn):
  """Writes the sum of a key's numbers in a window at the window's end."""
  SUM = CombiningValueStateSpec('sum', combine_fn=sum)
  KEY = ReadModifyWriteStateSpec('key', beam.coders.VarIntCoder())
  END = TimerSpec('end', TimeDomain.WATERMARK)

  def __init__(self, directory):
    self._directory = directory

  def process(self,
              element,
              window=beam.DoFn.WindowParam,
              sum_state=beam.DoFn.StateParam(SUM),
              key_state=beam.DoFn.StateParam(KEY),
              end=beam.DoFn.TimerParam(END)):
    sum_state.add(element[1])
    key_state.write(element[0])
    end.set(window.max_timestamp())

  @on_timer(END)
  def write(self, window=beam.DoFn.WindowParam, sum_state=beam.DoFn.StateParam(SUM),
            key_state=beam.DoFn.StateParam(KEY)):
    append(self._directory, 'timers', '%d %d %d' % (int(window.start), key_state.read(), sum_state.read()))


class WritePane(beam.DoFn):
  def __init__(self, directory):
    self._directory = directory

  def process(self, element, window=beam.DoFn.WindowParam):
    key, numbers = element
    append(self._directory, 'windows', '%d %d %d' % (int(window.start), key, len(list(numbers))))


def count_into(begin, directory, number_count):
  counted = (
      begin | beam.Create(range(SHARD_COUNT)) | beam.Reshuffle()
      | beam.ParDo(Numbers(directory, number_count)).with_output_types(tuple[int, int])
      | beam.ParDo(CountInState(directory)).with_output_types(tuple[int, int])
      | beam.WindowInto(FixedWindows(WINDOW_SECONDS)))
  _ = counted | beam.ParDo(SumByTimer(directory))
  return counted | beam.GroupByKey() | beam.ParDo(WritePane(directory))


def counting(directory, number_count, arguments):
  pipeline = beam.Pipeline(options=PipelineOptions(arguments, streaming=True))
  directories = directory.split(':')
  if len(directories) == 1:
    _ = count_into(pipeline, directory, number_count)
  for each in directories if len(directories) > 1 else []:
    _ = pipeline | os.path.basename(each) >> beam.ptransform_fn(count_into)(each, number_count)
  return pipeline


def main(directory, number_count, arguments):
  with counting(directory, number_count, arguments) as pipeline:
    pass
  directory = directory.split(':')[0]
  found = pipeline.result.metrics().query(MetricsFilter().with_name('counted'))['counters']
  append(directory, 'committed', str(sum(metric.committed for metric in found)))


def submit(directory, number_count, arguments):
  """Prints the job's id and leaves the job alone, unless it runs here."""
  print(counting(directory, number_count, arguments).run()._job_id, flush=True)
  if '--environment_type=LOOPBACK' in arguments:
    signal.pause()
  os._exit(0)


if __name__ == '__main__':
  # By its importable name, so that a harness finds what is pickled by reference.
  import recovery_counts
  recovery_counts.main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
