"""A job whose client has only submitted it: what there is to know, the job server says, and after its end the next one."""
import os
import subprocess
import time

from job_client import TERMINAL, JobWatcher
from weir_server import VENV_PYTHON, child_environment

SUBMIT_SECONDS = 120
POLL_SECONDS = 0.05


class SubmittedJob:
  """Runs a script that prints its job's id. All that is waited for has to come before `limit_seconds` have passed."""

  def __init__(self, endpoint, script, arguments, python_path, log_path, limit_seconds):
    self._deadline = time.monotonic() + limit_seconds
    with open(log_path, 'ab') as log:
      submitted = subprocess.run(
          [VENV_PYTHON, script, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
          check=True, timeout=SUBMIT_SECONDS, env=child_environment(PYTHONPATH=os.pathsep.join(python_path)))
    self.id = submitted.stdout.split()[-1]
    self._watcher = JobWatcher(endpoint, self.id)

  def follow(self, endpoint):
    """From now on another job server is asked, which knows what the one before it has said."""
    self._watcher.close()
    self._watcher = JobWatcher(endpoint, self.id)

  def said(self, text):
    return sum(text in message for message in self._watcher.texts)

  def output(self):
    return '\n'.join(self._watcher.texts)

  def wait_for(self, what, is_so):
    while not is_so():
      ended = [state for state in self._watcher.states if state in TERMINAL]
      assert not ended, 'the job is %s while it is waited for %s:\n%s' % (ended[0], what, self._tail())
      assert time.monotonic() < self._deadline, '%s was waited for in vain:\n%s' % (what, self._tail())
      time.sleep(POLL_SECONDS)

  def end(self):
    """Waits for its end; returns its state."""
    while not any(state in TERMINAL for state in self._watcher.states):
      assert time.monotonic() < self._deadline, 'the job did not end:\n%s' % self._tail()
      time.sleep(POLL_SECONDS)
    return self._watcher.states[-1]

  def _tail(self):
    return self.output()[-3000:]

  def close(self):
    self._watcher.close()

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()
