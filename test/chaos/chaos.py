"""The scene that Flink's users know, with machines that are lost: python chaos.py MODE --seed N.

Ten workers, each on a machine of its own (machines.py) with a harness of its own; Kafka in, keyed state, snapshots in S3,
Kafka out (chaos_counts.py). Records come all the time. Whatever happens, the output that is read back from Kafka by key
has no gap and no double, and the offsets that are committed are never ahead of the newest complete checkpoint. Modes:

  machines   at a random moment two of the ten are lost, by kill -9 or with their cables pulled first; their disks are
             wiped, and two new machines start
  harness    kill -9 of a random harness every five seconds, for --seconds; the job must not go back
  server     kill -9 of the job server during a checkpoint, two times; another one on its disk goes on with the same workers
  everything kill -9 of all there is at a random moment, all disks are wiped; new machines and a new job server have the
             store alone
"""
import argparse
import contextlib
import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
KAFKA = os.path.join(HERE, '..', 'kafka')
SUPPORT = os.path.join(HERE, '..', 'support')
sys.path[:0] = [KAFKA, SUPPORT]
import transactional_sink  # noqa: E402
from client_process import process_environment  # noqa: E402
from kafka_broker import KafkaBroker  # noqa: E402
from machines import Network  # noqa: E402
from numbered_records import Feed, Numbering, compare  # noqa: E402
from output_watch import OutputWatch  # noqa: E402
from s3_server import S3Server  # noqa: E402
from source_positions import OffsetWatch  # noqa: E402
from submitted_job import SubmittedJob  # noqa: E402
from weir_server import WeirServer, weir_command  # noqa: E402

WORKER_COUNT = 10
NUMBERING = Numbering(key_count=100, partition_count=WORKER_COUNT)
INTERVAL_MS = 1000
# Beside the harms: for all machines to start, and to come back.
JOB_SECONDS = 500
RECORDS_PER_STEP = 20
# Between the first results and the harm, and after it.
CHECKPOINTS_BETWEEN = 2
RANDOM_SECONDS = 3
HARNESS_PAUSE_SECONDS = 5


BEGAN = time.monotonic()


def say(text):
  print('%5.1f s  %s' % (time.monotonic() - BEGAN, text), flush=True)


