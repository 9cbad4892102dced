"""Kills processes of a job while it runs: what `run.py --kill-workers SEED` and `--kill-harnesses SEED` do to every job.

A worker is killed at random in the first second after the job is RUNNING, so that every pipeline that runs longer than
a second is hit. Another one is killed in the next attempt, when user code has run for a while: at once or soon after a
task has finished or a checkpoint is complete, whichever the chance says. `kill -9` goes to one of the workers; it has
hit when the job's own messages say that it restarts. SDK harnesses (of PROCESS environments) are killed at the same
moments, the first in the second after it has begun; it has hit when the job was not over then, and none may make the job
restart. When and whom depends on the seed, the test and the number of the job in it, so that a seed gives the same test
the same kills in whatever order tests run.
"""
import glob
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import grpc

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'test', 'support'))
from job_client import TERMINAL, JobWatcher  # noqa: E402

# After a task has finished, or a checkpoint is complete.
SOON_SECONDS = 0.3
# A killed worker is missed within so long, unless the job has nothing on it.
NOTICE_SECONDS = 5
POLL_SECONDS = 0.02
MAX_MISSES = 4


def workers_of(parent_pid):
  """Process ids of the workers that the process has started, oldest first."""
  found = subprocess.run(['pgrep', '-P', str(parent_pid), '-f', 'worker --coordinator'], stdout=subprocess.PIPE,
                         text=True, check=False).stdout
  return [int(pid) for pid in found.split()]


class Inspection:
  """`weir explain`, without a process for it."""

  def __init__(self, endpoint, job_id):
    self._channel = grpc.insecure_channel(endpoint)
    self._explain = self._channel.unary_unary('/weir.inspection.v1.JobInspection/Explain')
    name = job_id.encode()
    assert len(name) < 128
    self._request = bytes([10, len(name)]) + name

  def finished_count(self):
    """Subtasks that have finished; 0 when the server does not answer."""
    try:
      answer = self._explain(self._request, timeout=5)
    except grpc.RpcError:
      return 0
    # Field 1, a string: its length is a varint.
    start = 1
    while answer[start] & 0x80:
      start += 1
    return sum(stage['subtasksFinished'] for stage in json.loads(answer[start + 1:])['stages'])

  def close(self):
    self._channel.close()


def harnesses_of(parent_pid):
  """Process ids of Python harnesses below the process."""
  listed = subprocess.run(['ps', '-ww', '-eo', 'pid=,ppid=,args='], stdout=subprocess.PIPE, text=True, check=True).stdout
  parents, harnesses = {}, []
  for line in listed.splitlines():
    pid, parent, *command = line.split(None, 2)
    parents[int(pid)] = int(parent)
    if 'sdk_worker_main' in ''.join(command):
      harnesses.append(int(pid))

  def is_below(pid):
    while pid in parents and pid != parent_pid:
      pid = parents[pid]
    return pid == parent_pid

  return [pid for pid in harnesses if is_below(pid)]


class ProcessKiller:
  """Kills from the moment in which it is made until the job is over, or `close()`. `hits`: what each kill cost the job."""

  def __init__(self, endpoint, job_id, kills, seed):
    self.hits = []
    self._kill = {'workers': self._kill_worker, 'harnesses': self._kill_harness}[kills['what']]
    self._parent_pid = kills['parent_pid']
    self._checkpoints = os.path.join(kills['checkpoints'], job_id)
    self._within_seconds = kills['within_seconds']
    self._chance = random.Random(seed)
    self._over = threading.Event()
    self._watcher = JobWatcher(endpoint, job_id)
    self._inspection = Inspection(endpoint, job_id)
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def close(self):
    self._over.set()
    self._thread.join()
    self._inspection.close()
    self._watcher.close()

  def _run(self):
    if not self._wait(lambda: 'RUNNING' in self._watcher.states):
      return
    if not self._pause(self._chance.uniform(0, self._within_seconds)) or not self._kill():
      return
    count = self._chance.choice((self._inspection.finished_count, self._checkpoint_count))
    before = count()
    if self._wait(lambda: count() > before) and self._pause(self._chance.choice((0, 1)) * self._chance.uniform(0, SOON_SECONDS)):
      self._kill()

  def _checkpoint_count(self):
    """The number of the newest complete checkpoint."""
    paths = glob.glob(os.path.join(self._checkpoints, 'checkpoint-*.json'))
    return max((int(path.rpartition('-')[2].split('.')[0]) for path in paths), default=0)

  def _is_over(self):
    return self._over.is_set() or self._watcher.states[-1:] and self._watcher.states[-1] in TERMINAL

  def _wait(self, is_so, seconds=None):
    """False when the job is over before, or the time is."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while not is_so():
      if self._is_over() or deadline is not None and time.monotonic() > deadline:
        return False
      self._over.wait(POLL_SECONDS)
    return True

  def _pause(self, seconds):
    self._wait(lambda: False, seconds)
    return not self._is_over()

  def _kill_harness(self):
    """Kills one when there is one. False when the job is over before."""
    while not self._is_over():
      harnesses = harnesses_of(self._parent_pid)
      if not harnesses:
        self._pause(POLL_SECONDS)
        continue
      if not self.hits and not self._pause(self._chance.uniform(0, self._within_seconds)):
        return False
      restarts = len(self._restarts())
      try:
        os.kill(self._chance.choice(harnesses), signal.SIGKILL)
      except ProcessLookupError:
        continue
      if not self._pause(POLL_SECONDS):
        return False
      self.hits.append('; '.join(['a harness was killed', *self._restarts()[restarts:]]))
      return True
    return False

  def _kill_worker(self):
    """Kills one worker after the other until the job misses one. False when the job is over before."""
    for _ in range(MAX_MISSES):
      if self._is_over():
        return False
      workers = workers_of(self._parent_pid)
      if not workers:
        self._pause(POLL_SECONDS)
        continue
      victim = self._chance.choice(workers)
      restarts = len(self._restarts())
      try:
        os.kill(victim, signal.SIGKILL)
      except ProcessLookupError:
        continue
      self._wait(lambda count=restarts: len(self._restarts()) > count, NOTICE_SECONDS)
      if len(self._restarts()) > restarts:
        self.hits.append(self._restarts()[restarts])
        return True
    return False

  def _restarts(self):
    """The job's messages when it lost a worker, or a task that missed one."""
    return [text for text in self._watcher.texts if ' restarts from ' in text]
