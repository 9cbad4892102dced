"""java_kafka.py on Weir and a real broker: python java_kafka_cases.py HARM...

All records are there from the beginning, and are read at a pace that leaves time for the harms, which come one after the
other. All the time, the offsets that are committed on the broker must not be ahead of the newest complete checkpoint;
after a restart they may go back for a moment, since Beam's read commits behind stable input, which is replayed then. When
all is read they come to the topic's end. Then the job is drained. In the output each record must have been counted once.
Harms:

  java      kill -9 of a Java harness: its bundle runs again, the job does not go back
  worker    kill -9 of a worker: the job goes back to its last checkpoint
"""
import contextlib
import os
import shutil
import signal
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
import java_kafka  # noqa: E402
import kafka_cases  # noqa: E402
import source_positions  # noqa: E402
from client_process import ClientProcess, process_environment  # noqa: E402
from java_expansion import JavaExpansionService  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from numbered_records import Numbering, compare  # noqa: E402
from source_positions import OffsetWatch  # noqa: E402
from weir_server import WeirServer  # noqa: E402

NUMBERING = Numbering(key_count=12, partition_count=2)
JOB_SECONDS = 400
RECORD_COUNT = 30_000
# The pace: one batch of each partition per java_kafka.FETCH_MS.
RECORDS_PER_BATCH = 60


def descends_from(pid, ancestor):
  while pid > 1 and pid != ancestor:
    try:
      with open('/proc/%d/stat' % pid, 'rb') as stat:
        pid = int(stat.read().rpartition(b') ')[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
      return False
  return pid == ancestor


def java_harnesses(server_pid):
  found = []
  for name in os.listdir('/proc'):
    try:
      with open('/proc/%d/cmdline' % int(name), 'rb') as words:
        if b'org.apache.beam.fn.harness.FnHarness' in words.read().split(b'\0'):
          found.append(int(name))
    except (ValueError, FileNotFoundError, ProcessLookupError):
      continue
  return [pid for pid in found if descends_from(pid, server_pid)]


def java(run):
  restarts = run.restarts()
  victim = java_harnesses(run.server.pid)[0]
  os.kill(victim, signal.SIGKILL)
  print('killed Java harness %d' % victim, flush=True)
  run.wait_for_progress()
  assert run.restarts() == restarts, 'the job went back:\n%s' % run.client.output()[-3000:]


HARMS = {'java': java, 'worker': kafka_cases.worker}


def main(harms):
  directory = tempfile.mkdtemp(prefix='weir-kafka-')
  with contextlib.ExitStack() as stack:
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    broker = stack.enter_context(KafkaBroker())
    for topic in ('in', 'counts'):
      broker.create_topic(topic, NUMBERING.partition_count)
    NUMBERING.put(broker, range(RECORD_COUNT), records_per_batch=RECORDS_PER_BATCH)
    expansion = stack.enter_context(JavaExpansionService(directory))
    server = stack.enter_context(WeirServer(workers=2, log_path=os.environ.get('KAFKA_LOG')))
    checkpoints = os.path.join(server.directory, 'data', 'checkpoints')
    arguments = [
        broker.servers, expansion.endpoint, '--runner=PortableRunner', '--job_endpoint=' + server.endpoint,
        '--parallelism=2', '--checkpointing_interval=%d' % kafka_cases.INTERVAL_MS,
        *process_environment(directory, HERE)
    ]
    client = stack.enter_context(
        ClientProcess(os.path.join(HERE, 'java_kafka.py'), arguments, os.path.join(directory, 'client.log'),
                      JOB_SECONDS))
    watch = stack.enter_context(
        contextlib.closing(
            OffsetWatch(broker, checkpoints, java_kafka.GROUP, source_positions.positions_of_java, may_repeat=True)))
    run = kafka_cases.Run(broker, server, client, watch, directory, checkpoints)
    run.wait_for_progress()
    for harm in harms:
      HARMS[harm](run)
      assert watch.committed != broker.ends('in'), 'all was read before the harm was done'
    ends = broker.ends('in')
    client.wait_for('offsets %r' % ends, lambda: watch.committed == ends)
    watch.close()
    watch.check()
    kafka_cases.drain(run)
    again = compare(broker, 'counts', NUMBERING.expected_counts(RECORD_COUNT))
    print('%d records counted once; written again after a crash: %d counts' % (RECORD_COUNT, again))
    print('committed offsets were compared %d times, with %d checkpoints' % (
        watch.comparison_count, len(watch.compared_checkpoints)))


if __name__ == '__main__':
  main(sys.argv[1:])
