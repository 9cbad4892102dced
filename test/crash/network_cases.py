"""Cuts the network of a streaming job with checkpoints: python network_cases.py CASE.

recovery_counts.py runs on workers that were started apart, each on a machine of its own (machines.py). Nothing ends and
no connection is closed: the cut swallows what is sent. In the end each number was counted once. Cases:

  blink   two workers do not hear each other for two seconds: the job goes on as if nothing had been
  cut     the same until it is noticed: back to a checkpoint, again and again until the network is whole
  away    one of three workers hears nobody, the job server no more than the others: another one takes its place, and
          it ends its harnesses by itself, since nobody can; when it is back it is one of the workers
"""
import os
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
from machines import Network  # noqa: E402
from recovery_cases import NUMBERS_BETWEEN_HARMS  # noqa: E402
from server_cases import SubmittedRun, finish  # noqa: E402
from weir_server import WeirServer, weir_command  # noqa: E402

BLINK_SECONDS = 2


class NetworkRun(SubmittedRun):
  def __init__(self, network, machine_count, directory):
    log_path = os.environ.get('CRASH_LOG')
    super().__init__(WeirServer(workers=0, log_path=log_path, arguments=['--job-host', network.host]), directory)
    self.machines = []
    for number in range(machine_count):
      disk = os.path.join(directory, 'disk-%d' % number)
      os.mkdir(disk)
      machine = network.machine(disk)
      self.machines.append(machine)
      with open(log_path or os.path.join(disk, 'log'), 'ab') as log:
        machine.start([*weir_command(), 'worker', '--coordinator', self.server.endpoint, '--host', machine.address,
                       '--log-format', 'json'], log)

  def harnesses_of(self, machine):
    """Their process ids."""
    pids = set(machine.pids())
    return [pid for pid in self.harnesses() if pid in pids]

  def wait_for_progress(self):
    self.wait_for_checkpoints(2)
    self.wait_for_numbers(NUMBERS_BETWEEN_HARMS)


def blink(run):
  left, right = run.machines
  left.cut_from(right)
  time.sleep(BLINK_SECONDS)
  left.heal_with(right)
  run.wait_for_progress()
  assert run.said('restarts') == 0, run.output()[-3000:]


def cut(run):
  left, right = run.machines
  left.cut_from(right)
  run.wait_for('word of it', lambda: run.said('is cut off from worker') > 0)
  run.wait_for('a restart', lambda: run.said('restarts from checkpoint') > 0)
  left.heal_with(right)
  run.wait_for_progress()


def away(run):
  run.wait_for('harnesses', lambda: len(run.harnesses()) >= 2)
  victim = next(machine for machine in run.machines if run.harnesses_of(machine))
  harnesses = run.harnesses_of(victim)
  worker = min(victim.pids())
  victim.unplug()
  run.wait_for('a restart', lambda: run.said('restarts from checkpoint') > 0)
  assert run.said('no heartbeat for') > 0, run.output()[-3000:]
  run.wait_for_progress()
  run.wait_for('the end of the harnesses that nobody hears', lambda: not run.harnesses_of(victim))
  victim.plug_in()
  print('%d harnesses ended by themselves' % len(harnesses), flush=True)
  run.wait_for_progress()
  assert worker in victim.pids(), 'the worker has ended'


# By the number of their machines.
CASES = {'blink': (blink, 2), 'cut': (cut, 2), 'away': (away, 3)}


def main(name):
  case, machine_count = CASES[name]
  with tempfile.TemporaryDirectory(prefix='weir-crash-') as directory, Network() as network:
    if not network.has_namespaces:
      print('no network namespaces here')
      return
    run = NetworkRun(network, machine_count, directory)
    try:
      run.submit_process()
      run.wait_for_progress()
      case(run)
      finish(run)
      print('restarts: %d' % run.said('restarts from'))
    finally:
      run.close()
  print('each number counted once')


if __name__ == '__main__':
  main(sys.argv[1])