class Scene:
  """All that runs, from the broker to those who watch the job."""

  def __init__(self, stack, random_source, seconds, log_directory):
    self._log_directory = log_directory
    self._stack = stack
    self.random = random_source
    self.directory = tempfile.mkdtemp(prefix='weir-chaos-')
    stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
    self.network = stack.enter_context(Network())
    self.broker = stack.enter_context(KafkaBroker(self.network.host))
    for topic in ('in', 'counts'):
      self.broker.create_topic(topic, NUMBERING.partition_count)
    self.store = stack.enter_context(S3Server(self.network.host))
    self.server = None
    stack.callback(lambda: self.server.stop())
    self.start_server()
    self.machines = [self.start_machine() for _ in range(WORKER_COUNT)]
    arguments = [
        self.broker.servers,
        str(NUMBERING.partition_count), self.directory, '--runner=PortableRunner',
        '--job_endpoint=' + self.server.endpoint,
        '--parallelism=%d' % WORKER_COUNT,
        '--checkpointing_interval=%d' % INTERVAL_MS,
        '--state_backend_storage_path=' + self.store.root, *process_environment(
            self.directory, os.pathsep.join([HERE, KAFKA, SUPPORT]))
    ]
    self.job = stack.enter_context(
        SubmittedJob(
            self.server.endpoint, os.path.join(HERE, 'chaos_counts.py'), arguments, [HERE, KAFKA, SUPPORT],
            self._log_path('client'), JOB_SECONDS + seconds))
    self.feed = stack.enter_context(contextlib.closing(Feed(self.broker, NUMBERING, RECORDS_PER_STEP)))
    self.output = stack.enter_context(contextlib.closing(OutputWatch(self.broker, NUMBERING)))
    self.offsets = stack.enter_context(
        contextlib.closing(OffsetWatch(self.broker, os.path.join(self.store.files, 'checkpoints'))))

  def _log_path(self, name):
    return os.path.join(self._log_directory or self.directory, name + '.log')

  def start_server(self, *arguments):
    """Also one in the place of one that was killed: on its disk, if that is still there."""
    directory, port = (None, None) if self.server is None else (self.server.directory, self.server.endpoint.rpartition(':')[2])
    if directory is not None:
      os.makedirs(directory, exist_ok=True)
    self.server = WeirServer(
        workers=0, arguments=['--job-host', self.network.host, *arguments], environment=self.store.environment,
        log_path=self._log_path('server'), directory=directory, job_port=port)

  def goes_on(self, times):
    """After the job server was replaced for the `times`-th time."""
    self.job.follow(self.server.endpoint)
    self.wait_for('the job to go on', lambda: self.job.said('The job goes on from checkpoint') == times)

  def is_in_checkpoint(self):
    """Whether there are files of a checkpoint that is not complete."""
    newest = self.offsets.newest()
    files = glob.glob(os.path.join(self.offsets.directory, '*', 'state', '*'))
    return any(int(re.search(r'-(\d+)\.', os.path.basename(name))[1]) > newest for name in files)

  def start_machine(self):
    disk = tempfile.mkdtemp(prefix='machine-', dir=self.directory)
    machine = self.network.machine(disk)
    with open(self._log_path(os.path.basename(disk)), 'ab') as log:
      machine.start([*weir_command(), 'worker', '--coordinator', self.server.endpoint, '--host', machine.address], log,
                    **self.store.environment)
    return machine

  def wait_for(self, what, is_so):
    def is_well_and_so():
      self.output.check()
      self.offsets.check()
      return is_so()

    self.job.wait_for(what, is_well_and_so)

  def wait_for_progress(self):
    """Newer results, of sources and state as of newer checkpoints."""
    count, checkpoint = self.output.count + 1, self.offsets.newest() + CHECKPOINTS_BETWEEN
    self.wait_for('%d records' % count, lambda: self.output.count >= count)
    self.wait_for('checkpoint %d' % checkpoint, lambda: self.offsets.newest() >= checkpoint)

  def restored(self):
    """Snapshot files that tasks were restored from so far: (as a copy of their machine's own disk, from the store)."""
    local, fetched = 0, 0
    for name in glob.glob(self._log_path('machine-*')):
      with open(name, encoding='utf-8') as log:
        for line in log:
          if 'state is restored' in line:
            entry = json.loads(line)
            local, fetched = local + entry['local'], fetched + entry['fetched']
    return local, fetched

  def restarts(self):
    return self.job.said(' restarts from ')

  def harnesses(self):
    names = [name for name in os.listdir(self.directory) if name.startswith('harness-')]
    return [pid for pid in (int(name.rpartition('-')[2]) for name in names) if os.path.exists('/proc/%d' % pid)]

  def finish(self):
    """All that was written is counted once, and then the job is drained. Returns how many records there were."""
    say('the job goes on well: no more records')
    total = self.feed.finish(0)
    self.wait_for('%d records' % total, lambda: self.output.count >= total)
    ends = self.broker.ends('in')
    self.wait_for('offsets %r' % ends, lambda: self.offsets.committed == ends)
    say('%d records, offsets committed' % total)
    self.offsets.close()
    subprocess.run([*weir_command(), 'drain', self.job.id, '--job-endpoint', self.server.endpoint], check=True,
                   stdout=subprocess.DEVNULL)
    state = self.job.end()
    assert state == 'DRAINED', '%s:\n%s' % (state, self.job.output()[-3000:])
    self.output.close()
    self.output.check()
    assert self.output.count == total, 'of %d records %d came out' % (total, self.output.count)
    # Once more from the beginning, as someone does who comes later.
    assert compare(self.broker, 'counts', NUMBERING.expected_counts(total)) == 0
    return total


