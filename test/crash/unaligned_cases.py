"""Unaligned checkpoints of a streaming job whose user code does not come to an end: python unaligned_cases.py CASE.

unaligned_counts.py is submitted, and stands still in the midst of a number until it may go on. In the end each number
was counted once. Cases:

  worker    checkpoints are complete while it stands still; kill -9 of a worker, and they are again; then it may go on
  retained  the job is cancelled while it stands still, and another one goes on from its newest checkpoint
"""
import glob
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
import unaligned_counts  # noqa: E402
from client_process import process_environment  # noqa: E402
from recovery_cases import NUMBER_COUNT, check_results, id_of  # noqa: E402
from server_cases import SubmittedRun, play  # noqa: E402
from weir_server import weir_command  # noqa: E402

COMMAND_SECONDS = 60


class UnalignedRun(SubmittedRun):

  def begin(self, *more):
    options = [*process_environment(self.directory, HERE), '--unaligned_checkpoint_enabled', *more]
    self.submit(options, module=unaligned_counts, count=(NUMBER_COUNT,))

  def wait_until_blocked(self):
    wanted = len(self.lines('blocked')) + 1
    self.wait_for('the number that does not end', lambda: len(self.lines('blocked')) >= wanted)

  def wait_for_checkpoints_meanwhile(self, more):
    """Of which one at least holds data that was on its way."""
    blocked = len(self.lines('blocked'))
    self.wait_for_checkpoints(more)
    assert len(self.lines('blocked')) == blocked
    with open(self.checkpoints()[-1], encoding='utf-8') as text:
      record = json.load(text)['record']
    assert record.get('unaligned') and record['inFlightBytes'] > 0, record
    print('checkpoint %d holds %d bytes in flight' % (self.newest_checkpoint(), record['inFlightBytes']), flush=True)

  def close(self):
    # No harness may stand still any more.
    open(os.path.join(self.directory, 'go'), 'wb').close()
    super().close()

  def let_it_end(self):
    open(os.path.join(self.directory, 'go'), 'wb').close()
    open(os.path.join(self.directory, 'finish'), 'wb').close()
    self.wait_for('the end of the stream', lambda: self.watcher.states[-1:] == ['DONE'])
    check_results(self)


def worker(run):
  run.begin()
  run.wait_until_blocked()
  run.wait_for_checkpoints_meanwhile(3)
  restarts = run.said('restarts from checkpoint')
  blocked = len(run.lines('blocked'))
  run.kill_worker()
  run.wait_for('a restart', lambda: run.said('restarts from checkpoint') > restarts)
  run.wait_for('the number that does not end', lambda: len(run.lines('blocked')) > blocked)
  run.wait_for_checkpoints_meanwhile(3)
  run.let_it_end()


def retained(run):
  storage = os.path.join(run.directory, 'storage')
  run.begin('--externalized_checkpoints_enabled', '--retain_externalized_checkpoints_on_cancellation',
            '--state_backend_storage_path=' + storage)
  run.checkpoints = lambda: sorted(glob.glob(os.path.join(storage, '*', 'checkpoint-*.json')), key=id_of)
  run.wait_until_blocked()
  run.wait_for_checkpoints_meanwhile(3)
  subprocess.run([*weir_command(), 'cancel', run.job_id, '--job-endpoint', run.server.endpoint], check=True,
                 stdout=subprocess.DEVNULL, timeout=COMMAND_SECONDS)
  while run.watcher.state() != 'CANCELLED':
    assert time.monotonic() < run.deadline, run.output()[-3000:]
    time.sleep(0.05)
  newest = run.checkpoints()[-1]
  run.watcher.close()
  run.begin('--savepoint_path=' + newest)
  run.let_it_end()


CASES = {each.__name__: each for each in (worker, retained)}


if __name__ == '__main__':
  play(CASES[sys.argv[1]], UnalignedRun)
