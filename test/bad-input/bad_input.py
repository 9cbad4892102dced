"""What a client may do wrong, against a running Weir: python bad_input.py CASE --endpoint HOST:PORT

Each case asserts on the error that the client sees, and ends with a good job: the server must still serve it.
Exit code 0 when all of it is as it should be.
"""
import argparse
import json
import os
import sys
import tempfile

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.portability.api import beam_job_api_pb2_grpc
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.testing.util import assert_that
from apache_beam.testing.util import equal_to
from google.protobuf import struct_pb2

CLEAR = (
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.ALREADY_EXISTS)


def stub_of(endpoint):
  return beam_job_api_pb2_grpc.JobServiceStub(grpc.insecure_channel(endpoint))


def options(endpoint, environment=('--environment_type=LOOPBACK', )):
  return PipelineOptions(['--runner=PortableRunner', '--job_endpoint=' + endpoint, *environment])


def refusal(call, *codes, mentions=()):
  """The details of the RPC error that `call` must end with."""
  try:
    answer = call()
  except grpc.RpcError as error:
    assert error.code() in codes, 'the code is %s: %s' % (error.code(), error.details())
    for text in mentions:
      assert text in error.details(), '%r is not in the message: %s' % (text, error.details())
    assert len(error.details()) > 10, 'the message says nothing: %r' % error.details()
    return error.details()
  raise AssertionError('it was accepted: %r' % answer)


def failure(pipeline_options, build):
  """The text of the RuntimeError that a pipeline must end with."""
  try:
    with beam.Pipeline(options=pipeline_options) as pipeline:
      build(pipeline)
  except (RuntimeError, grpc.RpcError) as error:
    return str(error)
  raise AssertionError('the job did not fail')


def contains(text, *parts):
  for part in parts:
    assert part in text, '%r is not in the message:\n%s' % (part, text)


def good_job(endpoint):
  with beam.Pipeline(options=options(endpoint)) as pipeline:
    assert_that(pipeline | beam.Create([1, 2, 3]) | beam.Map(lambda x: x * x), equal_to([1, 4, 9]))


def proto_of_good_pipeline(endpoint):
  pipeline = beam.Pipeline(options=options(endpoint))
  _ = pipeline | beam.Impulse() | 'Doubled' >> beam.Map(lambda x: x)
  return pipeline.to_runner_api()


def prepared(endpoint, proto, **pipeline_options):
  encoded = struct_pb2.Struct()
  encoded.update({'beam:option:%s:v1' % name: value for name, value in pipeline_options.items()})
  return stub_of(endpoint).Prepare(
      beam_job_api_pb2.PrepareJobRequest(job_name='bad', pipeline=proto, pipeline_options=encoded), timeout=60)


def garbage_pipeline(endpoint):
  prepare = grpc.insecure_channel(endpoint).unary_unary(
      '/org.apache.beam.model.job_management.v1.JobService/Prepare',
      request_serializer=lambda raw: raw, response_deserializer=beam_job_api_pb2.PrepareJobResponse.FromString)
  garbage = bytes(range(250, 200, -1))
  # Field 1 is the pipeline: first garbage as the field, then garbage as the whole request.
  for raw in (b'\x0a' + bytes([len(garbage)]) + garbage, b'\xff' * 100):
    refusal(lambda raw=raw: prepare(raw, timeout=60), grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)


def empty_pipeline(endpoint):
  refusal(lambda: prepared(endpoint, beam_runner_api_pb2.Pipeline()), *CLEAR)


def unknown_urn(endpoint):
  proto = proto_of_good_pipeline(endpoint)
  name, transform = next((name, transform) for name, transform in proto.components.transforms.items()
                         if transform.spec.urn == 'beam:transform:pardo:v1')
  transform.spec.urn = 'beam:transform:no_such_thing:v1'
  refusal(lambda: prepared(endpoint, proto), *CLEAR,
          mentions=['beam:transform:no_such_thing:v1', transform.unique_name])
  del name


def dangling_input(endpoint):
  proto = proto_of_good_pipeline(endpoint)
  transform = next(transform for transform in proto.components.transforms.values()
                   if transform.spec.urn == 'beam:transform:pardo:v1')
  for tag in transform.inputs:
    transform.inputs[tag] = 'no_such_pcollection'
  refusal(lambda: prepared(endpoint, proto), *CLEAR, mentions=['no_such_pcollection'])


def unknown_requirement(endpoint):
  proto = proto_of_good_pipeline(endpoint)
  proto.requirements.append('beam:requirement:no_such_thing:v1')
  refusal(lambda: prepared(endpoint, proto), *CLEAR, mentions=['beam:requirement:no_such_thing:v1'])


