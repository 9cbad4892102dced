"""Runs a small streaming job with the pipeline options given, as a user does, and says how it went.

Usage: submit.py ENDPOINT OPTION...; prints one JSON object: the state, the error that the client raised (empty: none),
and the messages that it logged.
"""
import json
import logging
import sys

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to


class Kept(logging.Handler):
  def __init__(self):
    super().__init__()
    self.texts = []

  def emit(self, record):
    self.texts.append(record.getMessage())


def main(endpoint, arguments):
  kept = Kept()
  logging.getLogger().addHandler(kept)
  options = PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=LOOPBACK', '--streaming', *arguments
  ])
  error, state = '', ''
  try:
    pipeline = beam.Pipeline(options=options)
    sums = pipeline | beam.Create([('a', 1), ('a', 2)]) | beam.CombinePerKey(sum)
    assert_that(sums, equal_to([('a', 3)]))
    result = pipeline.run()
    state = result.wait_until_finish()
  except grpc.RpcError as refused:
    error = refused.details()
  except RuntimeError as failed:
    error = str(failed)
  print(json.dumps({'state': str(state), 'error': error, 'messages': kept.texts}))


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[2:])
