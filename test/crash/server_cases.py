"""Kills the job server of a streaming job with checkpoints, and starts another: python server_cases.py CASE.

recovery_counts.py is submitted and left alone by its client. In the end the same job id is DONE, each number was
counted once, and the message stream tells one history. Cases:

  alone     kill -9 of the job server; its workers and their harnesses end by themselves. Twice.
  workers   kill -9 of the job server and of its workers at once; harnesses are left alone
  early     kill -9 of the job server before the first checkpoint: the job begins again
"""
import os
import subprocess
import sys
import tempfile
import time
import shutil

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
from client_process import process_environment  # noqa: E402
from job_client import JobWatcher  # noqa: E402
from recovery_cases import NUMBER_COUNT, NUMBERS_BETWEEN_HARMS, Run, alive, check  # noqa: E402
from weir_server import VENV_PYTHON, WeirServer, child_environment, weir_command  # noqa: E402

JOB_SECONDS = 100


class SubmittedRun(Run):
  """Its client is gone: what there is to know, the job server says."""

  def submit(self, interval_ms):
    command = [
        VENV_PYTHON, '-c', 'import sys, recovery_counts; recovery_counts.submit(sys.argv[1], %d, sys.argv[2:])' %
        NUMBER_COUNT, self.directory, '--runner=PortableRunner', '--job_endpoint=' + self.server.endpoint,
        *process_environment(self.directory, HERE), '--parallelism=2', '--checkpointing_interval=%d' % interval_ms,
        '--max_cache_memory_usage_mb=10'
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
                          env=child_environment(PYTHONPATH=HERE))
    assert done.returncode == 0, done.stderr
    self.job_id = done.stdout.split()[-1]
    self.watcher = JobWatcher(self.server.endpoint, self.job_id)

  def output(self):
    return '\n'.join(self.watcher.texts)

  def wait_for(self, what, is_so):
    while not is_so():
      states = self.watcher.states
      ended = states and states[-1] in ('FAILED', 'CANCELLED')
      assert not ended, 'the job ended while it was waited for %s:\n%s' % (what, self.output()[-3000:])
      assert time.monotonic() < self.deadline, '%s was waited for in vain:\n%s\n%s' % (
          what, self.output()[-3000:], self.server.log_tail())
      time.sleep(0.02)

  def replace_server(self, with_workers=False):
    """kill -9, and another server on what it left."""
    before = self.watcher.events
    harnesses = self.harnesses()
    port = self.server.endpoint.rpartition(':')[2]
    print('killing the job server after %d numbers' % sum(self.counts().values()), flush=True)
    self.server.kill(with_children=with_workers)
    self.watcher.close()
    self.server = WeirServer(workers=2, log_path=self.server.log_path, directory=self.server.directory, job_port=port)
    self.watcher = JobWatcher(self.server.endpoint, self.job_id)
    self.wait_for('the job to be taken up', lambda: self.said('takes the job up') > 0)
    after = list(self.watcher.events)
    # The last messages may not have been stored.
    assert before[:-20] == after[:max(0, len(before) - 20)], 'the history has changed: %r, %r' % (before, after)
    self.wait_for('the end of the former harnesses', lambda: not any(alive(pid) for pid in harnesses))


def alone(run):
  for _ in range(2):
    run.wait_for_checkpoints(2)
    took_up = run.said('The job goes on from checkpoint')
    run.replace_server()
    run.wait_for('a checkpoint to go on from', lambda: run.said('The job goes on from checkpoint') > took_up)
    run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)


def workers(run):
  run.wait_for_checkpoints(2)
  run.replace_server(with_workers=True)
  run.wait_for('a checkpoint to go on from', lambda: run.said('The job goes on from checkpoint') == 1)
  run.wait_for_checkpoints(1)


def early(run):
  assert run.checkpoints() == []
  run.replace_server()
  run.wait_for('the beginning', lambda: run.said('The job goes on from the beginning') == 1)


CASES = {'alone': (alone, 200), 'workers': (workers, 200), 'early': (early, 600_000)}


def finish(run):
  """Attaches to the job by its id, and waits for its end."""
  run.wait_for_numbers(1)
  open(os.path.join(run.directory, 'finish'), 'wb').close()
  attached = subprocess.run([*weir_command(), 'attach', '--job-endpoint', run.server.endpoint, run.job_id],
                            stdout=subprocess.PIPE, text=True, check=False,
                            timeout=max(1, run.deadline - time.monotonic()))
  assert attached.returncode == 0, attached.stdout[-3000:]
  run.wait_for('the end of the stream', lambda: run.watcher.states[-1:] == ['DONE'])
  assert run.watcher.state() == 'DONE'
  assert run.watcher.states == ['STOPPED', 'STARTING', 'RUNNING', 'DONE'], run.watcher.states
  ids = [name for name, text in run.watcher.events if text is not None]
  assert ids == sorted(set(ids)), 'message ids: %r' % ids
  with open(os.path.join(run.directory, 'committed'), 'w', encoding='utf-8') as text:
    text.write('%d\n' % run.watcher.committed('counted'))
  assert run.checkpoints() == [], 'checkpoints are left: %r' % run.checkpoints()
  deadline = time.monotonic() + 10
  while run.harnesses() and time.monotonic() < deadline:
    time.sleep(0.05)
  assert run.harnesses() == [], 'harnesses live on: %r' % run.harnesses()


def main(case):
  harm, interval_ms = CASES[case]
  directory = tempfile.mkdtemp(prefix='weir-crash-')
  run = SubmittedRun(WeirServer(workers=2, log_path=os.environ.get('CRASH_LOG')), directory)
  try:
    run.submit(interval_ms)
    run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
    harm(run)
    finish(run)
    check(run)
  finally:
    run.watcher.close()
    run.server.stop()
    shutil.rmtree(directory, ignore_errors=True)
  print('each number counted once')


if __name__ == '__main__':
  main(sys.argv[1])
