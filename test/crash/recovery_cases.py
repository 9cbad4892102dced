"""Does harm to a streaming job with checkpoints: python recovery_cases.py INTERVAL_MS HARM...

Two workers run recovery_counts.py until it is done; on the way the harms come, one after the other. In the end each
number must have been counted once: in user state, in the sum that a timer wrote, and in its window; and sources were
never finalized beyond the checkpoint that the job went back to. Harms:

  worker    kill -9 of a worker: back to the last checkpoint
  early     the same before the first checkpoint: back to the beginning; with a long interval
  harness   kill -9 of an SDK harness: no going back
  hung      SIGSTOP of a worker: found by its heartbeat, and replaced
  flipped   kill -9 of a worker, and the newest checkpoint has a wrong byte: back to the one before
  missing   kill -9 of a worker, and the newest checkpoint lacks a file: back to the one before
"""
import collections
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
import recovery_counts  # noqa: E402
from weir_server import VENV_PYTHON, WeirServer, child_environment, weir_command  # noqa: E402

JOB_SECONDS = 100
# Enough for a slow machine: what is left after the last harm is counted quickly.
NUMBER_COUNT = 10_000
NUMBERS_BETWEEN_HARMS = 50


def alive(pid):
  try:
    with open('/proc/%d/stat' % pid, 'rb') as stat:
      return stat.read().rpartition(b') ')[2].split()[0] != b'Z'
  except FileNotFoundError:
    return False


def id_of(manifest_path):
  return int(manifest_path.rpartition('-')[2].split('.')[0])


def workers_of(server_pid):
  """Oldest first; none while the job server has yet to start those that take the place of killed ones."""
  found = subprocess.run(['pgrep', '-P', str(server_pid)], stdout=subprocess.PIPE, text=True, check=False).stdout
  return [int(pid) for pid in found.split()]


class Run:
  """The server, the job's client, and what the job has written so far."""

  def __init__(self, server, directory):
    self.server = server
    self.directory = directory
    self.deadline = time.monotonic() + JOB_SECONDS
    self.client = None
    # Lines of `positions` before a checkpoint was first damaged: what it finalized is ahead of the one before.
    self.finalized_before = None
    # Folders of jobs, as files.
    self.checkpoint_root = os.path.join(server.directory, 'data', 'checkpoints')
    self.options = []
    # Of other parts of the pipeline.
    self.more_directories = []

  def start(self, boot, interval_ms):
    environment = {'command': boot, 'env': {'PYTHONPATH': HERE, 'PATH': child_environment()['PATH']}}
    command = [
        VENV_PYTHON, os.path.join(HERE, 'recovery_counts.py'), ':'.join([self.directory, *self.more_directories]),
        str(NUMBER_COUNT),
        '--runner=PortableRunner', '--job_endpoint=' + self.server.endpoint, '--environment_type=PROCESS',
        '--environment_config=' + json.dumps(environment), '--parallelism=2',
        '--checkpointing_interval=%d' % interval_ms, '--max_cache_memory_usage_mb=10', *self.options
    ]
    with open(os.path.join(self.directory, 'client.log'), 'wb') as log:
      self.client = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT,
                                     env=child_environment(PYTHONPATH=HERE))

  def output(self):
    with open(os.path.join(self.directory, 'client.log'), encoding='utf-8', errors='replace') as log:
      return log.read()

  def lines(self, name):
    path = os.path.join(self.directory, name)
    if not os.path.exists(path):
      return []
    with open(path, encoding='utf-8') as text:
      return [line.split() for line in text if line.endswith('\n')]

  def counts(self):
    most = collections.defaultdict(int)
    for key, count in self.lines('state'):
      most[int(key)] = max(most[int(key)], int(count))
    return dict(most)

  def harnesses(self):
    paths = glob.glob(os.path.join(self.directory, 'harness-*'))
    return [pid for pid in (int(path.rpartition('-')[2]) for path in paths) if alive(pid)]

  def wait_for(self, what, is_so):
    while not is_so():
      assert self.client.poll() is None, 'the job ended while it was waited for %s:\n%s' % (what, self.output()[-3000:])
      assert time.monotonic() < self.deadline, '%s was waited for in vain:\n%s' % (what, self.output()[-3000:])
      time.sleep(0.02)

  def wait_for_numbers(self, more):
    wanted = sum(self.counts().values()) + more
    self.wait_for('%d numbers' % wanted, lambda: sum(self.counts().values()) >= wanted)

  def wait_for_checkpoints(self, more):
    wanted = self.newest_checkpoint() + more
    self.wait_for('checkpoint %d' % wanted, lambda: self.newest_checkpoint() >= wanted)

  def newest_checkpoint(self):
    return max([id_of(path) for path in self.checkpoints()], default=0)

  def checkpoints(self):
    """Their manifests' paths, oldest first."""
    paths = glob.glob(os.path.join(self.checkpoint_root, '*', 'checkpoint-*.json'))
    return sorted(paths, key=id_of)

  def said(self, text):
    return self.output().count(text)

  def kill_worker(self):
    victim = workers_of(self.server.pid)[0]
    os.kill(victim, signal.SIGKILL)
    print('killed worker %d after %d numbers' % (victim, sum(self.counts().values())), flush=True)

  def finish(self):
    """Lets the job come to its end, and sees that nothing is left of it."""
    self.wait_for_numbers(1)
    open(os.path.join(self.directory, 'finish'), 'wb').close()
    self.client.wait(max(1, self.deadline - time.monotonic()))
    assert self.client.returncode == 0, 'the job failed:\n%s\n%s' % (self.output()[-4000:], self.server.log_tail())
    left = self.checkpoints()
    assert left == [], 'checkpoints are left: %r' % left
    self.wait_for_no_harness()

  def wait_for_no_harness(self):
    """After the job's end."""
    deadline = time.monotonic() + 10
    while self.harnesses() and time.monotonic() < deadline:
      time.sleep(0.05)
    assert self.harnesses() == [], 'harnesses live on: %r' % self.harnesses()

  def end(self):
    if self.client is not None and self.client.poll() is None:
      self.client.kill()
      self.client.wait()


