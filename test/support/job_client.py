"""The Job API as a client sees it that only submitted its job: states, messages, metrics, on one server or the next."""
import threading

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

TERMINAL = ('DONE', 'FAILED', 'CANCELLED', 'DRAINED')


def state_name(number):
  return beam_job_api_pb2.JobState.Enum.Name(number)


class JobWatcher:
  """What the job's message stream says, from its beginning; a context manager."""

  def __init__(self, endpoint, job_id):
    self.job_id = job_id
    # In order: ('RUNNING', None) or (message id, text).
    self.events = []
    self._channel = grpc.insecure_channel(endpoint)
    self._jobs = beam_job_api_pb2_grpc.JobServiceStub(self._channel)
    self._reader = threading.Thread(target=self._read, daemon=True)
    self._reader.start()

  def _read(self):
    request = beam_job_api_pb2.JobMessagesRequest(job_id=self.job_id)
    try:
      for response in self._jobs.GetMessageStream(request, wait_for_ready=True):
        if response.HasField('state_response'):
          self.events.append((state_name(response.state_response.state), None))
        else:
          self.events.append((int(response.message_response.message_id), response.message_response.message_text))
    except grpc.RpcError:
      # The server is gone.
      pass

  @property
  def states(self):
    return [state for state, text in list(self.events) if text is None]

  @property
  def texts(self):
    return [text for _, text in list(self.events) if text is not None]

  def state(self):
    request = beam_job_api_pb2.GetJobStateRequest(job_id=self.job_id)
    return state_name(self._jobs.GetState(request, wait_for_ready=True, timeout=30).state)

  def committed(self, name):
    """The sum of a user counter."""
    request = beam_job_api_pb2.GetJobMetricsRequest(job_id=self.job_id)
    infos = self._jobs.GetJobMetrics(request, wait_for_ready=True, timeout=30).metrics.committed
    return sum(varint(info.payload) for info in infos
               if info.urn == 'beam:metric:user:sum_int64:v1' and info.labels['NAME'] == name)

  def close(self):
    self._channel.close()
    self._reader.join(10)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()


def varint(payload):
  return sum((byte & 0x7f) << (7 * index) for index, byte in enumerate(payload))
