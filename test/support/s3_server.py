"""A real S3-compatible store for tests: versitygw on a free port, with a directory of its own that goes when it is closed.

Needs Go, or the program in .cache/tools (install-storage-server-main.ts). It dies with the process that started it.
"""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from weir_server import NPM_BIN, REPOSITORY, die_with_parent, free_port

BUCKET = 'bucket'
ACCESS_KEY = 'user'
SECRET_KEY = 'password'
INSTALL_SECONDS = 900
READY_SECONDS = 30


class S3Server:
  """`root` is where checkpoints can go, `environment` what Weir needs to find it, and `files` the bucket's directory:
  one file for each object. A context manager."""

  def __init__(self):
    installed = subprocess.run(
        [os.path.join(NPM_BIN, 'node'), os.path.join(REPOSITORY, 'test', 'support', 'install-storage-server-main.ts'),
         'versitygw'], stdout=subprocess.PIPE, text=True, check=True, timeout=INSTALL_SECONDS)
    self._program = os.path.join(installed.stdout.strip().split('\n')[-1], 'versitygw')
    self.directory = tempfile.mkdtemp(prefix='weir-s3-')
    self.files = os.path.join(self.directory, 'data', BUCKET)
    self._meta = os.path.join(self.directory, 'meta')
    os.makedirs(self.files)
    os.makedirs(self._meta)
    self.port = free_port()
    self.root = 's3://%s/checkpoints' % BUCKET
    self.environment = {
        'AWS_ENDPOINT_URL': 'http://127.0.0.1:%d' % self.port,
        'AWS_ACCESS_KEY_ID': ACCESS_KEY,
        'AWS_SECRET_ACCESS_KEY': SECRET_KEY,
    }
    self.process = None
    try:
      self.start()
    except BaseException:
      self.close()
      raise

  def start(self):
    """Also again, at the same port and with what it had."""
    self.process = subprocess.Popen(
        [self._program, '--port', '127.0.0.1:%d' % self.port, 'posix', '--sidecar', self._meta,
         os.path.dirname(self.files)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent,
        env=dict(os.environ, ROOT_ACCESS_KEY=ACCESS_KEY, ROOT_SECRET_KEY=SECRET_KEY))
    deadline = time.monotonic() + READY_SECONDS
    while True:
      try:
        socket.create_connection(('127.0.0.1', self.port), 1).close()
        return
      except OSError:
        if self.process.poll() is not None or time.monotonic() > deadline:
          raise RuntimeError('versitygw does not listen on port %d' % self.port)
        time.sleep(0.05)

  def kill(self):
    """As by `kill -9`."""
    self.process.kill()
    self.process.wait()

  def hang(self):
    """It takes connections, and answers nothing."""
    self.process.send_signal(signal.SIGSTOP)

  def go_on(self):
    self.process.send_signal(signal.SIGCONT)

  def close(self):
    if self.process is not None:
      self.kill()
    shutil.rmtree(self.directory, ignore_errors=True)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()
