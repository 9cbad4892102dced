"""A streaming job with state of several kinds, timers and a grouping; cancelled when it has taken some checkpoints.

Usage: stateful_job.py ENDPOINT DIRECTORY CHECKPOINT. The checkpoints stay in DIRECTORY/JOB.
"""
import glob
import os
import sys
import time
import typing

import apache_beam as beam
from apache_beam import coders
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import userstate, window
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.transforms.timeutil import TimeDomain

KEY_COUNT = 10


class Numbered(beam.DoFn):
  def __init__(self):
    self._number = 0

  def process(self, unused_element) -> typing.Iterable[typing.Tuple[str, int]]:
    for _ in range(2 * KEY_COUNT):
      self._number += 1
      yield 'key-%d' % (self._number % KEY_COUNT), self._number


class Remember(beam.DoFn):
  COUNT = userstate.CombiningValueStateSpec('count', coders.VarIntCoder(), beam.combiners.CountCombineFn())
  SEEN = userstate.BagStateSpec('seen', coders.StrUtf8Coder())
  LAST = userstate.ReadModifyWriteStateSpec('last', coders.VarIntCoder())
  FLUSH = userstate.TimerSpec('flush', TimeDomain.WATERMARK)

  def process(self,
              element,
              count=beam.DoFn.StateParam(COUNT),
              seen=beam.DoFn.StateParam(SEEN),
              last=beam.DoFn.StateParam(LAST),
              flush=beam.DoFn.TimerParam(FLUSH),
              in_window=beam.DoFn.WindowParam):
    count.add(1)
    seen.add('number %d' % element[1])
    last.write(element[1])
    flush.set(in_window.end)

  @userstate.on_timer(FLUSH)
  def flush(self):
    pass


def main(endpoint, directory, checkpoint):
  options = PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=LOOPBACK', '--streaming',
      '--parallelism=2', '--checkpointing_interval=300', '--state_backend_storage_path=' + directory,
      '--externalized_checkpoints_enabled', '--retain_externalized_checkpoints_on_cancellation'
  ])
  pipeline = beam.Pipeline(options=options)
  numbered = (
      pipeline
      | PeriodicImpulse(fire_interval=0.05)
      | beam.ParDo(Numbered()).with_output_types(typing.Tuple[str, int])
      | beam.WindowInto(window.FixedWindows(1_000_000)))
  _ = numbered | 'Remember' >> beam.ParDo(Remember())
  _ = numbered | beam.GroupByKey() | beam.Map(lambda group: group[0])
  result = pipeline.run()
  pattern = os.path.join(directory, '*', 'checkpoint-*.json')
  while not any(int(path.rsplit('-', 1)[1].split('.')[0]) >= int(checkpoint) for path in glob.glob(pattern)):
    time.sleep(0.1)
  result.cancel()
  try:
    result.wait_until_finish()
  except RuntimeError as error:
    assert 'CANCELLED' in str(error), error


if __name__ == '__main__':
  main(*sys.argv[1:])
