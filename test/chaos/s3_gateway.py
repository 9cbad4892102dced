"""A real S3-compatible server (versitygw) with one empty bucket, whose objects are files below `files`."""
import os
import socket
import subprocess
import time

from weir_server import die_with_parent, free_port

BUCKET = 'chaos'
USER = 'user'
PASSWORD = 'password'
READY_SECONDS = 30


class S3Gateway:
  """`environment` is how Weir finds it. A context manager."""

  def __init__(self, binary, directory, host):
    port = free_port()
    self.files = os.path.join(directory, 's3', 'data', BUCKET)
    meta = os.path.join(directory, 's3', 'meta')
    os.makedirs(self.files)
    os.makedirs(meta)
    self.environment = {
        'AWS_ENDPOINT_URL': 'http://%s:%d' % (host, port),
        'AWS_ACCESS_KEY_ID': USER,
        'AWS_SECRET_ACCESS_KEY': PASSWORD,
        'AWS_REGION': 'us-east-1',
    }
    log_path = os.path.join(directory, 's3', 'server.log')
    with open(log_path, 'wb') as log:
      self._process = subprocess.Popen(
          [binary, '--port', '%s:%d' % (host, port), '--quiet', 'posix', '--sidecar', meta, os.path.dirname(self.files)],
          stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent,
          env=dict(os.environ, ROOT_ACCESS_KEY=USER, ROOT_SECRET_KEY=PASSWORD))
    deadline = time.monotonic() + READY_SECONDS
    while True:
      try:
        socket.create_connection((host, port), 1).close()
        return
      except OSError:
        if self._process.poll() is not None or time.monotonic() > deadline:
          self.close()
          with open(log_path, encoding='utf-8', errors='replace') as log:
            raise RuntimeError('versitygw is not ready:\n%s' % log.read()[-2000:]) from None
        time.sleep(0.05)

  def close(self):
    """Idempotent."""
    self._process.kill()
    self._process.wait()

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()
