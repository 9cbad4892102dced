"""What may break while a job runs, each with real processes: python failure_cases.py CASE

Each case has a server of its own with a private TMPDIR, breaks something, and asserts on what the client is told, on
the processes that must be gone, on the folders that must not be left, and that the server runs the next job.
"""
import argparse
import collections
import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
sys.path.insert(0, HERE)
import apache_beam as beam  # noqa: E402
import grpc  # noqa: E402
from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402
from apache_beam.portability.api import beam_job_api_pb2  # noqa: E402
from apache_beam.portability.api import beam_job_api_pb2_grpc  # noqa: E402
from apache_beam.testing.util import assert_that, equal_to  # noqa: E402
from breaking_dofns import CrashesHarness, KillsWorker, Raises, Stuck  # noqa: E402
from ports import free_port  # noqa: E402
from weir_server import VENV_PYTHON, WeirServer, child_environment  # noqa: E402
from worker_pool import WorkerPool, pool_options  # noqa: E402

JobState = beam_job_api_pb2.JobState


# --- what the cases stand on ---------------------------------------------------------------------------------------


def eventually(condition, seconds, what):
  deadline = time.monotonic() + seconds
  while True:
    value = condition()
    if value:
      return value
    assert time.monotonic() < deadline, '%s: not within %d s' % (what, seconds)
    time.sleep(0.05)


def alive(pid):
  try:
    with open('/proc/%d/stat' % pid, 'rb') as stat:
      return stat.read().rpartition(b') ')[2].split()[0] not in (b'Z', b'X')
  except (FileNotFoundError, ProcessLookupError):
    return False


def parent_of(pid):
  with open('/proc/%d/stat' % pid, 'rb') as stat:
    return int(stat.read().rpartition(b') ')[2].split()[1])


def processes_of(directory):
  """Every live process that was started with this TMPDIR: the server's own, its workers' and its harnesses'."""
  found = []
  for name in os.listdir('/proc'):
    if not name.isdigit() or int(name) == os.getpid():
      continue
    try:
      with open('/proc/%s/environ' % name, 'rb') as environ:
        if ('TMPDIR=' + directory).encode() in environ.read().split(b'\0') and alive(int(name)):
          found.append(int(name))
    except OSError:
      pass
  return found


def command_of(pid):
  try:
    with open('/proc/%d/cmdline' % pid, 'rb') as command:
      return [word.decode(errors='replace') for word in command.read().split(b'\0')]
  except OSError:
    return []


def workers_of(directory):
  return [pid for pid in processes_of(directory) if 'worker' in command_of(pid) and '--coordinator' in command_of(pid)]


def folders_of(directory):
  return [name for name in os.listdir(directory) if name.startswith('weir-')]


@contextlib.contextmanager
def playground(**server):
  """A server, its TMPDIR, and a folder for what user code leaves behind."""
  directory = os.path.realpath(tempfile.mkdtemp(prefix='failure-'))
  temporary = os.path.join(directory, 'tmp')
  marks = os.path.join(directory, 'marks')
  os.makedirs(temporary)
  os.makedirs(marks)
  try:
    with WeirServer(environment={'TMPDIR': temporary}, **server) as weir:
      weir.temporary = temporary
      weir.marks = marks
      try:
        yield weir
      except BaseException:
        print('the server said:\n' + weir.log_tail(60), file=sys.stderr)
        raise
    eventually(lambda: not processes_of(temporary), 15, 'all processes gone after the server: %r' % [
        command_of(pid) for pid in processes_of(temporary)])
    assert folders_of(temporary) == [], 'folders are left: %r' % folders_of(temporary)
  finally:
    for pid in processes_of(temporary):
      os.kill(pid, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)


def process_environment():
  config = {'command': 'weir boot python', 'env': {'PYTHONPATH': HERE, 'PATH': child_environment()['PATH']}}
  return ['--environment_type=PROCESS', '--environment_config=' + json.dumps(config)]


def options(weir, environment=None, *more):
  return PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + weir.endpoint, *(environment or process_environment()), *more])


LOOPBACK = ['--environment_type=LOOPBACK']


def good_job(weir, environment=None):
  with beam.Pipeline(options=options(weir, environment or LOOPBACK)) as pipeline:
    keyed = pipeline | beam.Create([1, 2, 3, 4]) | beam.Map(lambda x: (x % 2, x))
    assert_that(keyed | beam.CombinePerKey(sum), equal_to([(0, 6), (1, 4)]))


