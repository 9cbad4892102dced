"""Kills the job server of a streaming job with checkpoints, and starts another: python server_cases.py CASE.

recovery_counts.py is submitted and left alone by its client. In the end the same job id is DONE, each number was
counted once, and the message stream tells one history. Cases:

  alone     kill -9 of the job server; its workers and their harnesses end by themselves. Twice.
  workers   kill -9 of the job server and of its workers at once; harnesses are left alone
  told      SIGTERM: the job is suspended, nothing of it runs meanwhile, and it goes on. Twice.
  cancelled the same with --on-shutdown=cancel: the job is over
  early     kill -9 of the job server before the first checkpoint: the job begins again
  external  kill -9 of the job server and of the worker pool, which comes back later than the job server
  machine   kill -9 of everything, and the disk is wiped: another job server goes on with the checkpoints in S3 alone
  fenced    another job server takes the job from one that is alive, which completes no checkpoint of it any more
  loopback  kill -9 of the job server and of the client that ran the harness: the job fails, and says why
  remote    kill -9 of the job server, whose workers were started apart from it: they join the next one
  batch     kill -9 of the job server of a job that runs stage by stage: it begins again
"""
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
import kill_midway  # noqa: E402
import recovery_counts  # noqa: E402
import slow_word_count  # noqa: E402
from client_process import process_environment  # noqa: E402
from job_client import JobWatcher  # noqa: E402
from recovery_cases import NUMBER_COUNT, NUMBERS_BETWEEN_HARMS, Run, alive, check, id_of  # noqa: E402
from s3_server import S3Server  # noqa: E402
from weir_server import VENV_PYTHON, WeirServer, child_environment, weir_command  # noqa: E402
from worker_pool import WorkerPool  # noqa: E402


JOB_SECONDS = 240
LOG_PATH = os.environ.get('CRASH_LOG')


class SubmittedRun(Run):
  """Its client is gone: what there is to know, the job server says."""

  def __init__(self, server, directory):
    super().__init__(server, directory)
    # Only for a job that does not get on at all: a machine may stand still for a minute.
    self.deadline = time.monotonic() + JOB_SECONDS
    self.watcher = None
    self.pool = None
    self.processes = []
    self.store = None

  def checkpoints(self):
    if self.store is None:
      return super().checkpoints()
    return sorted(glob.glob(os.path.join(self.store.files, 'checkpoints', '*', 'checkpoint-*.json')), key=id_of)

  def submit(self, environment, interval_ms=200, module=recovery_counts, count=(NUMBER_COUNT,), parallelism=2):
    """The client stays only where it runs the harness."""
    name = module.__name__
    call = 'import sys, %s; %s.submit(sys.argv[1], *%r, sys.argv[2:])' % (name, name, count)
    command = [
        VENV_PYTHON, '-c', call, self.directory, '--runner=PortableRunner', '--job_endpoint=' + self.server.endpoint,
        *environment, '--parallelism=%d' % parallelism, '--checkpointing_interval=%d' % interval_ms, '--max_cache_memory_usage_mb=10'
    ]
    self.client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                   env=child_environment(PYTHONPATH=HERE))
    self.job_id = self.client.stdout.readline().strip()
    assert self.job_id, 'the client submitted nothing'
    self.watcher = JobWatcher(self.server.endpoint, self.job_id)

  def use_store(self):
    """Its checkpoints are to go to S3, which another server knows."""
    self.server.stop()
    self.store = S3Server()
    self.server = WeirServer(workers=2, log_path=LOG_PATH, environment=self.store.environment)

  def submit_process(self, **more):
    self.submit(process_environment(self.directory, HERE), **more)

  def close(self):
    if self.client is not None:
      self.client.kill()
      self.client.wait()
    if self.pool is not None:
      self.pool.kill()
    if self.watcher is not None:
      self.watcher.close()
    for process in self.processes:
      process.terminate()
    for process in self.processes:
      process.wait(30)
    self.server.stop()
    if self.store is not None:
      self.store.close()

  def output(self):
    return '\n'.join(self.watcher.texts)

  def wait_for(self, what, is_so):
    while not is_so():
      ended = self.watcher.states[-1:] in (['FAILED'], ['CANCELLED'])
      assert not ended, 'the job ended while it was waited for %s:\n%s' % (what, self.output()[-3000:])
      assert time.monotonic() < self.deadline, '%s was waited for in vain:\n%s\n%s\n%s' % (
          what, self.output()[-3000:], self.server.log_tail(), self.explain())
      time.sleep(0.02)

  def explain(self):
    command = [*weir_command(), 'explain', '--job-endpoint', self.server.endpoint, self.job_id]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=30).stdout

  def replace_server(self, with_workers=False, workers=2, is_told=False):
    """kill -9, or SIGTERM, and another server on what it left."""
    before = self.watcher.events
    took_up = self.said('takes the job up')
    harnesses = self.harnesses()
    port = self.server.endpoint.rpartition(':')[2]
    print('ending the job server after %d numbers' % sum(self.counts().values()), flush=True)
    if is_told:
      self.server.stop(keep_directory=True)
      assert self.server.ended_cleanly
      assert not any(alive(pid) for pid in harnesses), 'a harness has outlived its job server'
    else:
      self.server.kill(with_children=with_workers)
    self.watcher.close()
    self.server = WeirServer(workers=workers, log_path=self.server.log_path, directory=self.server.directory, job_port=port)
    self.watcher = JobWatcher(self.server.endpoint, self.job_id)
    self.wait_for('the job to be taken up', lambda: self.said('takes the job up') > took_up)
    after = list(self.watcher.events)
    # The last messages may not have been stored.
    assert before[:-20] == after[:max(0, len(before) - 20)], 'the history has changed: %r, %r' % (before, after)
    self.wait_for('the end of the former harnesses', lambda: not any(alive(pid) for pid in harnesses))


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
  run.wait_for_no_harness()
  check(run)


