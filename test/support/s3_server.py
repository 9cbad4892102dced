"""A real S3-compatible store for tests: versitygw on a free port of `host`, with a directory of its own that goes when it is closed.

Needs Go, or the program in .cache/tools (install-storage-server-main.ts). It dies with the process that started it.
"""
import os
import shutil
import signal
import subprocess
import tempfile

from ports import free_port
from weir_server import NPM_BIN, REPOSITORY, die_with_parent, starts_listening

BUCKET = 'bucket'
ACCESS_KEY = 'user'
SECRET_KEY = 'password'
INSTALL_SECONDS = 900
READY_SECONDS = 30


class S3Server:
  """`root` is where checkpoints can go, `environment` what Weir needs to find it, and `files` the bucket's directory:
  one file for each object. A context manager."""

  def __init__(self, host='127.0.0.1'):
    self._host = host
    installed = subprocess.run(
        [os.path.join(NPM_BIN, 'node'), os.path.join(REPOSITORY, 'test', 'support', 'install-storage-server-main.ts'),
         'versitygw'], stdout=subprocess.PIPE, text=True, check=True, timeout=INSTALL_SECONDS)
    self._program = os.path.join(installed.stdout.strip().split('\n')[-1], 'versitygw')
    self.directory = tempfile.mkdtemp(prefix='weir-s3-')
    self.files = os.path.join(self.directory, 'data', BUCKET)
    self._meta = os.path.join(self.directory, 'meta')
    os.makedirs(self.files)
    os.makedirs(self._meta)
    self._log_path = os.path.join(self.directory, 'server.log')
    self.port = free_port()
    self.root = 's3://%s/checkpoints' % BUCKET
    self.environment = {
        'AWS_ENDPOINT_URL': 'http://%s:%d' % (host, self.port),
        'AWS_ACCESS_KEY_ID': ACCESS_KEY,
        'AWS_SECRET_ACCESS_KEY': SECRET_KEY,
        'AWS_REGION': 'us-east-1',
    }
    self.process = None
    try:
      self.start()
    except BaseException:
      self.close()
      raise

  def start(self):
    """Also again, at the same port and with what it had."""
    with open(self._log_path, 'ab') as log:
      self.process = subprocess.Popen(
          [self._program, '--port', '%s:%d' % (self._host, self.port), '--quiet', 'posix', '--sidecar', self._meta,
           os.path.dirname(self.files)],
          stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent,
          env=dict(os.environ, ROOT_ACCESS_KEY=ACCESS_KEY, ROOT_SECRET_KEY=SECRET_KEY))
    if not starts_listening(self.process, self._host, self.port, READY_SECONDS):
      with open(self._log_path, encoding='utf-8', errors='replace') as log:
        raise RuntimeError('versitygw does not listen on port %d:\n%s' % (self.port, log.read()[-2000:]))

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
