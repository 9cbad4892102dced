"""The store of a streaming job's checkpoints is away for a while: python outage_cases.py CASE

Two workers run recovery_counts.py with its checkpoints in a real S3-compatible store. In the end each number must have
been counted once, as in recovery_cases.py. Cases:

  down   the store is killed until several checkpoints have failed, and started again at the same port; then a worker is
         killed, and the job goes on from a checkpoint of after the outage
  hung   the store takes connections and answers nothing for a while; then a worker is killed
  lost   a worker is killed while the store is down: the job waits for its checkpoint

Then no file is left that neither a checkpoint needs nor the running attempt has written.
"""
import os
import shutil
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..', 'support'), os.path.join(HERE, '..', 'crash')]
import recovery_cases  # noqa: E402
from s3_server import S3Server  # noqa: E402
from weir_server import WeirServer, weir_command  # noqa: E402

INTERVAL_MS = 300
FAILED_CHECKPOINTS = 3
NUMBERS_MEANWHILE = 50
# A failed checkpoint takes some of them.
OUTAGE_SECONDS = 100


def down(run, store):
  run.wait_for_checkpoints(2)
  store.kill()
  print('the store is gone after checkpoint %d' % run.newest_checkpoint(), flush=True)
  newest = run.newest_checkpoint()
  run.wait_for('failed checkpoints', lambda: run.said(' is given up: ') >= FAILED_CHECKPOINTS)
  assert run.newest_checkpoint() == newest
  run.wait_for_numbers(NUMBERS_MEANWHILE)
  assert run.said('ECONNREFUSED 127.0.0.1:%d' % store.port) > 0, run.output()[-3000:]
  store.start()
  run.wait_for_checkpoints(2)


def hung(run, store):
  run.wait_for_checkpoints(2)
  store.hang()
  newest = run.newest_checkpoint()
  print('the store hangs after checkpoint %d' % newest, flush=True)
  run.wait_for_numbers(4 * NUMBERS_MEANWHILE)
  assert run.newest_checkpoint() == newest
  store.go_on()
  run.wait_for_checkpoints(2)


def lost(run, store):
  run.wait_for_checkpoints(2)
  store.kill()
  run.kill_worker()
  run.wait_for('the job to wait', lambda: run.said('The job waits for its checkpoints: ') > 0)
  store.start()
  run.wait_for_checkpoints(2)
  assert run.said('restarts from checkpoint') == 1 and run.said('restarts from the beginning') == 0


CASES = {each.__name__: each for each in (down, hung, lost)}


def plant_orphans(run):
  """Files of an attempt that is over, as a worker leaves them that is killed before its checkpoint is complete."""
  [job] = os.listdir(run.checkpoint_root)
  names = ['v0.0.1-9999.base', 'v0.0.1-9999.delta', 'v4.1.1-9998.delta']
  for name in names:
    with open(os.path.join(run.checkpoint_root, job, 'state', name), 'wb') as file:
      file.write(b'of a checkpoint that was never complete')
  return job


def orphans(run, job, attempt):
  """Of attempts before this one."""
  state = os.path.join(run.checkpoint_root, job, 'state')
  written = {name for name in os.listdir(state) if int(name.split('.')[2].split('-')[0]) < attempt}
  needed = set()
  for path in run.checkpoints():
    try:
      needed |= {os.path.basename(file) for file in recovery_cases.files_of(path)}
    except FileNotFoundError:
      return {'a checkpoint that went meanwhile'}
  return written - needed


def main(case):
  directory = tempfile.mkdtemp(prefix='weir-outage-')
  try:
    with S3Server() as store, WeirServer(workers=2, environment=store.environment) as server:
      run = recovery_cases.Run(server, directory)
      run.deadline += OUTAGE_SECONDS
      run.checkpoint_root = os.path.join(store.files, 'checkpoints')
      run.options = ['--state_backend_storage_path=' + store.root]
      try:
        run.start(recovery_cases.boot_script(directory), INTERVAL_MS)
        run.wait_for_checkpoints(1)
        job = plant_orphans(run)
        CASES[case](run, store)
        if case != 'lost':
          assert run.said('restarts from') == 0, 'the job went back:\n%s' % run.output()[-3000:]
          recovery_cases.worker(run)
        run.wait_for_checkpoints(1)
        run.wait_for('the end of orphaned files', lambda: orphans(run, job, 2) == set())
        run.finish()
      finally:
        run.end()
      recovery_cases.check(run)
      assert not os.path.exists(run.checkpoint_root) or os.listdir(run.checkpoint_root) == []
  finally:
    shutil.rmtree(directory, ignore_errors=True)
  print('each number counted once')


if __name__ == '__main__':
  main(sys.argv[1])
