"""Kills the worker of one of two parts of a job that nothing connects: python region_cases.py

Two workers run recovery_counts.py, which counts into two folders, with one subtask each: a part of the pipeline on each
worker. The worker of the second part is killed twice. That part must go back to a checkpoint and have counted each number
once in the end; the first part must not go back at all: each of its counts is seen once.
"""
import collections
import os
import shutil
import signal
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
import recovery_cases  # noqa: E402
import recovery_counts  # noqa: E402
from weir_server import WeirServer  # noqa: E402

INTERVAL_MS = 200
KILLS = 2


def parent_of(pid):
  with open('/proc/%d/stat' % pid, 'rb') as stat:
    return int(stat.read().rpartition(b') ')[2].split()[1])


def worker_of(run, workers):
  """The worker whose harness runs the part."""
  for pid in run.harnesses():
    while pid > 1 and pid not in workers:
      pid = parent_of(pid)
    if pid in workers:
      return pid
  return None


def kill_worker_of(run, other):
  workers = recovery_cases.workers_of(run.server.pid)
  victim = worker_of(run, workers)
  assert victim != worker_of(other, workers), 'both parts run on worker %d' % victim
  os.kill(victim, signal.SIGKILL)
  print('killed worker %d' % victim, flush=True)


def check_never_back(run):
  seen = collections.Counter(tuple(line) for line in run.lines('state'))
  again = {line for line, count in seen.items() if count > 1}
  assert not again, 'the part that was to go on has counted again: %r' % sorted(again)[:10]


def main():
  directory = tempfile.mkdtemp(prefix='weir-crash-')
  kept, lost = [os.path.join(directory, name) for name in ('kept', 'lost')]
  try:
    os.mkdir(kept)
    os.mkdir(lost)
    with WeirServer(workers=2, log_path=os.environ.get('CRASH_LOG')) as server:
      run, going_on = recovery_cases.Run(server, lost), recovery_cases.Run(server, kept)
      run.more_directories = [kept]
      run.options = ['--parallelism=1']
      going_on.client = None
      try:
        run.start(recovery_cases.boot_script(directory), INTERVAL_MS)
        going_on.client, going_on.output = run.client, run.output
        for kill in range(KILLS):
          for part in (run, going_on):
            part.wait_for_numbers(recovery_cases.NUMBERS_BETWEEN_HARMS)
          run.wait_for_checkpoints(2)
          kill_worker_of(run, going_on)
          run.wait_for('a restart', lambda: run.said('the rest goes on') > kill)
          going_on.wait_for_numbers(recovery_counts.NUMBERS_PER_STEP)
        run.wait_for_numbers(1)
        open(os.path.join(kept, 'finish'), 'wb').close()
        run.finish()
      finally:
        run.end()
      assert run.said('what is connected to it restarts from checkpoint') == KILLS, run.output()[-3000:]
      total = [[str(2 * recovery_cases.NUMBER_COUNT)]]
      assert run.lines('committed') == total, 'the counter: %r' % run.lines('committed')
      for part in (run, going_on):
        recovery_cases.check_results(part)
      check_never_back(going_on)
  finally:
    shutil.rmtree(directory, ignore_errors=True)
  print('each number counted once, one part never went back')


if __name__ == '__main__':
  main()
