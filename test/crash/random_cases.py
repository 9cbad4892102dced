"""Harms a streaming job with checkpoints at random times: python random_cases.py SEED HARM_COUNT.

recovery_counts.py runs on two workers under checkpoints 200 ms apart, one or three of them at once. Between harms is a random time, none at all as
well, so that they also hit restarts, restores and job servers that have just begun. In the end each number was counted
once. Harms: kill -9 of a harness, of a worker, of the job server, of the job server with its workers; a worker stands
still for a moment.
"""
import os
import random
import shutil
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
from client_process import process_environment  # noqa: E402
from recovery_cases import NUMBERS_BETWEEN_HARMS, alive, workers_of  # noqa: E402
from server_cases import SubmittedRun, finish  # noqa: E402
from weir_server import WeirServer  # noqa: E402

MAX_PAUSE_SECONDS = 3
MAX_STILL_SECONDS = 2
# Without a complete checkpoint in between.
MAX_TAKEN_UP = 3


def signal_one(chance, pids, number):
  living = [pid for pid in pids if alive(pid)]
  if not living:
    return None
  pid = chance.choice(living)
  try:
    os.kill(pid, number)
  except ProcessLookupError:
    return None
  return pid


def harness(run, chance):
  return signal_one(chance, run.harnesses(), signal.SIGKILL)


def worker(run, chance):
  return signal_one(chance, workers_of(run.server.pid), signal.SIGKILL)


def still(run, chance):
  pid = signal_one(chance, workers_of(run.server.pid), signal.SIGSTOP)
  if pid is not None:
    time.sleep(chance.uniform(0, MAX_STILL_SECONDS))
    signal_one(chance, [pid], signal.SIGCONT)
  return pid


def server(run, _chance):
  return replace_server(run, with_workers=False)


def server_and_workers(run, _chance):
  return replace_server(run, with_workers=True)


def replace_server(run, with_workers):
  # A job that comes to no checkpoint under one job server after the other is given up, and rightly so.
  if run.taken_up == MAX_TAKEN_UP:
    # The second is written when the job server has noted the first: a manifest is there a moment before that. Not two
    # at once: ids of checkpoints that were given up are passed over.
    run.wait_for_checkpoints(1)
    run.wait_for_checkpoints(1)
    run.taken_up = 0
  pid = run.server.pid
  run.replace_server(with_workers=with_workers)
  run.taken_up += 1
  return pid


HARMS = (harness, worker, worker, still, server, server_and_workers)


def main(seed, harm_count):
  print('seed %d' % seed, flush=True)
  chance = random.Random(seed)
  directory = tempfile.mkdtemp(prefix='weir-crash-')
  run = SubmittedRun(WeirServer(workers=2, log_path=os.environ.get('CRASH_LOG')), directory)
  run.taken_up = 0
  hits = 0
  try:
    # Harms come faster than the job gets on: this is not about when it gives up.
    concurrent = chance.choice((1, 3))
    print('%d checkpoints at once' % concurrent, flush=True)
    run.submit([*process_environment(directory, HERE), '--number_of_execution_retries=1000',
                '--num_concurrent_checkpoints=%d' % concurrent])
    run.wait_for_checkpoints(1)
    for _ in range(harm_count):
      time.sleep(chance.choice((0, 1, 1)) * chance.uniform(0, MAX_PAUSE_SECONDS))
      harm = chance.choice(HARMS)
      victim = harm(run, chance)
      hits += victim is not None
      print('%s %s after %d numbers' % (harm.__name__, victim, sum(run.counts().values())), flush=True)
    run.wait_for_checkpoints(2)
    run.wait_for_numbers(NUMBERS_BETWEEN_HARMS)
    finish(run)
  finally:
    run.close()
    shutil.rmtree(directory, ignore_errors=True)
  print('seed %d: %d harms hit, %d restarts; each number counted once' % (
      seed, hits, run.said('restarts from') + run.said('The job goes on from')))


if __name__ == '__main__':
  main(int(sys.argv[1]), int(sys.argv[2]))
