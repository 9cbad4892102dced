"""A job that runs longer than the client's --job_server_timeout, which must bound single calls and not the job.

Usage: long_job.py ENDPOINT SECONDS
"""
import sys
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


def main(endpoint, seconds):
  options = PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=LOOPBACK', '--job_server_timeout=5'
  ])
  with beam.Pipeline(options=options) as p:
    _ = p | beam.Create([int(seconds)]) | beam.Map(time.sleep)
  print('done')


if __name__ == '__main__':
  main(*sys.argv[1:])
