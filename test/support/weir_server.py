"""Starts and ends a runner for tests, benchmarks and the demo.

`WeirServer` is `weir serve` on free ports with its own data directory; it is ready when its JSON line has come.
`PrismServer` is the peer of the benchmark. Both end with everything that they started: SIGTERM first, and after a
grace period SIGKILL to the process group, in which case `ended_cleanly` says so.
"""
import ctypes
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from ports import free_port

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV_PYTHON = os.path.join(REPOSITORY, '.venv', 'bin', 'python')
NPM_BIN = os.path.join(REPOSITORY, 'node_modules', '.bin')
TERM_GRACE_SECONDS = 15


def child_environment(**extra):
  """The environment of every child: this repository's node and virtual environment come first on PATH."""
  environment = dict(os.environ)
  environment['PATH'] = os.pathsep.join([NPM_BIN, os.path.dirname(VENV_PYTHON), environment.get('PATH', '')])
  environment.update(extra)
  return environment


def weir_command():
  """How `weir` is started without the cost of npx. `WEIR_COMMAND` overrides it."""
  override = os.environ.get('WEIR_COMMAND')
  if override:
    return override.split()
  node = os.path.join(NPM_BIN, 'node')
  return [node if os.path.exists(node) else 'node', os.path.join(REPOSITORY, 'bin', 'weir.js')]


def die_with_parent():
  """For `preexec_fn`: the process is killed when the one that started it is gone."""
  ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def starts_listening(process, host, port, seconds):
  """Waits until the process takes connections; false when it has ended before, or the time is over."""
  deadline = time.monotonic() + seconds
  while True:
    try:
      socket.create_connection((host, port), 1).close()
      return True
    except OSError:
      if process.poll() is not None or time.monotonic() > deadline:
        return False
      time.sleep(0.05)


class RunnerProcess:
  """A started runner: `endpoint`, `pid`, and `stop()`; a context manager."""

  def __init__(self, name, log_path=None, directory=None):
    self.name = name
    self.endpoint = None
    self.ended_cleanly = None
    self.process = None
    self.directory = directory or tempfile.mkdtemp(prefix='%s-' % name)
    self.log_path = log_path or os.path.join(self.directory, 'server.log')

  @property
  def pid(self):
    return self.process.pid

  def _spawn(self, command, **popen):
    self.log = open(self.log_path, 'ab')
    self.process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=self.log, start_new_session=True, **popen)

  def log_tail(self, line_count=40):
    with open(self.log_path, 'rb') as log:
      return b'\n'.join(log.read().splitlines()[-line_count:]).decode(errors='replace')

  def kill(self, with_children=False):
    """As a crash: SIGKILL, of the process alone or of those that it has started too. What it wrote stays."""
    if with_children:
      os.killpg(self.process.pid, signal.SIGKILL)
    else:
      self.process.kill()
    self.process.wait()
    self.log.close()
    self.ended_cleanly = False

  def stop(self, keep_directory=False):
    if self.process and self.ended_cleanly is None:
      self.process.terminate()
      try:
        self.process.wait(TERM_GRACE_SECONDS)
        self.ended_cleanly = True
      except subprocess.TimeoutExpired:
        self.ended_cleanly = False
      try:
        os.killpg(self.process.pid, signal.SIGKILL)
      except ProcessLookupError:
        pass
      self.process.wait()
      self.log.close()
    if not keep_directory:
      shutil.rmtree(self.directory, ignore_errors=True)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.stop()


class WeirServer(RunnerProcess):
  """`weir serve` on free ports. `ready` is its JSON line. In the `directory` of one that was killed it goes on."""

  def __init__(self, workers=1, log_path=None, arguments=(), command=None, ready_seconds=60, environment=None,
               directory=None, job_port=None):
    super().__init__('weir', log_path, directory)
    # Not any port: another server may have to come back at the same.
    port = job_port or free_port()
    self._spawn(
        (command or weir_command()) + [
            'serve', '--job-port', str(port), '--artifact-port', '0', '--expansion-port', '-1', '--workers', str(workers),
            '--data-dir', os.path.join(self.directory, 'data'),
            '--artifacts-dir', os.path.join(self.directory, 'artifacts'), *arguments
        ],
        stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=child_environment(**(environment or {})))
    lines = queue.Queue()

    def read_stdout():
      for line in self.process.stdout:
        lines.put(line)
      lines.put(None)

    threading.Thread(target=read_stdout, daemon=True).start()
    try:
      line = lines.get(timeout=ready_seconds)
    except queue.Empty:
      line = None
    if line is None:
      tail = self.log_tail()
      self.stop()
      raise RuntimeError('weir serve was not ready in %d s. Its last lines:\n%s' % (ready_seconds, tail))
    self.ready = json.loads(line)
    self.endpoint = self.ready['job']


class PrismServer(RunnerProcess):
  """Beam's Prism at a free port."""

  def __init__(self, binary, log_path=None, ready_seconds=30):
    super().__init__('prism', log_path)
    port = free_port()
    self._spawn(
        [binary, '-job_port', str(port), '-serve_http=false', '-log_level', 'error'],
        stdout=subprocess.DEVNULL, cwd=self.directory, env=child_environment())
    if not starts_listening(self.process, '127.0.0.1', port, ready_seconds):
      tail = self.log_tail()
      self.stop()
      raise RuntimeError('Prism was not ready:\n' + tail)
    self.endpoint = 'localhost:%d' % port
