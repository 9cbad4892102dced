"""One run of checkpoint_pipelines.py on a fresh runner, and what can be seen of it from outside: how far the sink is, and
how each checkpoint went (Weir: its manifest; Flink: its log). A context manager; nothing is left after it."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from client_process import process_environment
from process_tree import tree
from weir_server import VENV_PYTHON, WeirServer, child_environment

HERE = os.path.dirname(os.path.abspath(__file__))
PIPELINE = os.path.join(HERE, 'checkpoint_pipelines.py')
HARNESS_MODULE = b'apache_beam.runners.worker.sdk_worker_main'
SUBMIT_SECONDS = 120
POLL_SECONDS = 0.01
FLINK_COMPLETED = re.compile(
    rb'Completed checkpoint (\d+) for job \w+ \((\d+) bytes, checkpointDuration=(\d+) ms, finalizationTime=(\d+) ms')


class Checkpoint:
  """How one went: `seconds` from its trigger until it is durable, `record` as in Weir's manifest (of Flink: its bytes).
  Weir's time is to the manifest's time of change, which a kernel may tell up to 4 ms early; to the last
  acknowledgment at least. Flink's is as its log has it."""

  def __init__(self, number, seconds, record):
    self.number = number
    self.seconds = seconds
    self.record = record


class Manifests(threading.Thread):
  """Reads manifests as they come: older ones are deleted soon."""

  def __init__(self, root):
    super().__init__(daemon=True)
    self._root = root
    self._closed = threading.Event()
    self.checkpoints = []
    self.newest_attempt = 0

  def run(self):
    seen = set()
    while not self._closed.wait(POLL_SECONDS):
      for path in sorted(glob.glob(os.path.join(self._root, '*', 'checkpoint-*.json'))):
        if path in seen:
          continue
        try:
          durable = os.stat(path).st_mtime
          with open(path, encoding='utf-8') as text:
            manifest = json.load(text)
        except (FileNotFoundError, ValueError):
          # Gone again, or not whole yet.
          continue
        seen.add(path)
        self.newest_attempt = max(self.newest_attempt, manifest['executionAttempt'])
        self.checkpoints.append(
            Checkpoint(manifest['checkpointId'],
                       max(durable, manifest['completedMs'] / 1000) - manifest['triggeredMs'] / 1000,
                       manifest.get('record', {})))
      self.checkpoints.sort(key=lambda each: each.number)

  def close(self):
    self._closed.set()
    self.join()