def submit(weir, dofn, environment=None, *more):
  pipeline = beam.Pipeline(options=options(weir, environment, *more))
  _ = pipeline | beam.Create([1, 2, 3]) | 'Culprit' >> beam.ParDo(dofn)
  return pipeline.run()


def failure_of(weir, dofn, seconds, environment=None, *more):
  """The text of the RuntimeError with which the job ends."""
  started = time.monotonic()
  try:
    submit(weir, dofn, environment, *more).wait_until_finish()
  except RuntimeError as error:
    took = time.monotonic() - started
    assert took < seconds, 'it failed only after %.1f s: %s' % (took, error)
    return str(error)
  raise AssertionError('the job did not fail')


def contains(text, *parts):
  for part in parts:
    assert part in text, '%r is not in:\n%s' % (part, text)


def stub_of(weir):
  return beam_job_api_pb2_grpc.JobServiceStub(grpc.insecure_channel(weir.endpoint))


def newest_job(weir):
  jobs = stub_of(weir).GetJobs(beam_job_api_pb2.GetJobsRequest(), timeout=10).job_info
  return jobs[-1].job_id if jobs else None


def state_of(weir, job):
  return stub_of(weir).GetState(beam_job_api_pb2.GetJobStateRequest(job_id=job), timeout=10).state


def messages_of(weir, job):
  stream = stub_of(weir).GetMessageStream(beam_job_api_pb2.JobMessagesRequest(job_id=job), timeout=20)
  return [answer.message_response.message_text for answer in stream if answer.HasField('message_response')]


def stuck_harness(weir):
  """The pid of a process in which user code sleeps, when it has come so far."""
  marks = eventually(lambda: glob.glob(os.path.join(weir.marks, 'stuck-*')), 40, 'user code runs')
  return int(marks[0].rpartition('-')[2])


# --- the cases -----------------------------------------------------------------------------------------------------


