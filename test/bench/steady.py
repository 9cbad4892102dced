"""Steady memory: a streaming pipeline for some minutes; resident size early on and at the end.

    python test/bench/steady.py [--minutes 10] [--per-second 1000] [--peer weir|prism]

An unbounded source at a fixed pace, windows of ten seconds, a count for each key. Prints the resident size of the
runner's processes once a minute (the median of a few seconds). Exit code 1 if the count is wrong or the size at the
end is more than 10 % over that after two minutes (or after a fifth of the time, where that is sooner).
"""
import argparse
import os
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
from bench import prism_binary  # noqa: E402
from process_tree import cpu_seconds, resident_bytes, tree  # noqa: E402
from weir_server import REPOSITORY, PrismServer, WeirServer  # noqa: E402

LIMIT = 1.1
KEYS = 1000


class Sizes(threading.Thread):
  """The resident size of a process tree, each second: (seconds since the beginning, MB)."""

  def __init__(self, pid):
    super().__init__(daemon=True)
    self.samples = []
    self._pid = pid
    self._closed = threading.Event()
    self._began = time.monotonic()

  def run(self):
    while not self._closed.wait(1):
      self.samples.append((time.monotonic() - self._began, resident_bytes(tree(self._pid)) / 2**20))
      if len(self.samples) % 60 == 0:
        print('  minute %2d: %4.0f MB' % (len(self.samples) // 60, self.at(self.samples[-1][0])), flush=True)

  def at(self, seconds, width=10):
    """The median of the last `width` seconds before a time."""
    return statistics.median(
        size for when, size in self.samples if seconds - width <= when <= seconds) if self.samples else 0

  def close(self):
    self._closed.set()
    self.join()


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--minutes', type=float, default=10)
  parser.add_argument('--per-second', type=int, default=1000)
  parser.add_argument('--peer', choices=['weir', 'prism'], default='weir')
  parser.add_argument('--weir-arguments', default='', help='more arguments of weir serve')
  arguments = parser.parse_args()
  import apache_beam as beam
  import cases
  import streaming_cases
  from apache_beam.metrics import MetricsFilter
  if arguments.peer == 'prism':
    prism, why = prism_binary(os.path.join(REPOSITORY, '.cache'))
    if not prism:
      parser.error(why)
    runner = PrismServer(prism)
  else:
    runner = WeirServer(workers=1, arguments=arguments.weir_arguments.split())
  size = int(arguments.minutes * 60 * arguments.per_second)
  with runner as server:
    pipeline = beam.Pipeline(options=cases.options_for(server.endpoint, ['--streaming']))
    _ = streaming_cases.windowed_count(pipeline, size, KEYS, arguments.per_second)
    sizes = Sizes(server.pid)
    sizes.start()
    started = time.monotonic()
    result = pipeline.run()
    result.wait_until_finish()
    seconds = time.monotonic() - started
    sizes.close()
    spent = cpu_seconds(server.pid)
    counters = result.metrics().query(MetricsFilter().with_name('elements'))['counters']
    counted = sum(counter.result or 0 for counter in counters)
  early_seconds = min(120, seconds / 5)
  early, late = sizes.at(early_seconds), sizes.at(sizes.samples[-1][0])
  print('%s: %d elements in %.0f s, runner CPU %.1f s; %.0f MB after %.0f s, %.0f MB at the end (%+.1f %%)' % (
      arguments.peer, size, seconds, spent, early, early_seconds, late, 100 * (late / early - 1)))
  if counted != size:
    print('WRONG: %d of %d elements were counted' % (counted, size))
    return 1
  return 1 if late > early * LIMIT else 0


if __name__ == '__main__':
  sys.exit(main())