class Job:
  """`pipeline` are options of checkpoint_pipelines.py, `options` pipeline options, `arguments` those of `weir serve`."""

  def __init__(self, peer, pipeline, options, arguments=(), workers=1, store=None, limit_seconds=600):
    self.peer = peer
    self.directory = tempfile.mkdtemp(prefix='weir-bench-')
    self._deadline = time.monotonic() + limit_seconds
    self._manifests = None
    self.server = None
    try:
      if peer == 'weir':
        environment = store.environment if store else None
        self.server = WeirServer(workers=workers, arguments=arguments, environment=environment)
        root = os.path.join(self.server.directory, 'data', 'checkpoints')
        if store:
          options = [*options, '--state_backend_storage_path=' + store.root]
          root = os.path.join(store.files, 'checkpoints')
        self._manifests = Manifests(root)
        self._manifests.start()
      else:
        from flink_server import FlinkServer
        self.server = FlinkServer()
        options = [*options, '--state_backend_storage_path=file://' + os.path.join(self.directory, 'checkpoints')]
      self._submit(dict(pipeline, directory=self.directory), options)
    except BaseException:
      self.close()
      raise

  def _submit(self, pipeline, options):
    command = [
        VENV_PYTHON, PIPELINE, json.dumps(pipeline), '--runner=PortableRunner', '--job_endpoint=' + self.server.endpoint,
        *process_environment(self.directory, HERE), '--parallelism=1', *options
    ]
    submitted = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SUBMIT_SECONDS,
        env=child_environment(PYTHONPATH=HERE))
    if submitted.returncode:
      raise RuntimeError(submitted.stderr[-2000:])
    self.job_id = submitted.stdout.split()[-1]

  def give(self, name):
    """A file that the source waits for: `go`, `round-N`."""
    with open(os.path.join(self.directory, name), 'wb'):
      pass

  def wait_for(self, what, is_so):
    while not is_so():
      if time.monotonic() > self._deadline or self.server.process.poll() is not None:
        raise RuntimeError('%s was waited for in vain on %s:\n%s' % (what, self.peer, self.server.log_tail()))
      time.sleep(POLL_SECONDS)

  def progress(self):
    """(monotonic seconds, elements of the process, greatest number so far of the process, pid), in their order."""
    lines = []
    for path in glob.glob(os.path.join(self.directory, 'progress-*')):
      pid = int(path.rpartition('-')[2])
      with open(path, encoding='ascii') as text:
        for line in text:
          if line.endswith('\n'):
            at, count, greatest = line.split()
            lines.append((float(at), int(count), int(greatest), pid))
    return sorted(lines)

  def wait_for_number(self, number):
    self.wait_for('number %d' % number, lambda: max((line[2] for line in self.progress()), default=-1) >= number)

  def elements_per_second(self, began, ended):
    """Of what came between two times, of one process."""
    lines = [line for line in self.progress() if began <= line[0] <= ended]
    if len({line[0] for line in lines}) < 2:
      raise RuntimeError('no two bundles of the sink ended within %.1f s' % (ended - began))
    (first_at, first_count, _, _), (last_at, last_count, _, _) = lines[0], lines[-1]
    return (last_count - first_count) / (last_at - first_at)

  @property
  def checkpoints(self):
    """Those that are complete, in their order."""
    if self._manifests is not None:
      return list(self._manifests.checkpoints)
    with open(self.server.log_path, 'rb') as log:
      found = FLINK_COMPLETED.findall(log.read())
    return [Checkpoint(int(number), (int(duration) + int(final)) / 1000, {'writtenBytes': int(size)})
            for number, size, duration, final in found]

  @property
  def restarts(self):
    """Of the whole job; Weir's are known with the next checkpoint."""
    if self._manifests is not None:
      return self._manifests.newest_attempt
    with open(self.server.log_path, 'rb') as log:
      return log.read().count(b'switched from state RUNNING to RESTARTING')

  def wait_for_checkpoints(self, more):
    wanted = len(self.checkpoints) + more
    self.wait_for('%d checkpoints' % wanted, lambda: len(self.checkpoints) >= wanted)

  def durations_ms(self):
    return [each.seconds * 1000 for each in self.checkpoints]

  def harnesses(self):
    """Processes that have told progress and live."""
    living = tree(self.server.pid)
    return [pid for pid in {line[3] for line in self.progress()} if pid in living]

  def kill_harness(self):
    """kill -9 of the one that works. @returns when."""
    pid = self.progress()[-1][3]
    killed_at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return killed_at

  def kill_worker_of_harness(self):
    """kill -9 of the worker that the harness belongs to. @returns when."""
    [harness] = self.harnesses()
    ancestors = [parent for parent in tree(self.server.pid) if parent != self.server.pid and harness in tree(parent)]
    # The server's own children are workers; the harness may have others above it.
    [worker] = [pid for pid in ancestors if _parent(pid) == self.server.pid]
    killed_at = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    return killed_at

  def first_output_after(self, killed_at):
    """Seconds from a kill until the sink has told of numbers that it had not told of before."""
    known = max(line[2] for line in self.progress() if line[0] <= killed_at)

    def first():
      return next((line for line in self.progress() if line[0] > killed_at and line[2] > known), None)

    self.wait_for('new output', first)
    return first()[0] - killed_at

  def close(self):
    if self.server is not None:
      self.server.stop()
    if self._manifests is not None:
      self._manifests.close()
    shutil.rmtree(self.directory, ignore_errors=True)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()


def _parent(pid):
  with open('/proc/%d/stat' % pid, 'rb') as stat:
    return int(stat.read().rpartition(b') ')[2].split()[1])

