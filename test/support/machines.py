"""Machines for tests that lose some: each is a network namespace with an address of its own and a folder as its disk.

All are on one bridge, whose address is `Network.host`: what is no machine (the broker, the store) listens there. Where
namespaces cannot be made (it takes root), a machine is a group of processes on 127.0.0.1: `Network.has_namespaces`.
"""
import os
import re
import shutil
import signal
import subprocess
import time

from weir_server import child_environment, die_with_parent

PREFIX = 'weirtest'
KILL_SECONDS = 10
NOBODY = '02:00:00:00:00:01'


def ip(*words):
  subprocess.run(['ip', *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                 stderr=subprocess.PIPE, text=True)


def ip_if_there(*words):
  subprocess.run(['ip', *words], check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                 stderr=subprocess.DEVNULL)


def ip_lines(*words):
  found = subprocess.run(['ip', *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True, check=False)
  return found.stdout.splitlines()


def is_alive(pid):
  return os.path.exists('/proc/%d' % pid)


def sweep():
  """Removes what killed runs have left behind."""
  for line in ip_lines('netns', 'list'):
    name = line.split()[0]
    if name.startswith(PREFIX) and not is_alive(int(name.split('-')[1])):
      ip_if_there('netns', 'delete', name)
  for line in ip_lines('-o', 'link'):
    # The bridge, and the cables.
    name = re.match(r'\d+: (wt(\d+)(x\d+)?)[@:]', line)
    if name is not None and not is_alive(int(name[2])):
      subprocess.run(['ip', 'link', 'delete', name[1]], check=False)


class Network:
  """A context manager; machines that are still there when it closes are lost."""

  def __init__(self):
    self._bridge = 'wt%d' % os.getpid()
    self._machine_count = 0
    self._machines = []
    self.host = '127.0.0.1'
    self.has_namespaces = False
    if os.geteuid() != 0 or shutil.which('ip') is None:
      return
    sweep()
    used = {line.split()[3].rpartition('.')[0] for line in ip_lines('-4', '-o', 'address')}
    self._subnet = next(subnet for subnet in ('10.217.%d' % index for index in range(256)) if subnet not in used)
    try:
      ip('link', 'add', self._bridge, 'type', 'bridge')
      ip('address', 'add', self._subnet + '.1/24', 'dev', self._bridge)
      ip('link', 'set', self._bridge, 'up')
      self.has_namespaces = True
      self.host = self._subnet + '.1'
      Machine(self, os.devnull).lose()
    except subprocess.CalledProcessError as failure:
      print('no network namespaces: %s' % failure.stderr.strip(), flush=True)
      self.close()
      self.has_namespaces = False
      self.host = '127.0.0.1'

  def machine(self, directory):
    machine = Machine(self, directory)
    self._machines.append(machine)
    return machine

  def next_number(self):
    self._machine_count += 1
    return self._machine_count

  def namespace(self, number):
    return '%s-%d-%d' % (PREFIX, os.getpid(), number)

  def attach(self, number):
    """Makes the namespace with its cable to the bridge. Returns its address."""
    name, outside, address = self.namespace(number), '%sx%d' % (self._bridge, number), self.address(number)
    ip('netns', 'add', name)
    ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
    ip('link', 'set', outside, 'master', self._bridge, 'up')
    ip('-n', name, 'link', 'set', 'lo', 'up')
    ip('-n', name, 'address', 'add', address + '/24', 'dev', 'eth0')
    ip('-n', name, 'link', 'set', 'eth0', 'up')
    return outside, address

  def address(self, number):
    assert number < 250, 'a network has place for 250 machines'
    return '%s.%d' % (self._subnet, number + 1)

  def close(self):
    for machine in self._machines:
      machine.lose()
    if self.has_namespaces:
      ip_if_there('link', 'delete', self._bridge)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()


class Machine:
  """`directory` is its disk, and goes with it."""

  def __init__(self, network, directory):
    self._network = network
    self._number = network.next_number()
    self.directory = directory
    self.is_lost = False
    self._processes = []
    self._cable = None
    if network.has_namespaces:
      self._cable, self.address = network.attach(self._number)
      self._prefix = ['ip', 'netns', 'exec', network.namespace(self._number)]
    else:
      self.address = '127.0.0.1'
      self._prefix = []

  def start(self, command, log, **environment):
    """The process, with its temporary folder on the machine's disk."""
    temporary = os.path.join(self.directory, 'tmp')
    os.makedirs(temporary, exist_ok=True)
    process = subprocess.Popen(
        [*self._prefix, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        env=child_environment(TMPDIR=temporary, **environment), preexec_fn=die_with_parent)
    self._processes.append(process)
    return process

  def pids(self):
    if self._network.has_namespaces:
      return [int(line) for line in ip_lines('netns', 'pids', self._network.namespace(self._number))]
    return sorted({pid for process in self._processes for pid in descendants(process.pid)})

  def disk_bytes(self):
    """Of all files on its disk."""
    total = 0
    for folder, _, names in os.walk(self.directory):
      for name in names:
        try:
          total += os.lstat(os.path.join(folder, name)).st_size
        except FileNotFoundError:
          pass
    return total

  def unplug(self):
    """From now on nothing of it is heard, not even that its connections have ended."""
    ip('link', 'set', self._cable, 'down')

  def plug_in(self):
    """After `unplug`."""
    ip('link', 'set', self._cable, 'up')

  def cut_from(self, other):
    """From now on the two do not hear each other; all others hear both."""
    for machine, peer in ((self, other), (other, self)):
      # Frames for an address that nobody has: as if the cable were cut, and not a word to those who send.
      ip(*machine.in_namespace(), 'neigh', 'replace', peer.address, 'lladdr', NOBODY, 'nud', 'permanent', 'dev', 'eth0')

  def heal_with(self, other):
    """After `cut_from`."""
    for machine, peer in ((self, other), (other, self)):
      ip(*machine.in_namespace(), 'neigh', 'delete', peer.address, 'dev', 'eth0')

  def in_namespace(self):
    return '-n', self._network.namespace(self._number)

  def lose(self):
    """kill -9 of all its processes, its disk wiped, its address gone. Idempotent."""
    if self.is_lost:
      return
    self.is_lost = True
    deadline = time.monotonic() + KILL_SECONDS
    while True:
      pids = self.pids()
      for pid in pids:
        try:
          os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
          pass
      for process in self._processes:
        process.poll()
      if not pids:
        break
      assert time.monotonic() < deadline, 'processes cannot be killed: %r' % pids
      time.sleep(0.01)
    for process in self._processes:
      process.wait()
    shutil.rmtree(self.directory, ignore_errors=True)
    if self._cable is not None:
      ip_if_there('netns', 'delete', self._network.namespace(self._number))
      # The namespace lives on for as long as connections of its processes do.
      ip_if_there('link', 'delete', self._cable)


def descendants(pid):
  """Of a process, itself first; no zombies."""
  parents = {}
  for name in os.listdir('/proc'):
    if name.isdigit():
      try:
        with open('/proc/%s/stat' % name, 'rb') as stat:
          state, parent = stat.read().rpartition(b') ')[2].split()[:2]
          if state != b'Z':
            parents[int(name)] = int(parent)
      except (FileNotFoundError, ProcessLookupError):
        pass
  found = [pid] if pid in parents else []
  for each in found:
    found.extend(child for child, parent in parents.items() if parent == each)
  return found
