"""Bundles that are given up because a worker is lost tell the user nothing: python abandoned_bundles.py.

Numbers of two keys stand still in a stateful step until there is a file `go`; a worker is killed meanwhile, and the job
restarts. What was running on the other worker asks for its state when it may go on: nobody answers, and the traceback
that its SDK logs is about nothing. In the end each number was counted once. Imported by the harness too (PYTHONPATH).
"""
import os
import sys
import time

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.userstate import CombiningValueStateSpec

from recovery_counts import append

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))

POLL_SECONDS = 0.05
LIMIT_SECONDS = 200
NUMBER_COUNT = 20
KEY_COUNT = 4


class CountLate(beam.DoFn):
  COUNT = CombiningValueStateSpec('count', combine_fn=sum)

  def __init__(self, directory):
    self._directory = directory

  def process(self, element, count=beam.DoFn.StateParam(COUNT)):
    append(self._directory, 'began', '%d' % os.getpid())
    deadline = time.monotonic() + LIMIT_SECONDS
    while not os.path.exists(os.path.join(self._directory, 'go')) and time.monotonic() < deadline:
      time.sleep(POLL_SECONDS)
    count.add(1)
    append(self._directory, 'state', '%d %d' % (element[0], count.read()))


def submit(directory, arguments):
  """Prints the job's id and leaves the job alone."""
  pipeline = beam.Pipeline(options=PipelineOptions(arguments, streaming=True))
  _ = (
      pipeline | beam.Create([(number % KEY_COUNT, number) for number in range(NUMBER_COUNT)])
      | beam.ParDo(CountLate(directory)))
  print(pipeline.run()._job_id, flush=True)
  os._exit(0)


def given_up(run):
  import abandoned_bundles
  from client_process import process_environment
  began = lambda: [line[0] for line in run.lines('began')]
  try:
    run.submit(process_environment(run.directory, HERE), interval_ms=600_000, module=abandoned_bundles, count=())
    run.wait_for('both workers to be busy', lambda: len(set(began())) == 2)
    before = len(began())
    run.kill_worker()
    run.wait_for('a restart', lambda: run.said('restarts from') > 0)
    # Both tasks: on one worker, where the new one came late.
    run.wait_for('the tasks to be busy again', lambda: len(began()) >= before + 2)
    open(os.path.join(run.directory, 'go'), 'wb').close()
    run.wait_for('the end', lambda: run.watcher.states[-1:] == ['DONE'])
    counts = run.counts()
    assert counts == {key: NUMBER_COUNT // KEY_COUNT for key in range(KEY_COUNT)}, counts
    assert run.said('Traceback') == 0, run.output()
  finally:
    open(os.path.join(run.directory, 'go'), 'wb').close()


def main():
  from server_cases import play
  play(given_up)
  print('nobody was told of bundles that were given up')


if __name__ == '__main__':
  main()
