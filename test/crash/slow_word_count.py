"""A word count that takes a few seconds, tells how far it is, and who runs it.

Imported by the harness too (PYTHONPATH), which is a process of its own. In `directory`, the slow step appends one byte
to `progress` for each line, and leaves a file `harness-PID` for each process that ran it.
"""
import os
import random
import sys
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

LINE_COUNT = 300
LINE_SECONDS = 0.02


def lines():
  chance = random.Random(7)
  words = ['weir', 'stream', 'barrier', 'bundle', 'key', 'window', 'element', 'harness', 'worker', 'state']
  return [' '.join(chance.choices(words, k=10)) for _ in range(LINE_COUNT)]


class SlowSplit(beam.DoFn):
  def __init__(self, directory):
    self._directory = directory

  def setup(self):
    with open(os.path.join(self._directory, 'harness-%d' % os.getpid()), 'w', encoding='utf-8'):
      pass

  def process(self, line):
    time.sleep(LINE_SECONDS)
    descriptor = os.open(os.path.join(self._directory, 'progress'), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b'.')
    os.close(descriptor)
    for word in line.split():
      yield word, 1


def format_count(word, count):
  return '%s: %d' % (word, count)


def counting(directory, arguments):
  pipeline = beam.Pipeline(options=PipelineOptions(arguments))
  _ = (
      pipeline | beam.Create(lines()) | beam.ParDo(SlowSplit(directory)) | beam.CombinePerKey(sum)
      | beam.MapTuple(format_count) | beam.io.WriteToText(os.path.join(directory, 'counts')))
  return pipeline


def main(directory, arguments):
  with counting(directory, arguments):
    pass


def submit(directory, arguments):
  """Prints the job's id and leaves the job alone."""
  print(counting(directory, arguments).run()._job_id, flush=True)
  os._exit(0)


if __name__ == '__main__':
  # By its importable name, so that a harness finds what is pickled by reference.
  import slow_word_count
  slow_word_count.main(sys.argv[1], sys.argv[2:])
