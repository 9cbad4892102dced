"""Beam's own worker pool for EXTERNAL environments, in a session of its own."""
import os
import signal
import subprocess

from ports import free_port
from weir_server import VENV_PYTHON, child_environment, starts_listening

READY_SECONDS = 60


def pool_options(port):
  """Of a job whose harnesses a pool at the port runs."""
  return ['--environment_type=EXTERNAL', '--environment_config=localhost:%d' % port]


class WorkerPool:
  """A pool that listens at `port`, with its harnesses' modules in `python_path`; a context manager."""

  def __init__(self, python_path, log_path, port=None, **environment):
    self.port = port or free_port()
    with open(log_path, 'w+b') as log:
      self.process = subprocess.Popen(
          [VENV_PYTHON, '-m', 'apache_beam.runners.worker.worker_pool_main', '--service_port=%d' % self.port],
          stdin=subprocess.DEVNULL, stdout=log, stderr=log,
          env=child_environment(PYTHONPATH=python_path, **environment), start_new_session=True)
      if not starts_listening(self.process, '127.0.0.1', self.port, READY_SECONDS):
        self.kill()
        log.seek(0)
        raise RuntimeError('the worker pool at port %d did not start:\n%s' % (self.port, log.read()[-4000:].decode(errors='replace')))

  @property
  def options(self):
    return pool_options(self.port)

  def kill(self):
    """With its harnesses."""
    os.killpg(self.process.pid, signal.SIGKILL)
    self.process.wait()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.kill()
