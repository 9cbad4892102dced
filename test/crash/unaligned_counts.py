"""recovery_counts.py with a step that does not come to an end with one of the numbers, until there is a file `go`.

Imported by the harness too (PYTHONPATH). Each time it begins with that number a line goes to `blocked`.
"""
import os
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows

from recovery_counts import SHARD_COUNT, WINDOW_SECONDS, CountInState, Numbers, SumByTimer, WritePane, append

BLOCKING_NUMBER = 101
POLL_SECONDS = 0.05
# Longer than the test: only for one that has gone wrong.
LIMIT_SECONDS = 300


class Block(beam.DoFn):
  def __init__(self, directory):
    self._directory = directory

  def process(self, element):
    if element[1] == BLOCKING_NUMBER:
      append(self._directory, 'blocked', str(os.getpid()))
      deadline = time.monotonic() + LIMIT_SECONDS
      while not os.path.exists(os.path.join(self._directory, 'go')) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    yield element


def submit(directory, number_count, arguments):
  """Prints the job's id and leaves the job alone."""
  pipeline = beam.Pipeline(options=PipelineOptions(arguments, streaming=True))
  counted = (
      pipeline | beam.Create(range(SHARD_COUNT)) | beam.Reshuffle()
      | beam.ParDo(Numbers(directory, number_count)).with_output_types(tuple[int, int])
      | beam.ParDo(CountInState(directory)).with_output_types(tuple[int, int])
      | beam.ParDo(Block(directory)).with_output_types(tuple[int, int])
      | beam.WindowInto(FixedWindows(WINDOW_SECONDS)))
  _ = counted | beam.ParDo(SumByTimer(directory))
  _ = counted | beam.GroupByKey() | beam.ParDo(WritePane(directory))
  print(pipeline.run()._job_id, flush=True)
  os._exit(0)
