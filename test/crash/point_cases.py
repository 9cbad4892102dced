"""Kills processes at named points of the checkpoint protocol: python point_cases.py POINT...

recovery_counts.py runs on two workers under checkpoints; at each point (runner/base/crash-points.ts) the process that
comes to it ends by SIGKILL, and what takes its place goes on. In the end each number was counted once and no source
was finalized beyond the checkpoint that the job went back to.
"""
import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
from recovery_cases import NUMBERS_BETWEEN_HARMS  # noqa: E402
from server_cases import SubmittedRun, finish  # noqa: E402
from weir_server import WeirServer  # noqa: E402

SERVER_POINTS = ('before-manifest', 'after-manifest')


def at(run, point, points):
  """Arms the point, and waits until a process has died there and the job runs again."""
  path = os.path.join(points, point)
  open(path, 'wb').close()
  goes_on = run.said('The job goes on from checkpoint')
  restarts = run.said('restarts from checkpoint')
  if point == 'during-restore':
    run.kill_worker()
  run.wait_for('a process at the point ' + point, lambda: not os.path.exists(path))
  print('killed at the point %s after %d numbers' % (point, sum(run.counts().values())), flush=True)
  if point in SERVER_POINTS:
    run.wait_for('the end of the job server', lambda: run.server.process.poll() is not None)
    run.replace_server()
    run.wait_for('the next job server', lambda: run.said('The job goes on from checkpoint') > goes_on)
  else:
    wanted = restarts + (2 if point == 'during-restore' else 1)
    run.wait_for('a restart', lambda: run.said('restarts from checkpoint') >= wanted)
  run.wait_for_checkpoints(2)
  run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)


def main(names):
  directory = tempfile.mkdtemp(prefix='weir-crash-')
  points = os.path.join(directory, 'points')
  os.mkdir(points)
  # For the job server and, from it, for its workers.
  os.environ['WEIR_CRASH_POINTS'] = points
  run = SubmittedRun(WeirServer(workers=2, log_path=os.environ.get('CRASH_LOG')), directory)
  try:
    run.submit_process()
    run.wait_for_checkpoints(2)
    for name in names:
      at(run, name, points)
    finish(run)
  finally:
    run.close()
    shutil.rmtree(directory, ignore_errors=True)
  print('killed at %d points, from the beginning: %d' % (len(names), run.said('from the beginning')))
  print('each number counted once')


if __name__ == '__main__':
  main(sys.argv[1:])
