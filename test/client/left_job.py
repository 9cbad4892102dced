"""Submits a job with harnesses of its own, prints its id as JSON, and goes: the job waits for a file, then succeeds or fails.

Usage: left_job.py ENDPOINT FILE; the job fails when the file is not empty.
"""
import json
import os
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


def wait_for(path):
  import os
  import time
  while not os.path.exists(path):
    time.sleep(0.05)
  with open(path, encoding='utf-8') as file:
    content = file.read()
  if content:
    raise ValueError(content)
  return path


def main(endpoint, path):
  options = PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=PROCESS',
      '--environment_config=' + json.dumps({'command': 'weir boot python'})
  ])
  pipeline = beam.Pipeline(options=options)
  _ = pipeline | beam.Create([path]) | 'Wait' >> beam.Map(wait_for)
  result = pipeline.run()
  print(json.dumps({'job': result._job_id}), flush=True)
  # As if it were killed: nothing is told to anyone.
  os._exit(0)


if __name__ == '__main__':
  main(*sys.argv[1:])
