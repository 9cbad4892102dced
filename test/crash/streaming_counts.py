"""A streaming job that takes a while: an unbounded source, a stateful count for each key, and a count for each window.

Imported by the harness too (PYTHONPATH). In `directory`, each count is appended to `state` (key, count) and each pane
to `windows` (window, key, count); both are seen again when the job goes back to a checkpoint, with the same numbers.
"""
import os
import sys

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.userstate import CombiningValueStateSpec
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

ELEMENT_COUNT = 800
KEY_COUNT = 5
ELEMENTS_PER_STEP = 5
STEP_SECONDS = 0.05
WINDOW_SECONDS = 100


def append(directory, name, line):
  descriptor = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.write(descriptor, (line + '\n').encode())
  os.close(descriptor)


class Numbers(beam.DoFn, beam.transforms.core.RestrictionProvider):
  """0, 1, 2, … a few at a time; number n has timestamp n."""

  def initial_restriction(self, element):
    return OffsetRange(0, ELEMENT_COUNT)

  def create_tracker(self, restriction):
    return OffsetRestrictionTracker(restriction)

  def restriction_size(self, element, restriction):
    return restriction.size()

  @beam.DoFn.unbounded_per_element()
  def process(self,
              element,
              tracker=beam.DoFn.RestrictionParam(),
              watermark=beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())):
    number = tracker.current_restriction().start
    stop = number + ELEMENTS_PER_STEP
    while tracker.try_claim(number):
      yield TimestampedValue((number % KEY_COUNT, number), Timestamp(number))
      watermark.set_watermark(Timestamp(number))
      number += 1
      if number == stop:
        tracker.defer_remainder(Duration(STEP_SECONDS))
        return


class CountInState(beam.DoFn):
  COUNT = CombiningValueStateSpec('count', combine_fn=sum)

  def __init__(self, directory):
    self._directory = directory

  def process(self, element, count=beam.DoFn.StateParam(COUNT)):
    count.add(1)
    append(self._directory, 'state', '%d %d' % (element[0], count.read()))
    yield element


class WritePane(beam.DoFn):
  def __init__(self, directory):
    self._directory = directory

  def process(self, element, window=beam.DoFn.WindowParam):
    key, numbers = element
    append(self._directory, 'windows', '%d %d %d' % (int(window.start), key, len(list(numbers))))


def main(directory, arguments):
  with beam.Pipeline(options=PipelineOptions(arguments, streaming=True)) as pipeline:
    _ = (
        pipeline | beam.Impulse() | beam.ParDo(Numbers()).with_output_types(tuple[int, int])
        | beam.ParDo(CountInState(directory)).with_output_types(tuple[int, int])
        | beam.WindowInto(FixedWindows(WINDOW_SECONDS)) | beam.GroupByKey() | beam.ParDo(WritePane(directory)))


if __name__ == '__main__':
  # By its importable name, so that a harness finds what is pickled by reference.
  import streaming_counts
  streaming_counts.main(sys.argv[1], sys.argv[2:])