def slow_word_count(weir, name, break_it, environment=None, *more):
  """Runs the slow word count, with `break_it(worker)` when a third is done. Returns the output's lines, sorted."""
  import slow_word_count as job
  directory = os.path.join(weir.marks, name)
  os.makedirs(directory)
  client = subprocess.Popen(
      [VENV_PYTHON, os.path.join(HERE, 'slow_word_count.py'), directory, '--runner=PortableRunner',
       '--job_endpoint=' + weir.endpoint, *(environment or process_environment()), *more],
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=child_environment(PYTHONPATH=HERE))
  progress = os.path.join(directory, 'progress')
  try:
    eventually(lambda: client.poll() is not None or
               os.path.exists(progress) and os.path.getsize(progress) > job.LINE_COUNT // 3, 60, 'a third is done')
    harness = int(next(iter(glob.glob(os.path.join(directory, 'harness-*')))).rpartition('-')[2])
    break_it(harness)
    output, _ = client.communicate(timeout=60)
    assert client.returncode == 0, output[-4000:]
  finally:
    if client.poll() is None:
      client.kill()
      client.wait()
  found = []
  for shard in glob.glob(os.path.join(directory, 'counts-*')):
    with open(shard, encoding='utf-8') as text:
      found += text.read().splitlines()
  return sorted(found)


def right_counts():
  import slow_word_count as job
  counts = collections.Counter(word for line in job.lines() for word in line.split())
  return sorted('%s: %d' % item for item in counts.items())


def hung_worker():
  """A worker that is stopped is found by its missing heartbeats, killed and replaced."""
  stopped = []

  def stop(harness):
    stopped.extend([parent_of(harness), harness])
    os.kill(stopped[0], signal.SIGSTOP)

  with playground(workers=2) as weir:
    found = slow_word_count(weir, 'hung', stop)
    assert found == right_counts(), found
    eventually(lambda: not alive(stopped[0]), 10, 'the hung worker is killed')
    eventually(lambda: not alive(stopped[1]), 10, 'its harness is gone')
    eventually(lambda: len(workers_of(weir.temporary)) == 2, 20, 'it is replaced')


def killed_worker_with_stuck_harness():
  """A harness that is busy in user code does not outlive its worker, and the job goes on elsewhere."""
  with playground(workers=1) as weir:
    result = submit(weir, Stuck(weir.marks, once=True))
    harness = stuck_harness(weir)
    os.kill(parent_of(harness), signal.SIGKILL)
    eventually(lambda: not alive(harness), 10, 'the stuck harness is reaped')
    assert str(result.wait_until_finish()) == 'DONE'
    eventually(lambda: len(folders_of(weir.temporary)) == 1, 10, 'the dead worker\'s folder is gone')


def killed_worker_external():
  """A worker that is killed costs a job no result, where the harness is somebody else's: a pool's, the client's."""
  with playground(workers=2) as weir, WorkerPool(HERE, os.path.join(weir.temporary, 'pool.log')) as pool:
    for name, environment in (('pool', pool.options), ('client', LOOPBACK)):
      found = slow_word_count(
          weir, name, lambda harness: os.kill(workers_of(weir.temporary)[0], signal.SIGKILL), environment,
          '--parallelism=2')
      assert found == right_counts(), '%s: %r' % (name, found)
      eventually(lambda: len(workers_of(weir.temporary)) == 2, 20, 'it is replaced')


def dead_loopback_client():
  with playground(workers=1) as weir:
    client = subprocess.Popen([VENV_PYTHON, os.path.abspath(__file__), 'stuck_client', weir.endpoint, weir.marks],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stuck_harness(weir)
    job = newest_job(weir)
    client.kill()
    client.wait()
    eventually(lambda: state_of(weir, job) == JobState.FAILED, 15, 'the job fails')
    contains('\n'.join(messages_of(weir, job)), 'LOOPBACK', 'client')
    good_job(weir)


def late_external_pool():
  """A pool that is not there yet is waited for."""
  port = free_port()
  with playground(workers=1) as weir:
    result = submit(weir, Raises('nowhere'), pool_options(port))
    time.sleep(2)
    assert result.state == 'RUNNING', result.state
    with WorkerPool(HERE, os.path.join(weir.temporary, 'pool.log'), port):
      assert str(result.wait_until_finish()) == 'DONE'


def user_exceptions():
  """In every method of a DoFn, in a process of its own: the client gets the traceback, and soon."""
  with playground(workers=1) as weir:
    for where in ('setup', 'start_bundle', 'process', 'finish_bundle'):
      text = failure_of(weir, Raises(where), 20)
      contains(text, 'on purpose in ' + where, 'Traceback', 'breaking_dofns.py')


def teardown_exception():
  """What teardown raises is told nowhere by the SDK's protocol; it must neither hang nor fail a job."""
  with playground(workers=1) as weir:
    for environment in (process_environment(), LOOPBACK):
      submit(weir, Raises('teardown'), environment).wait_until_finish()
    good_job(weir)


def cancel():
  with playground(workers=1) as weir:
    for environment in (process_environment(), LOOPBACK):
      for mark in os.listdir(weir.marks):
        os.unlink(os.path.join(weir.marks, mark))
      result = submit(weir, Stuck(weir.marks), environment)
      harness = stuck_harness(weir)
      started = time.monotonic()
      result.cancel()
      eventually(lambda: result.state == 'CANCELLED', 15, 'the job is cancelled')
      print('cancelled after %.1f s' % (time.monotonic() - started))
      if environment is not LOOPBACK:
        eventually(lambda: not alive(harness), 10, 'the harness is gone')
        left = glob.glob(os.path.join(weir.temporary, 'weir-worker-*', '*', '*'))
        assert left == [], 'of the cancelled job is left: %r' % left
      # In LOOPBACK the user code is a thread of this process: it must get out before the next job.
      with open(os.path.join(weir.marks, 'release'), 'w', encoding='utf-8'):
        pass
      time.sleep(0.5)
      good_job(weir)


def terminated_server():
  with playground(workers=2) as weir:
    submit(weir, Stuck(weir.marks))
    harness = stuck_harness(weir)
    weir.process.terminate()
    started = time.monotonic()
    weir.process.wait(30)
    print('the server ended after %.1f s' % (time.monotonic() - started))
    assert not alive(harness), 'the harness lives on'
    assert workers_of(weir.temporary) == [], 'workers live on'
    eventually(lambda: not processes_of(weir.temporary), 5, 'nothing lives on')
    assert folders_of(weir.temporary) == [], folders_of(weir.temporary)


def killed_server():
  with playground(workers=2) as weir:
    submit(weir, Stuck(weir.marks))
    harness = stuck_harness(weir)
    weir.process.kill()
    weir.process.wait()
    eventually(lambda: not processes_of(weir.temporary), 25, 'workers and harnesses end by themselves')
    assert not alive(harness)
    assert folders_of(weir.temporary) == [], folders_of(weir.temporary)


def power_cut():
  """Everything is killed at once; the next server's workers clean up what lies there."""
  with playground(workers=1) as weir:
    submit(weir, Stuck(weir.marks))
    stuck_harness(weir)
    for pid in processes_of(weir.temporary):
      os.kill(pid, signal.SIGSTOP)
    for pid in processes_of(weir.temporary):
      os.kill(pid, signal.SIGKILL)
    eventually(lambda: not processes_of(weir.temporary), 10, 'all is dead')
    left = folders_of(weir.temporary)
    assert left, 'the test is void: nothing was left'
    with WeirServer(environment={'TMPDIR': weir.temporary}) as second:
      good_job(second)
      assert not set(left) & set(folders_of(weir.temporary)), folders_of(weir.temporary)


def bundle_attempts():
  with playground(workers=1, arguments=['--max-bundle-attempts', '2']) as weir:
    log = os.path.join(weir.marks, 'raised')
    text = failure_of(weir, Raises('process', log), 20)
    contains(text, 'failed 2 times', 'on purpose in process number 1', 'Traceback', 'Culprit')
    with open(log, encoding='utf-8') as raised:
      assert len(raised.read()) == 2
    good_job(weir)


def poisoned_harness():
  """User code that kills its harness every time fails the job, and says what the harness said."""
  with playground(workers=1, arguments=['--max-bundle-attempts', '2']) as weir:
    text = failure_of(weir, CrashesHarness(), 40)
    contains(text, 'failed 2 times', 'exited with code 77', 'last words')
    good_job(weir)


def poisoned_worker():
  """User code that kills the worker every time must not run forever."""
  with playground(workers=1) as weir:
    text = failure_of(weir, KillsWorker(), 60)
    contains(text, 'worker')
    good_job(weir)


def disk_full():
  """The spill folder is on a file system of 8 MB, the job shuffles more than memory holds."""
  with playground(workers=1, arguments=['--worker-memory-mb', '64']) as weir:
    small = eventually(lambda: glob.glob(os.path.join(weir.temporary, 'weir-worker-*')), 10, 'the worker is there')[0]
    spill = os.path.join(small, 'spill-0')
    os.makedirs(spill, exist_ok=True)
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', spill], capture_output=True).returncode:
      print('SKIPPED: tmpfs cannot be mounted here')
      return
    try:
      started = time.monotonic()
      try:
        with beam.Pipeline(options=options(weir, LOOPBACK)) as pipeline:
          _ = (pipeline | beam.Create(range(200)) | beam.FlatMap(lambda n: ((n * 1000 + i, b'x' * 500) for i in range(1000)))
               | beam.GroupByKey() | beam.Map(lambda group: None))
        raise AssertionError('the job did not fail')
      except RuntimeError as error:
        text = str(error)
      print('failed after %.1f s' % (time.monotonic() - started))
      contains(text, 'disk', spill)
      good_job(weir)
    finally:
      subprocess.run(['umount', '-l', spill], check=False)


def stuck_client(endpoint, marks):
  """Not a case: the client that `dead_loopback_client` kills."""

  class Endpoint:
    pass

  weir = Endpoint()
  weir.endpoint = endpoint
  submit(weir, Stuck(marks), LOOPBACK).wait_until_finish()


CASES = {
    case.__name__: case
    for case in (
        hung_worker, killed_worker_with_stuck_harness, killed_worker_external, dead_loopback_client, late_external_pool, user_exceptions,
        teardown_exception, cancel, terminated_server, killed_server, power_cut, bundle_attempts, poisoned_harness,
        poisoned_worker, disk_full)
}


def main():
  if sys.argv[1:2] == ['stuck_client']:
    stuck_client(*sys.argv[2:])
    return
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('case', choices=CASES)
  CASES[parser.parse_args().case]()
  print('as it should be')


if __name__ == '__main__':
  main()
