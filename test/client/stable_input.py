"""A bounded streaming job whose last stage requires stable input, with checkpoints every ten minutes only.

Usage: stable_input.py ENDPOINT. The Python SDK has no such DoFns; the proto has.
"""
import sys

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

REQUIREMENT = 'beam:requirement:pardo:stable_input:v1'


class StableParDo(beam.ParDo):
  def to_runner_api_parameter(self, context, **extra):
    urn, payload = super().to_runner_api_parameter(context, **extra)
    payload.requires_stable_input = True
    context.add_requirement(REQUIREMENT)
    return urn, payload


class Count(beam.DoFn):
  def process(self, element):
    Metrics.counter('test', 'stable').inc()
    yield element


def main(endpoint):
  options = PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=LOOPBACK', '--streaming',
      '--checkpointing_interval=600000'
  ])
  pipeline = beam.Pipeline(options=options)
  # One behind the other: each waits for a checkpoint of its own.
  _ = pipeline | beam.Create(range(100)) | StableParDo(Count()) | beam.Reshuffle() | 'Again' >> StableParDo(Count())
  result = pipeline.run()
  result.wait_until_finish()
  counted = result.metrics().query(MetricsFilter().with_name('stable'))['counters']
  print('stable: %d' % sum(counter.committed for counter in counted))


if __name__ == '__main__':
  main(sys.argv[1])