def boot_script(directory):
  """The command of a PROCESS environment."""
  boot = os.path.join(directory, 'boot')
  with open(boot, 'w', encoding='utf-8') as script:
    script.write('#!/bin/sh\nexec %s boot python "$@"\n' % ' '.join("'%s'" % word for word in weir_command()))
  os.chmod(boot, 0o755)
  return boot


def worker(run):
  run.wait_for_checkpoints(2)
  restarts = run.said('restarts from checkpoint')
  run.kill_worker()
  run.wait_for('a restart', lambda: run.said('restarts from checkpoint') > restarts)


def early(run):
  assert run.checkpoints() == []
  restarts = run.said('restarts from the beginning')
  run.kill_worker()
  run.wait_for('a restart', lambda: run.said('restarts from the beginning') > restarts)


def harness(run):
  run.wait_for_checkpoints(1)
  restarts = run.said('restarts')
  victim = run.harnesses()[0]
  os.kill(victim, signal.SIGKILL)
  print('killed harness %d' % victim, flush=True)
  run.wait_for_numbers(50)
  run.wait_for_checkpoints(2)
  assert run.said('restarts') == restarts, 'the job went back:\n%s' % run.output()[-3000:]


def hung(run):
  restarts = run.said('restarts')
  victim = workers_of(run.server.pid)[0]
  os.kill(victim, signal.SIGSTOP)
  print('stopped worker %d' % victim, flush=True)
  run.wait_for('the end of the stopped worker', lambda: not alive(victim))
  run.wait_for('a restart', lambda: run.said('restarts') > restarts)
  assert run.said('no heartbeat for') > 0


def flipped(run):
  damage(run, flip_byte, 'A checkpoint cannot be restored: ')


def missing(run):
  damage(run, os.unlink, 'The job goes back to the checkpoint before it.')


def damage(run, harm, message):
  run.wait_for_checkpoints(2)
  told = run.said(message)
  if run.finalized_before is None:
    run.finalized_before = len(run.lines('positions'))
  run.kill_worker()
  # The restart waits a moment before it looks for a checkpoint.
  older, newest = [files_of(path) for path in run.checkpoints()[-2:]]
  path = sorted(newest - older)[-1]
  harm(path)
  print('damaged %s' % os.path.basename(path), flush=True)
  run.wait_for('a message about it', lambda: run.said(message) > told)


def files_of(manifest_path):
  with open(manifest_path, encoding='utf-8') as text:
    manifest = json.load(text)
  base = os.path.dirname(manifest_path)
  return {os.path.join(base, file['path']) for task in manifest['tasks'] for file in task['files']}


def flip_byte(path):
  with open(path, 'r+b') as file:
    file.seek(-1, os.SEEK_END)
    last = file.read(1)
    file.seek(-1, os.SEEK_END)
    file.write(bytes([last[0] ^ 0xff]))


def check(run):
  assert run.lines('committed') == [[str(NUMBER_COUNT)]], 'the counter: %r' % run.lines('committed')
  check_results(run)


def check_results(run):
  total, keys = NUMBER_COUNT, recovery_counts.KEY_COUNT
  counts = run.counts()
  assert counts == {key: total // keys for key in range(keys)}, 'counts in state: %r' % counts
  window = recovery_counts.WINDOW_SECONDS
  pairs = [(start, key) for start in range(0, total, window) for key in range(keys)]
  same({(start, key, window // keys) for start, key in pairs}, run, 'windows')
  same({(start, key, sum(range(start + key, start + window, keys))) for start, key in pairs}, run, 'timers')
  finalized = collections.defaultdict(int)
  for what, shard, position in run.lines('positions')[:run.finalized_before]:
    if what == 'F':
      finalized[shard] = max(finalized[shard], int(position))
    else:
      assert int(position) >= finalized[shard], (
          'shard %s went back to %s, behind %d, which was finalized' % (shard, position, finalized[shard]))
  assert len(finalized) == recovery_counts.SHARD_COUNT, 'finalized: %r' % dict(finalized)


def same(wanted, run, name):
  found = {tuple(int(word) for word in line) for line in run.lines(name)}
  assert found == wanted, '%s: missing %r, wrong %r' % (name, sorted(wanted - found), sorted(found - wanted))


HARMS = {each.__name__: each for each in (worker, early, harness, hung, flipped, missing)}


def main(interval_ms, harms):
  directory = tempfile.mkdtemp(prefix='weir-crash-')
  log_path = os.environ.get('CRASH_LOG')
  try:
    with WeirServer(workers=2, log_path=log_path, arguments=['--log-level', 'debug'] if log_path else []) as server:
      run = Run(server, directory)
      try:
        run.start(boot_script(directory), interval_ms)
        for harm in harms:
          run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
          HARMS[harm](run)
        run.finish()
      finally:
        run.end()
      print('restarts from a checkpoint: %d, from the beginning: %d' % (
          run.said('restarts from checkpoint'), run.said('restarts from the beginning')))
      if os.environ.get('CRASH_LOG'):
        print(run.output())
      check(run)
  finally:
    shutil.rmtree(directory, ignore_errors=True)
  print('each number counted once')


if __name__ == '__main__':
  main(int(sys.argv[1]), sys.argv[2:])