def alone(run):
  run.submit_process()
  for _ in range(2):
    run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
    run.wait_for_checkpoints(2)
    took_up = run.said('The job goes on from checkpoint')
    run.replace_server()
    run.wait_for('a checkpoint to go on from', lambda: run.said('The job goes on from checkpoint') > took_up)
  run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
  finish(run)


def told(run):
  run.submit_process()
  for _ in range(2):
    run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
    run.wait_for_checkpoints(2)
    run.replace_server(is_told=True)
    run.wait_for_checkpoints(1)
  assert run.said('the job is suspended') == 2 and run.said('The job goes on from checkpoint') == 2
  run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
  finish(run)


def cancelled(run):
  run.server.stop()
  run.server = WeirServer(workers=1, log_path=LOG_PATH, arguments=['--on-shutdown', 'cancel'])
  run.checkpoint_root = os.path.join(run.server.directory, 'data', 'checkpoints')
  run.submit_process(parallelism=1)
  run.wait_for_checkpoints(1)
  run.server.stop(keep_directory=True)
  run.watcher.close()
  run.server = WeirServer(workers=0, log_path=run.server.log_path, directory=run.server.directory)
  run.watcher = JobWatcher(run.server.endpoint, run.job_id)
  assert run.watcher.state() == 'CANCELLED', run.watcher.state()
  assert run.checkpoints() == [], 'checkpoints are left: %r' % run.checkpoints()
  run.wait_for_no_harness()


def workers(run):
  run.submit_process()
  run.wait_for_checkpoints(2)
  run.replace_server(with_workers=True)
  run.wait_for('a checkpoint to go on from', lambda: run.said('The job goes on from checkpoint') == 1)
  run.wait_for_checkpoints(1)
  finish(run)


def early(run):
  run.submit_process(interval_ms=600_000)
  run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
  assert run.checkpoints() == []
  run.replace_server()
  run.wait_for('the beginning', lambda: run.said('The job goes on from the beginning') == 1)
  finish(run)


def external(run):
  log_path = os.path.join(run.directory, 'pool.log')
  run.pool = WorkerPool(HERE, log_path)
  run.submit(run.pool.options)
  run.wait_for_checkpoints(2)
  run.pool.kill()
  run.replace_server()
  run.wait_for('a checkpoint to go on from', lambda: run.said('The job goes on from checkpoint') == 1)
  run.pool = WorkerPool(HERE, log_path, run.pool.port)
  run.wait_for_checkpoints(1)
  finish(run)