def unknown_job(endpoint):
  stub = stub_of(endpoint)
  state = beam_job_api_pb2.GetJobStateRequest(job_id='no-such-job')
  not_found = grpc.StatusCode.NOT_FOUND
  refusal(lambda: stub.GetState(state, timeout=30), not_found)
  refusal(lambda: next(stub.GetStateStream(state, timeout=30)), not_found)
  refusal(lambda: next(stub.GetMessageStream(
      beam_job_api_pb2.JobMessagesRequest(job_id='no-such-job'), timeout=30)), not_found)
  refusal(lambda: stub.Cancel(beam_job_api_pb2.CancelJobRequest(job_id='no-such-job'), timeout=30), not_found)
  refusal(lambda: stub.GetJobMetrics(
      beam_job_api_pb2.GetJobMetricsRequest(job_id='no-such-job'), timeout=30), not_found)
  refusal(lambda: stub.Run(beam_job_api_pb2.RunJobRequest(preparation_id='no-such-job'), timeout=30), not_found)


def run_twice(endpoint):
  stub = stub_of(endpoint)
  preparation_id = prepared(endpoint, proto_of_good_pipeline(endpoint)).preparation_id
  request = beam_job_api_pb2.RunJobRequest(preparation_id=preparation_id)
  refusal(lambda: next(stub.GetStateStream(
      beam_job_api_pb2.GetJobStateRequest(job_id=preparation_id), timeout=30)), grpc.StatusCode.NOT_FOUND)
  job_id = stub.Run(request, timeout=60).job_id
  assert job_id != preparation_id, 'the job has the id of its preparation'
  refusal(lambda: stub.Run(request, timeout=60), *CLEAR)
  stub.Cancel(beam_job_api_pb2.CancelJobRequest(job_id=job_id), timeout=30)


def option_of_wrong_type(endpoint):
  refusal(lambda: prepared(endpoint, proto_of_good_pipeline(endpoint), parallelism='several'),
          grpc.StatusCode.INVALID_ARGUMENT, mentions=['parallelism'])


def _process(command):
  return ('--environment_type=PROCESS', '--environment_config=' + json.dumps({'command': command}))


def missing_harness_command(endpoint):
  command = '/no/such/boot'
  contains(failure(options(endpoint, _process(command)), lambda p: p | beam.Create([1]) | beam.Map(print)), command)


def harness_dies_at_start(endpoint):
  # `ls` refuses the arguments of a boot command, on its stderr.
  text = failure(options(endpoint, _process('/bin/ls')), lambda p: p | beam.Create([1]) | beam.Map(print))
  contains(text, 'unrecognized option')


def broken_harness(endpoint):
  """A harness that sends what nobody can read is the job's misfortune and not the server's: broken_harness.py."""
  script = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'broken_harness.py')
  for what, said in (('control', 'no message of the Fn API on its control stream'),
                     ('data', 'no message of the Fn API on its data stream'),
                     ('state', 'no message of the Fn API on its state stream'), ('elements', 'does not fit the coder'),
                     ('sink', 'no such sink'), ('closed', 'it closed its data stream')):
    with tempfile.TemporaryDirectory() as directory:
      boot = os.path.join(directory, 'boot')
      with open(boot, 'w', encoding='utf-8') as file:
        file.write('#!/bin/sh\nexec %s %s %s "$@"\n' % (sys.executable, script, what))
      os.chmod(boot, 0o755)
      text = failure(options(endpoint, _process(boot)),
                     lambda p: p | beam.Create([('a', 1)]) | beam.GroupByKey() | beam.Map(print))
      print('%s: %s' % (what, text))
      contains(text, said, 'Create/')


class Failing(beam.DoFn):
  def __init__(self, where):
    self._where = where

  def _fail_at(self, where):
    if where == self._where:
      raise ValueError('on purpose in ' + where)

  def setup(self):
    self._fail_at('setup')

  def start_bundle(self):
    self._fail_at('start_bundle')

  def process(self, element):
    self._fail_at('process')
    yield element

  def finish_bundle(self):
    self._fail_at('finish_bundle')


def user_exception(endpoint):
  for where in ('process', 'setup', 'start_bundle', 'finish_bundle'):
    text = failure(
        options(endpoint),
        lambda p, where=where: p | beam.Create([1, 2, 3]) | 'TheCulprit' >> beam.ParDo(Failing(where)))
    contains(text, 'on purpose in ' + where, 'Traceback', 'bad_input.py')
    if where == 'process':
      contains(text, 'TheCulprit')


CASES = {
    case.__name__: case
    for case in (
        garbage_pipeline, empty_pipeline, unknown_urn, dangling_input, unknown_requirement, unknown_job, run_twice,
        option_of_wrong_type, missing_harness_command, harness_dies_at_start, broken_harness,
        user_exception)
}


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('case', choices=CASES)
  parser.add_argument('--endpoint', required=True)
  arguments = parser.parse_args()
  CASES[arguments.case](arguments.endpoint)
  good_job(arguments.endpoint)
  print('as it should be, and the next job ran')


if __name__ == '__main__':
  sys.exit(main())
