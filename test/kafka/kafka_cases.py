"""kafka_counts.py on Weir and a real broker: python kafka_cases.py HARM...

Records come all the time; on the way the harms come, one after the other. All the time, the offsets that are committed on
the broker must not be ahead of the newest complete checkpoint, and never go back. When no more records come, the first
checkpoint that was begun after they are all counted brings the committed offsets to the topic's end. Then the job is
drained. In the output each record must have been counted once, in state and in its window. Harms:

  harness   kill -9 of an SDK harness: its bundle runs again, the job does not go back
  worker    kill -9 of a worker: the job goes back to its last checkpoint
"""
import contextlib
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
import numbered_records  # noqa: E402
import source_positions  # noqa: E402
from client_process import ClientProcess, process_environment  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from numbered_records import Feed, Numbering, compare  # noqa: E402
from source_positions import OffsetWatch  # noqa: E402
from weir_server import WeirServer, weir_command  # noqa: E402

NUMBERING = Numbering(key_count=12, partition_count=3)
INTERVAL_MS = 1000
JOB_SECONDS = 300
RECORDS_BETWEEN_HARMS = 120
CHECKPOINTS_BETWEEN_HARMS = 2
LEAST_TOTAL = 3000


class Run:
  def __init__(self, broker, server, client, watch, directory, checkpoints):
    self.broker = broker
    self.server = server
    self.client = client
    self.watch = watch
    self.directory = directory
    self.checkpoints = checkpoints

  def counted(self):
    """How many records, those that were counted again after a crash too."""
    return sum(self.broker.ends('counts').values())

  def wait_for_progress(self):
    count, checkpoint = self.counted() + RECORDS_BETWEEN_HARMS, self.watch.newest() + CHECKPOINTS_BETWEEN_HARMS
    self.client.wait_for('%d records' % count, lambda: self.counted() >= count)
    self.client.wait_for('checkpoint %d' % checkpoint, lambda: self.watch.newest() >= checkpoint)
    self.watch.check()

  def restarts(self):
    return self.client.said('the job restarts from checkpoint')


def harness(run):
  restarts = run.restarts()
  pids = [int(path.rpartition('-')[2]) for path in glob.glob(os.path.join(run.directory, 'harness-*'))]
  victim = [pid for pid in pids if os.path.exists('/proc/%d' % pid)][0]
  os.kill(victim, signal.SIGKILL)
  print('killed harness %d' % victim, flush=True)
  run.wait_for_progress()
  assert run.restarts() == restarts, 'the job went back:\n%s' % run.client.output()[-3000:]


def worker(run):
  restarts, count = run.restarts(), run.counted()
  # So that most likely some are counted that no checkpoint has.
  run.client.wait_for('some records', lambda: run.counted() > count)
  found = subprocess.run(['pgrep', '-P', str(run.server.pid)], stdout=subprocess.PIPE, text=True, check=True).stdout
  victim = int(found.split()[0])
  os.kill(victim, signal.SIGKILL)
  print('killed worker %d' % victim, flush=True)
  run.client.wait_for('a restart', lambda: run.restarts() > restarts)
  run.wait_for_progress()


HARMS = {'harness': harness, 'worker': worker}


def first_begun_after(directory, time_ms):
  """Id of a complete checkpoint that was begun after this time, None while there is none."""
  for path in source_positions.manifests(directory):
    try:
      with open(path, encoding='utf-8') as text:
        manifest = json.load(text)
    except FileNotFoundError:
      continue
    if manifest['triggeredMs'] > time_ms:
      return manifest['checkpointId']
  return None


def wait_for_quiet(run, total):
  """All is counted, and the checkpoint after that is complete: the offsets on the broker are the ends."""
  run.client.wait_for('%d records' % total, lambda: len(numbered_records.found(run.broker, 'counts')) >= total)
  counted_ms = time.time() * 1000
  ends = run.broker.ends('in')
  run.client.wait_for('a checkpoint', lambda: first_begun_after(run.checkpoints, counted_ms) is not None)
  covering = first_begun_after(run.checkpoints, counted_ms)
  run.client.wait_for('offsets %r' % ends, lambda: run.watch.committed == ends)
  late = run.watch.newest() - covering
  # It is finalized while the next ones are taken, which need the same harnesses.
  assert late <= 2, 'the offsets came %d checkpoints late' % late
  print('offsets %r are committed at checkpoint %d, all was counted before checkpoint %d' % (
      ends, run.watch.newest(), covering), flush=True)


def drain(run):
  job = os.path.basename(os.path.dirname(source_positions.manifests(run.checkpoints)[-1]))
  subprocess.run([*weir_command(), 'drain', job, '--job-endpoint', run.server.endpoint], check=True)
  run.client.end()
  assert 'DRAINED' in run.client.output(), run.client.output()[-3000:]


def main(harms):
  directory = tempfile.mkdtemp(prefix='weir-kafka-')
  with contextlib.ExitStack() as stack:
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    broker = stack.enter_context(KafkaBroker())
    for topic, partition_count in (('in', NUMBERING.partition_count), ('counts', 2), ('windows', 1)):
      broker.create_topic(topic, partition_count)
    server = stack.enter_context(WeirServer(workers=2, log_path=os.environ.get('KAFKA_LOG')))
    checkpoints = os.path.join(server.directory, 'data', 'checkpoints')
    arguments = [
        broker.servers, str(NUMBERING.partition_count), directory, '--runner=PortableRunner',
        '--job_endpoint=' + server.endpoint, '--parallelism=2', '--checkpointing_interval=%d' % INTERVAL_MS,
        *process_environment(directory, HERE)
    ]
    client = stack.enter_context(
        ClientProcess(os.path.join(HERE, 'kafka_counts.py'), arguments, os.path.join(directory, 'client.log'),
                      JOB_SECONDS))
    feed = stack.enter_context(contextlib.closing(Feed(broker, NUMBERING)))
    watch = stack.enter_context(contextlib.closing(OffsetWatch(broker, checkpoints)))
    run = Run(broker, server, client, watch, directory, checkpoints)
    run.wait_for_progress()
    for harm in harms:
      HARMS[harm](run)
    total = feed.finish(LEAST_TOTAL)
    wait_for_quiet(run, total)
    watch.close()
    watch.check()
    drain(run)
    again = [
        compare(broker, 'counts', NUMBERING.expected_counts(total)),
        compare(broker, 'windows', NUMBERING.expected_windows(total))
    ]
    print('%d records counted once; written again after a crash: %d counts, %d windows' % (total, *again))
    print('committed offsets were compared %d times, with %d checkpoints' % (
        watch.comparison_count, len(watch.compared_checkpoints)))


if __name__ == '__main__':
  main(sys.argv[1:])
