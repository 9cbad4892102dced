"""A streaming job whose watermark is held: by a timer far in the future, a source that never ends, a grouping whose trigger
waits for more, main input whose side input is not ready.

Submits it to the endpoint given as the argument, prints its job id as JSON, and waits for a line on stdin to cancel it.
"""
import json
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import periodicsequence, trigger, window
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp


class SetTimer(beam.DoFn):
  LATER = TimerSpec('later', TimeDomain.REAL_TIME)

  def process(self, element, timer=beam.DoFn.TimerParam(LATER)):
    timer.set(Timestamp.now() + 3600)

  @on_timer(LATER)
  def fire(self):
    yield 'fired'


def main():
  options = PipelineOptions([
      '--runner=PortableRunner',
      '--job_endpoint=' + sys.argv[1],
      '--environment_type=LOOPBACK',
      '--streaming',
  ])
  pipeline = beam.Pipeline(options=options)
  _ = (pipeline | 'Keys' >> beam.Create([('a', 1), ('b', 2)]) | 'SetTimer' >> beam.ParDo(SetTimer()))
  _ = (
      pipeline
      | 'Ticks' >> periodicsequence.PeriodicImpulse(fire_interval=3600)
      | 'Look' >> beam.Map(lambda tick: tick))
  ticks = pipeline | 'Now' >> periodicsequence.PeriodicImpulse(fire_interval=3600)
  _ = (
      ticks
      | 'Key' >> beam.Map(lambda tick: ('a', tick))
      | 'Wait' >> beam.WindowInto(
          window.GlobalWindows(), trigger=trigger.Repeatedly(trigger.AfterCount(1000)),
          accumulation_mode=trigger.AccumulationMode.DISCARDING,
          timestamp_combiner=window.TimestampCombiner.OUTPUT_AT_EARLIEST)
      | 'Group' >> beam.GroupByKey()
      | 'LookAtGroup' >> beam.Map(lambda group: group))
  _ = (
      pipeline
      | 'Main' >> beam.Create([1, 2, 3])
      | 'Lookup' >> beam.Map(lambda value, side: (value, side), beam.pvalue.AsList(ticks)))
  result = pipeline.run()
  print(json.dumps({'job': result._job_id}), flush=True)
  sys.stdin.readline()
  result.cancel()


if __name__ == '__main__':
  main()