def remote(run):
  """The same two processes work for both job servers."""
  command = [*weir_command(), 'worker', '--coordinator', run.server.endpoint, '--log-format', 'json']
  with open(os.path.join(run.directory, 'workers.log'), 'wb') as log:
    run.processes = [
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=child_environment())
        for _ in range(2)
    ]
  run.submit_process()
  run.wait_for_checkpoints(2)
  run.replace_server(workers=0)
  run.wait_for('a checkpoint to go on from', lambda: run.said('The job goes on from checkpoint') == 1)
  run.wait_for_checkpoints(1)
  finish(run)
  assert [process.poll() for process in run.processes] == [None, None], 'a worker has ended'


def machine(run):
  run.use_store()
  run.submit(process_environment(run.directory, HERE) + ['--state_backend_storage_path=' + run.store.root])
  run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
  run.wait_for_checkpoints(2)
  before = list(run.watcher.events)
  run.server.kill(with_children=True)
  for harness in run.harnesses():
    os.kill(harness, signal.SIGKILL)
  run.watcher.close()
  shutil.rmtree(run.server.directory)
  run.server = WeirServer(workers=2, log_path=LOG_PATH, environment=run.store.environment,
                          arguments=['--recover-from', run.store.root])
  run.watcher = JobWatcher(run.server.endpoint, run.job_id)
  run.wait_for('a checkpoint to go on from', lambda: run.said('The job goes on from checkpoint') == 1)
  assert [name for name, text in before if text is None] == run.watcher.states, run.watcher.states
  run.wait_for_checkpoints(1)
  finish(run)
  left = [name for _, _, names in os.walk(os.path.join(run.store.files, 'checkpoints')) for name in names]
  assert left == [], 'left in the store: %r' % left


def fenced(run):
  storage = os.path.join(run.directory, 'storage')
  run.submit(process_environment(run.directory, HERE) + ['--state_backend_storage_path=' + storage])
  run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
  run.checkpoints = lambda: sorted(glob.glob(os.path.join(storage, '*', 'checkpoint-*.json')), key=id_of)
  run.wait_for_checkpoints(2)
  with WeirServer(workers=2, arguments=['--recover-from', storage]) as newer:
    with JobWatcher(newer.endpoint, run.job_id) as watcher:
      older, run.server = run.server, newer
      older_watcher, run.watcher = run.watcher, watcher
      try:
        run.wait_for('the end on the older job server', lambda: older_watcher.state() == 'FAILED')
        older_watcher.close()
        assert 'Another job server has taken the job up' in older_watcher.texts[-1], older_watcher.texts[-1]
        run.wait_for('a checkpoint to go on from', lambda: run.said('The job goes on from checkpoint') == 1)
        run.wait_for_checkpoints(2)
        finish(run)
        assert os.listdir(storage) == [], 'left in the storage: %r' % os.listdir(storage)
      finally:
        run.server, run.watcher = older, older_watcher


def loopback(run):
  run.submit(['--environment_type=LOOPBACK'])
  run.wait_for_checkpoints(2)
  run.client.kill()
  run.replace_server()
  run.wait_for('the end', lambda: run.watcher.state() == 'FAILED')
  run.watcher.close()
  last = run.watcher.texts[-1]
  assert "The client that ran this LOOPBACK job's SDK harness is gone" in last, last


def batch(run):
  run.submit_process(module=slow_word_count, count=())
  progress = os.path.join(run.directory, 'progress')
  run.wait_for('some lines', lambda: os.path.exists(progress) and os.path.getsize(progress) > 30)
  run.replace_server()
  run.wait_for('the end', lambda: run.watcher.state() == 'DONE')
  found = []
  for shard in glob.glob(os.path.join(run.directory, 'counts-*')):
    with open(shard, encoding='utf-8') as text:
      found += text.read().splitlines()
  assert sorted(found) == kill_midway.counts_by_hand(), found


CASES = {
    each.__name__: each
    for each in (alone, told, cancelled, workers, early, external, remote, machine, fenced, loopback, batch)
}


def play(case, new_run=SubmittedRun, workers=2):
  """In a temporary directory, which goes with the job server and all that the run has started."""
  directory = tempfile.mkdtemp(prefix='weir-crash-')
  run = new_run(WeirServer(workers=workers, log_path=LOG_PATH), directory)
  try:
    case(run)
  finally:
    run.close()
    shutil.rmtree(directory, ignore_errors=True)
  print('as it should be')


if __name__ == '__main__':
  play(CASES[sys.argv[1]], workers=0 if sys.argv[1] == 'remote' else 2)
