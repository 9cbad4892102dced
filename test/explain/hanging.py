"""A job that hangs in user code. Submits it, prints its job id as JSON, and waits for a line on stdin to cancel it.

Usage: hanging.py ENDPOINT PROCESS|LOOPBACK [more options]
"""
import json
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


def function_that_hangs(element):
  import time
  time.sleep(3600)
  return element


def main(endpoint, environment, *more):
  options = ['--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=' + environment, *more]
  if environment == 'PROCESS':
    options.append('--environment_config=' + json.dumps({'command': 'weir boot python'}))
  pipeline = beam.Pipeline(options=PipelineOptions(options))
  _ = pipeline | beam.Create([1]) | 'Hang' >> beam.Map(function_that_hangs)
  result = pipeline.run()
  print(json.dumps({'job': result._job_id}), flush=True)
  sys.stdin.readline()
  result.cancel()


if __name__ == '__main__':
  main(*sys.argv[1:])
