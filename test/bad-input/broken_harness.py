"""An SDK harness that breaks the Fn API: the command of a PROCESS environment.

Usage: broken_harness.py WHAT --id=… --control_endpoint=… …, where WHAT it sends when it is given its first bundle:
  control, data, state   garbage bytes as a message of that stream
  elements               outputs that are no elements of their coder
  sink                   outputs of a transform that is not there
  closed                 nothing: it closes its data stream and lives on
"""
import queue
import sys
import threading

import grpc
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.portability.api import beam_fn_api_pb2_grpc

GARBAGE = b'\xff\xfe\xfdno protobuf at all'
SINK_URN = 'beam:runner:sink:v1'


class Stream:
  """A stream of raw requests; what the runner sends is handed to `on_message`."""

  def __init__(self, channel, worker_id, method, on_message):
    self._requests = queue.SimpleQueue()
    call = channel.stream_stream(
        '/org.apache.beam.model.fn_execution.v1.' + method, request_serializer=lambda raw: raw,
        response_deserializer=lambda raw: raw)(
            iter(self._requests.get, None), metadata=[('worker_id', worker_id)])
    self._reader = threading.Thread(target=self._read, args=(call, on_message), daemon=True)
    self._reader.start()

  def _read(self, call, on_message):
    try:
      for message in call:
        on_message(message)
    except grpc.RpcError as error:
      print('stream ended: %s' % error.details(), flush=True)

  def send(self, raw):
    self._requests.put(raw)

  def close(self):
    self._requests.put(None)


def main(what, flags):
  channel = grpc.insecure_channel(flags['control_endpoint'])
  worker_id = flags['id']

  # An instruction may come before `control` is there to answer it.
  is_ready = threading.Event()

  def on_instruction(raw):
    is_ready.wait()
    request = beam_fn_api_pb2.InstructionRequest.FromString(raw)
    if request.WhichOneof('request') != 'process_bundle':
      control.send(beam_fn_api_pb2.InstructionResponse(instruction_id=request.instruction_id).SerializeToString())
    elif what == 'control':
      control.send(GARBAGE)
    elif what == 'data':
      data.send(GARBAGE)
    elif what == 'state':
      state.send(GARBAGE)
    elif what == 'closed':
      data.close()
    else:
      data.send(output(request).SerializeToString())
      control.send(beam_fn_api_pb2.InstructionResponse(
          instruction_id=request.instruction_id,
          process_bundle=beam_fn_api_pb2.ProcessBundleResponse()).SerializeToString())

  def output(request):
    descriptor = beam_fn_api_pb2_grpc.BeamFnControlStub(channel).GetProcessBundleDescriptor(
        beam_fn_api_pb2.GetProcessBundleDescriptorRequest(
            process_bundle_descriptor_id=request.process_bundle.process_bundle_descriptor_id))
    sinks = [id for id, transform in descriptor.transforms.items() if transform.spec.urn == SINK_URN]
    parts = []
    for sink in sinks:
      named = sink if what == 'elements' else 'no such sink'
      parts.append(beam_fn_api_pb2.Elements.Data(
          instruction_id=request.instruction_id, transform_id=named, data=GARBAGE))
      parts.append(beam_fn_api_pb2.Elements.Data(
          instruction_id=request.instruction_id, transform_id=sink, is_last=True))
    return beam_fn_api_pb2.Elements(data=parts)

  ignore = lambda raw: None
  state = Stream(channel, worker_id, 'BeamFnState/State', ignore)
  data = Stream(channel, worker_id, 'BeamFnData/Data', ignore)
  control = Stream(channel, worker_id, 'BeamFnControl/Control', on_instruction)
  is_ready.set()
  # It does not end by itself: the runner has to see to it.
  threading.Event().wait()


if __name__ == '__main__':
  main(sys.argv[1], dict(flag.lstrip('-').split('=', 1) for flag in sys.argv[2:] if '=' in flag))
