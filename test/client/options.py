"""Every described option by the stock client: what has no effect is told in a job message, what has is not.

Usage: options.py ENDPOINT describe     prints name, type and default of each described option as JSON
       options.py ENDPOINT submit FLAG… runs a job with these flags and prints its messages as JSON
"""
import json
import sys

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.portability.api import beam_job_api_pb2_grpc


def describe(stub):
  answer = stub.DescribePipelineOptions(beam_job_api_pb2.DescribePipelineOptionsRequest(), timeout=60)
  types = beam_job_api_pb2.PipelineOptionType.Enum
  return ['%s %s %s' % (option.name, types.Name(option.type), option.default_value) for option in answer.options]


def submit(endpoint, stub, flags):
  pipeline = beam.Pipeline(options=PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=LOOPBACK', *flags]))
  _ = pipeline | beam.Create([1]) | beam.Map(lambda element: element)
  result = pipeline.run()
  result.wait_until_finish()
  stream = stub.GetMessageStream(beam_job_api_pb2.JobMessagesRequest(job_id=result._job_id), timeout=60)
  return [
      response.message_response.message_text for response in stream
      if response.WhichOneof('response') == 'message_response'
  ]


def main(endpoint, what, *flags):
  stub = beam_job_api_pb2_grpc.JobServiceStub(grpc.insecure_channel(endpoint))
  print(json.dumps(describe(stub) if what == 'describe' else submit(endpoint, stub, flags)))


if __name__ == '__main__':
  main(*sys.argv[1:])
