"""Takes a savepoint of a streaming job, and has another job go on from it elsewhere: python savepoint_cases.py CASE.

recovery_counts.py is submitted and left alone by its client. In the end each number was counted once, by the two jobs
together. The second job runs on another job server, with another parallelism on another number of workers. Cases:

  stop  `weir stop --savepoint` to S3, in a folder that Weir chooses: nothing is processed behind the savepoint, so that
        nothing comes twice
  take  `weir savepoint` to a folder; the job goes on, and takes checkpoints; then everything is killed by kill -9, and
        the disk of the job server is wiped
"""
import os
import shutil
import signal
import subprocess
import sys

import apache_beam as beam

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
import recovery_counts  # noqa: E402
from client_process import process_environment  # noqa: E402
from recovery_cases import NUMBER_COUNT, NUMBERS_BETWEEN_HARMS, check_results  # noqa: E402
from server_cases import LOG_PATH, play  # noqa: E402
from weir_server import WeirServer, child_environment, weir_command  # noqa: E402

COMMAND_SECONDS = 120


def weir(run, *words):
  """What the command prints."""
  ended = subprocess.run([*weir_command(), *words, '--job-endpoint', run.server.endpoint], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, check=False, timeout=COMMAND_SECONDS, env=child_environment())
  assert ended.returncode == 0, '%r: %s%s' % (words, ended.stdout, ended.stderr)
  return ended.stdout.strip()


def stop(run):
  run.use_store()
  storage = '--state_backend_storage_path=' + run.store.root
  run.submit([*process_environment(run.directory, HERE), storage])
  run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
  run.wait_for_checkpoints(2)
  path = weir(run, 'stop', '--savepoint', run.job_id)
  assert path.startswith(run.store.root + '/savepoints/' + run.job_id), path
  run.wait_for('the end of the job', lambda: run.watcher.states[-1:] == ['DONE'])
  counted = sum(run.counts().values())
  print('stopped after %d numbers' % counted, flush=True)
  assert run.checkpoints() == [], 'checkpoints are left: %r' % run.checkpoints()
  go_on(run, path, [storage])
  lines = [tuple(line) for line in run.lines('state')]
  assert len(lines) == len(set(lines)), 'counted again: %r' % sorted(line for line in set(lines) if lines.count(line) > 1)
  weir_lines = subprocess.run([*weir_command(), 'checkpoint', 'verify', path], stdout=subprocess.PIPE, text=True,
                              check=False, timeout=COMMAND_SECONDS, env=child_environment(**run.store.environment))
  assert weir_lines.returncode == 0, weir_lines.stdout


def take(run):
  run.submit_process()
  run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
  upgrade_check(run)
  path = os.path.join(run.directory, 'savepoint')
  assert weir(run, 'savepoint', run.job_id, path) == path
  run.finalized_before = len(run.lines('positions'))
  run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
  run.wait_for_checkpoints(3)
  run.server.kill(with_children=True)
  for harness in run.harnesses():
    os.kill(harness, signal.SIGKILL)
  run.watcher.close()
  shutil.rmtree(run.server.directory)
  go_on(run, path, [])


class Forget(beam.DoFn):
  def __init__(self, _directory):
    super().__init__()

  def process(self, _element):
    pass


def upgrade_check(run):
  """Of the same pipeline, and of one whose windows are others and that lacks a step with state."""
  same, changed = [os.path.join(run.directory, name) for name in ('same.pb', 'changed.pb')]
  write_proto(recovery_counts.counting(run.directory, NUMBER_COUNT, []), same)
  assert weir(run, 'upgrade-check', run.job_id, same) == 'The pipeline can go on from a savepoint of the job.'
  recovery_counts.WINDOW_SECONDS *= 2
  sum_by_timer, recovery_counts.SumByTimer = recovery_counts.SumByTimer, Forget
  try:
    write_proto(recovery_counts.counting(run.directory, NUMBER_COUNT, []), changed)
  finally:
    recovery_counts.WINDOW_SECONDS //= 2
    recovery_counts.SumByTimer = sum_by_timer
  ended = subprocess.run([*weir_command(), 'upgrade-check', run.job_id, changed, '--job-endpoint', run.server.endpoint],
                         stdout=subprocess.PIPE, text=True, check=False, timeout=COMMAND_SECONDS)
  assert ended.returncode == 1, ended
  assert 'has state of "ParDo(SumByTimer)", which the pipeline does not have' in ended.stdout, ended.stdout
  assert 'has other parameters; windows that have begun stay' in ended.stdout, ended.stdout


def write_proto(pipeline, path):
  with open(path, 'wb') as file:
    file.write(pipeline.to_runner_api().SerializeToString())


def go_on(run, path, options):
  """On one worker, with three subtasks."""
  run.server.stop()
  run.watcher.close()
  environment = run.store.environment if run.store is not None else None
  run.server = WeirServer(workers=1, log_path=LOG_PATH, environment=environment)
  run.checkpoint_root = os.path.join(run.server.directory, 'data', 'checkpoints')
  run.submit([*process_environment(run.directory, HERE), *options, '--savepoint_path=' + path], parallelism=3)
  run.wait_for('the savepoint', lambda: run.said('The job goes on from checkpoint') == 1)
  run.wait_for_checkpoints(2)
  run.wait_for_numbers(1)
  open(os.path.join(run.directory, 'finish'), 'wb').close()
  run.wait_for('the end of the stream', lambda: run.watcher.states[-1:] == ['DONE'])
  check_results(run)
  run.wait_for_no_harness()


CASES = {each.__name__: each for each in (stop, take)}


if __name__ == '__main__':
  play(CASES[sys.argv[1]])
