"""Workers apart from the job server, each started anew as soon as it ends.

The job server's own local ones would do, but for one thing: a worker that dies again and again is started after longer
and longer pauses there, as it should be, and these die all the time.
"""
import subprocess
import threading
import time

from weir_server import TERM_GRACE_SECONDS, child_environment, die_with_parent, weir_command

# A job server that is gone is no reason to start processes in a tight loop.
PAUSE_SECONDS = 0.2


class KeptWorkers:
  """`count` processes until `close`; a context manager."""

  def __init__(self, endpoint, count, log_path):
    self._command = [*weir_command(), 'worker', '--coordinator', endpoint, '--reconnect-seconds', '0']
    self._log_path = log_path
    self._lock = threading.Lock()
    self._processes = [None] * count
    self._closed = False
    self._keepers = [threading.Thread(target=self._keep, args=(slot, ), daemon=True) for slot in range(count)]
    for keeper in self._keepers:
      keeper.start()

  def _keep(self, slot):
    with open(self._log_path, 'ab') as log:
      while True:
        with self._lock:
          if self._closed:
            return
          process = self._processes[slot] = subprocess.Popen(
              self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=child_environment(),
              preexec_fn=die_with_parent)
        process.wait()
        time.sleep(PAUSE_SECONDS)

  def close(self):
    with self._lock:
      self._closed = True
      for process in self._processes:
        if process is not None:
          process.terminate()
    for keeper, process in zip(self._keepers, self._processes):
      keeper.join(TERM_GRACE_SECONDS)
      if process is not None and process.poll() is None:
        process.kill()
      keeper.join()

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()
