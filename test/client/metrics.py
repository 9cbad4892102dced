"""Metrics end to end, as the stock client and GetJobMetrics give them: those of user code and those that the SDK measures
by itself, where a bundle fails once after it has counted.

Usage: metrics.py ENDPOINT DIRECTORY [OPTION...], DIRECTORY for a note that the failure has happened
"""
import os
import sys
import time

import apache_beam as beam
import grpc
from apache_beam.coders import coder_impl
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.portability.api import beam_job_api_pb2_grpc

COUNT = 60
PREFIX = 'beam:metric:'


class Measured(beam.DoFn):
  def __init__(self, note):
    self._note = note

  def process(self, number):
    Metrics.counter('test', 'seen').inc()
    Metrics.distribution('test', 'numbers').update(number)
    Metrics.gauge('test', 'newest').set(7)
    Metrics.string_set('test', 'kinds').add('even' if number % 2 == 0 else 'odd')
    Metrics.bounded_trie('test', 'paths').add(('a', str(number % 3)))
    # Longer than the interval at which the SDK takes samples of its states.
    time.sleep(0.01)
    if number == COUNT - 1 and not os.path.exists(self._note):
      open(self._note, 'w', encoding='utf-8').close()
      # A failure tells no metrics: what was told before it, when the runner asked, is what it knows.
      time.sleep(3)
      raise ValueError('once')
    yield 'x' * 100


def varints(payload):
  stream = coder_impl.create_InputStream(payload)
  numbers = []
  while stream.size() > 0:
    numbers.append(stream.read_var_int64())
  return numbers


def of(infos, urn, **labels):
  """The payload's numbers of the one metric with the labels."""
  found = [
      info for info in infos
      if info.urn == PREFIX + urn and all(info.labels.get(name) == value for name, value in labels.items())
  ]
  assert len(found) == 1, '%d metrics %s %r' % (len(found), urn, labels)
  return varints(found[0].payload)


def main(endpoint, directory, *options):
  pipeline = beam.Pipeline(options=PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=LOOPBACK', *options]))
  _ = (pipeline | beam.Create(range(COUNT)) | 'Measured' >> beam.ParDo(Measured(os.path.join(directory, 'failed')))
       | 'Length' >> beam.Map(len))
  result = pipeline.run()
  result.wait_until_finish()

  queried = result.metrics().query(beam.metrics.MetricsFilter().with_namespace('test'))
  by_name = {metric.key.metric.name: metric for kind in queried.values() for metric in kind}
  seen, numbers = by_name['seen'], by_name['numbers']
  assert seen.committed == COUNT, seen
  assert seen.attempted > COUNT, 'the failed attempt is not counted: %r' % seen
  expected = (COUNT, sum(range(COUNT)), 0, COUNT - 1)
  assert (numbers.committed.count, numbers.committed.sum, numbers.committed.min, numbers.committed.max) == expected
  assert numbers.attempted.count == seen.attempted
  assert by_name['newest'].committed.value == 7, by_name['newest']
  assert by_name['kinds'].committed == {'even', 'odd'}, by_name['kinds']
  assert by_name['paths'].committed.size() == 3, by_name['paths']

  stub = beam_job_api_pb2_grpc.JobServiceStub(grpc.insecure_channel(endpoint))
  job_id = result.job_id() if callable(getattr(result, 'job_id', None)) else result._job_id
  proto = stub.GetPipeline(beam_job_api_pb2.GetJobPipelineRequest(job_id=job_id)).pipeline
  measured = next(
      (id, transform) for id, transform in proto.components.transforms.items()
      if transform.unique_name == 'Measured' and transform.spec.urn)
  output = next(iter(measured[1].outputs.values()))
  metrics = stub.GetJobMetrics(beam_job_api_pb2.GetJobMetricsRequest(job_id=job_id)).metrics
  assert of(metrics.committed, 'element_count:v1', PCOLLECTION=output) == [COUNT]
  sampled, total, least, most = of(metrics.committed, 'sampled_byte_size:v1', PCOLLECTION=output)
  # 100 characters, their length, timestamp, window and pane.
  assert 0 < sampled <= COUNT and total == sampled * least and least == most and 100 < least < 130
  (in_process, ), (in_all, ) = (
      of(metrics.committed, urn, PTRANSFORM=measured[0])
      for urn in ('pardo_execution_time:process_bundle_msecs:v1', 'ptransform_execution_time:total_msecs:v1'))
  assert 0 < in_process <= in_all, (in_process, in_all)
  (attempted, ) = of(metrics.attempted, 'ptransform_execution_time:total_msecs:v1', PTRANSFORM=measured[0])
  assert attempted >= in_all
  print('as it should be')


if __name__ == '__main__':
  main(*sys.argv[1:])
