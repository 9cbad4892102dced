"""Python transforms by the server's expansion service, in a pipeline whose own SDK is asked for nothing but their names.

Usage: expansion.py ENDPOINT EXPANSION expands|fails
"""
import json
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from apache_beam.testing.util import equal_to
from apache_beam.transforms.external import ImplicitSchemaPayloadBuilder
from apache_beam.typehints.row_type import RowTypeConstraint  # noqa: F401  (registers the coder of rows)

URN = 'beam:transforms:python:fully_qualified_named'


def named(expansion, constructor, **kwargs):
  payload = {'constructor': constructor}
  if kwargs:
    payload['kwargs'] = beam.Row(**kwargs)
  return beam.ExternalTransform(URN, ImplicitSchemaPayloadBuilder(payload), expansion)


def options(endpoint):
  return PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=PROCESS',
      '--environment_config=' + json.dumps({'command': 'weir boot python'})
  ])


def expands(endpoint, expansion):
  with beam.Pipeline(options=options(endpoint)) as pipeline:
    words = pipeline | beam.Create(['to', 'be', 'or', 'not', 'to', 'be'])
    counts = words | named(expansion, 'apache_beam.combiners.Count.PerElement')
    assert_that(counts, equal_to([('to', 2), ('be', 2), ('or', 1), ('not', 1)]))


def fails(endpoint, expansion):
  """@raise RuntimeError what the server has said"""
  with beam.Pipeline(options=options(endpoint)) as pipeline:
    _ = pipeline | beam.Create(['a']) | named(expansion, 'apache_beam.NoSuchTransform')


def main(endpoint, expansion, what):
  if what == 'expands':
    expands(endpoint, expansion)
  else:
    try:
      fails(endpoint, expansion)
    except Exception as error:  # pylint: disable=broad-except
      print(error)
      return
    raise AssertionError('it did not fail')
  print('as it should be')


if __name__ == '__main__':
  main(*sys.argv[1:])
