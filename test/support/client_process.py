"""A pipeline's client in a process of its own, and PROCESS environments for its harnesses."""
import json
import os
import subprocess
import time

from weir_server import VENV_PYTHON, child_environment, weir_command


def process_environment(directory, python_path):
  """Options for harnesses that Weir starts, which can import what is in `python_path`."""
  boot = os.path.join(directory, 'boot')
  with open(boot, 'w', encoding='utf-8') as script:
    script.write('#!/bin/sh\nexec %s boot python "$@"\n' % ' '.join("'%s'" % word for word in weir_command()))
  os.chmod(boot, 0o755)
  environment = {'command': boot, 'env': {'PYTHONPATH': python_path, 'PATH': child_environment()['PATH']}}
  return ['--environment_type=PROCESS', '--environment_config=' + json.dumps(environment)]


class ClientProcess:
  """Runs a script to its end; all that is waited for has to come before `limit_seconds` have passed."""

  def __init__(self, script, arguments, log_path, limit_seconds, more_python_path=()):
    self._log_path = log_path
    self._deadline = time.monotonic() + limit_seconds
    with open(log_path, 'wb') as log:
      self.process = subprocess.Popen(
          [VENV_PYTHON, script, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
          env=child_environment(PYTHONPATH=os.pathsep.join([os.path.dirname(script), *more_python_path])))

  def output(self):
    with open(self._log_path, encoding='utf-8', errors='replace') as log:
      return log.read()

  def said(self, text):
    return self.output().count(text)

  def wait_for(self, what, is_so):
    while not is_so():
      assert self.process.poll() is None, 'the job ended while it was waited for %s:\n%s' % (what, self._tail())
      assert time.monotonic() < self._deadline, '%s was waited for in vain:\n%s' % (what, self._tail())
      time.sleep(0.05)

  def end(self):
    """Waits for its end; returns the exit code."""
    try:
      return self.process.wait(max(1, self._deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
      raise AssertionError('the job did not end:\n%s' % self._tail()) from None

  def _tail(self):
    return self.output()[-3000:]

  def kill(self):
    if self.process.poll() is None:
      self.process.kill()
    self.process.wait()

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.kill()
