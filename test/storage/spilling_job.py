"""Jobs that keep more than fits into a worker's memory: python spilling_job.py ENDPOINT KIND

  grouped   bounded: 40 MB go through a GroupByKey
  state     streaming: as much state, of many keys

Prints `right` when the result is.
"""
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

PARTS = 40
PER_PART = 1_000
VALUE = b'0123456789abcdef' * 64


class Remember(beam.DoFn):
  STATE = ReadModifyWriteStateSpec('value', beam.coders.BytesCoder())

  def process(self, element, state=beam.DoFn.StateParam(STATE)):
    state.write(element[1])
    yield element[0]


def values_of(part):
  for number in range(PER_PART):
    yield part * PER_PART + number, VALUE


def main(endpoint, kind):
  options = PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=LOOPBACK', '--parallelism=1',
      *(['--streaming'] if kind == 'state' else [])
  ])
  with beam.Pipeline(options=options) as pipeline:
    values = (
        pipeline | beam.Create(range(PARTS)) | beam.Reshuffle()
        | beam.FlatMap(values_of).with_output_types(tuple[int, bytes]))
    if kind == 'state':
      keys = values | beam.ParDo(Remember())
    else:
      keys = values | beam.GroupByKey() | beam.MapTuple(lambda key, group: key)
    assert_that(keys | beam.combiners.Count.Globally(), equal_to([PARTS * PER_PART]))
  print('right')


if __name__ == '__main__':
  main(*sys.argv[1:])
