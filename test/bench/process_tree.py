"""CPU seconds and memory of a process and everything below it, from /proc.

CPU counts children that have exited and were waited for (cutime, cstime). Memory is the sum of resident sizes, so
pages that processes share are counted once for each: it errs against the runner with more processes.
"""
import os
import threading
import time

TICKS_PER_SECOND = os.sysconf('SC_CLK_TCK')


def _stat(pid):
  """(parent pid, CPU ticks of itself and its exited children), or None."""
  try:
    with open('/proc/%d/stat' % pid, 'rb') as stat:
      fields = stat.read().rpartition(b') ')[2].split()
  except (FileNotFoundError, ProcessLookupError):
    return None
  return int(fields[1]), sum(int(field) for field in fields[11:15])


def tree(root):
  """The pids of `root` and its descendants, with their CPU ticks."""
  stats = {}
  for name in os.listdir('/proc'):
    if name.isdigit():
      stat = _stat(int(name))
      if stat:
        stats[int(name)] = stat
  children = {}
  for pid, (parent, _) in stats.items():
    children.setdefault(parent, []).append(pid)
  found, pending = {}, [root]
  while pending:
    pid = pending.pop()
    if pid in stats:
      found[pid] = stats[pid][1]
      pending.extend(children.get(pid, ()))
  return found


def cpu_seconds(root):
  return sum(tree(root).values()) / TICKS_PER_SECOND


def resident_bytes(pids):
  total = 0
  for pid in pids:
    try:
      with open('/proc/%d/statm' % pid, 'rb') as statm:
        total += int(statm.read().split()[1])
    except (FileNotFoundError, ProcessLookupError):
      pass
  return total * os.sysconf('SC_PAGE_SIZE')


class PeakMemory:
  """Samples the resident size of a process tree while it is open; `exclude` says which subtrees are not the runner's."""

  def __init__(self, root, interval_seconds=0.05, exclude=None):
    self.peak_bytes = 0
    self._root = root
    self._interval = interval_seconds
    self._exclude = exclude
    self._closed = threading.Event()
    self._thread = threading.Thread(target=self._sample, daemon=True)

  def _sample(self):
    rounds, pids = 0, ()
    while not self._closed.is_set():
      # Walking all of /proc costs more than reading a few sizes: the tree is looked up again every tenth time.
      if rounds % 10 == 0:
        pids = [pid for pid in tree(self._root) if not (self._exclude and self._exclude(pid))]
      rounds += 1
      self.peak_bytes = max(self.peak_bytes, resident_bytes(pids))
      time.sleep(self._interval)

  def __enter__(self):
    self._thread.start()
    return self

  def __exit__(self, *unused):
    self._closed.set()
    self._thread.join()
