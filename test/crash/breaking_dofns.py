"""User code that breaks things. Imported by harnesses of their own too (PYTHONPATH)."""
import os
import signal
import sys
import time

import apache_beam as beam


class Raises(beam.DoFn):
  """Raises in one of its methods; writes a byte to `log` each time."""

  def __init__(self, where, log=None):
    self._where = where
    self._log = log

  def _raise_at(self, where):
    if where != self._where:
      return
    number = ''
    if self._log:
      with open(self._log, 'a', encoding='utf-8') as log:
        log.write('.')
      number = ' number %d' % os.path.getsize(self._log)
    raise ValueError('on purpose in ' + where + number)

  def setup(self):
    self._raise_at('setup')

  def start_bundle(self):
    self._raise_at('start_bundle')

  def process(self, element):
    self._raise_at('process')
    yield element

  def finish_bundle(self):
    self._raise_at('finish_bundle')

  def teardown(self):
    self._raise_at('teardown')


class Stuck(beam.DoFn):
  """Leaves a file `stuck-PID` and sleeps: until there is a file `release`; with `once` only the first time."""

  def __init__(self, directory, once=False):
    self._directory = directory
    self._once = once

  def process(self, element):
    first = not any(name.startswith('stuck-') for name in os.listdir(self._directory))
    if first or not self._once:
      with open(os.path.join(self._directory, 'stuck-%d' % os.getpid()), 'w', encoding='utf-8'):
        pass
      while not os.path.exists(os.path.join(self._directory, 'release')):
        time.sleep(0.1)
    yield element


class CrashesHarness(beam.DoFn):
  def process(self, element):
    print('last words', file=sys.stderr, flush=True)
    time.sleep(0.2)
    os._exit(77)
    yield element


class KillsWorker(beam.DoFn):
  """The worker is the parent of a PROCESS harness."""

  def process(self, element):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)
    yield element