def lose_machines(scene):
  time.sleep(scene.random.uniform(0, RANDOM_SECONDS))
  victims = scene.random.sample(scene.machines, 2)
  is_unplugged = scene.network.has_namespaces and scene.random.random() < 0.5
  restarts = scene.restarts()
  count, newest, lost = scene.output.count, scene.offsets.newest(), time.monotonic()
  disk_bytes = sum(victim.disk_bytes() for victim in victims)
  for victim in victims:
    if is_unplugged:
      victim.unplug()
    victim.lose()
    scene.machines.remove(victim)
  say('lost 2 of %d machines %sby kill -9, with %d bytes on their disks, after %d records and checkpoint %d' % (
      WORKER_COUNT, 'with cables pulled, then ' if is_unplugged else '', disk_bytes, count, newest))
  scene.machines.extend(scene.start_machine() for _ in victims)
  scene.wait_for('a restart', lambda: scene.restarts() > restarts)
  told, count = time.monotonic(), scene.output.count
  scene.wait_for('a record', lambda: scene.output.count > count)
  say('the job knew it after %.1f s, and went on writing %.1f s later' % (
      told - lost, scene.output.arrived - told))
  scene.wait_for_progress()
  local, fetched = scene.restored()
  say('tasks were restored from %d files of their machines and %d of the store' % (local, fetched))
  assert local > 0 and fetched > 0


def machines(scene, _seconds):
  scene.wait_for_progress()
  say('%d records and %d checkpoints' % (scene.output.count, scene.offsets.newest()))
  lose_machines(scene)


def harness(scene, seconds):
  scene.wait_for_progress()
  until, kills = time.monotonic() + seconds, 0
  while time.monotonic() < until:
    pause = time.monotonic() + HARNESS_PAUSE_SECONDS
    os.kill(scene.random.choice(scene.harnesses()), signal.SIGKILL)
    kills += 1
    scene.wait_for('the next kill', lambda end=pause: time.monotonic() >= end)
  say('killed %d harnesses in %d s' % (kills, seconds))
  scene.wait_for_progress()
  assert scene.restarts() == 0, 'the job went back:\n%s' % scene.client.output()[-3000:]


def server(scene, _seconds):
  for number in range(1, 3):
    scene.wait_for_progress()
    time.sleep(scene.random.uniform(0, RANDOM_SECONDS))
    scene.wait_for('a checkpoint', scene.is_in_checkpoint)
    count, newest = scene.output.count, scene.offsets.newest()
    scene.server.kill()
    say('killed the job server during a checkpoint after number %d, with %d records' % (newest, count))
    scene.start_server()
    scene.goes_on(number)
    say('the next job server has the job')
    scene.wait_for_progress()


def everything(scene, _seconds):
  scene.wait_for_progress()
  time.sleep(scene.random.uniform(0, RANDOM_SECONDS))
  count, newest = scene.output.count, scene.offsets.newest()
  scene.server.kill(with_children=True)
  for victim in scene.machines:
    victim.lose()
  shutil.rmtree(scene.server.directory)
  say('killed everything after %d records and checkpoint %d, and wiped all disks' % (count, newest))
  scene.start_server('--recover-from', scene.store.root)
  scene.machines = [scene.start_machine() for _ in range(WORKER_COUNT)]
  scene.goes_on(1)
  scene.wait_for_progress()


MODES = {each.__name__: each for each in (machines, harness, server, everything)}


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('mode', choices=MODES)
  parser.add_argument('--seed', type=int, required=True)
  parser.add_argument('--seconds', type=int, default=0)
  parser.add_argument('--logs', help='a folder for the logs of all processes')
  options = parser.parse_args()
  if options.logs is not None:
    os.makedirs(options.logs, exist_ok=True)
  with contextlib.ExitStack() as stack:
    scene = Scene(stack, random.Random(options.seed), options.seconds, options.logs)
    MODES[options.mode](scene, options.seconds)
    total = scene.finish()
    again, restarts = transactional_sink.written_again(scene.broker, 'counts'), scene.restarts()
    where = 'network namespaces' if scene.network.has_namespaces else 'plain processes'
  say('seed %d, %s: %d records, no gap, no double (%d came to the sink again); %d machines as %s, %d restarts' % (
      options.seed, options.mode, total, again, WORKER_COUNT, where, restarts))


if __name__ == '__main__':
  main()
