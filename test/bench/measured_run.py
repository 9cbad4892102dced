"""One pipeline on a runner that was started for it: how long it took, how many `elements` it counted, and its peak memory."""
import time

from apache_beam.metrics import MetricsFilter
from process_tree import PeakMemory, cpu_seconds


class MeasuredRun:
  """Runs the pipeline to its end."""

  def __init__(self, server, pipeline):
    with PeakMemory(server.pid) as memory:
      started = time.monotonic()
      result = pipeline.run()
      result.wait_until_finish()
      self.seconds = time.monotonic() - started
    counters = result.metrics().query(MetricsFilter().with_name('elements'))['counters']
    self.counted = sum(counter.result or 0 for counter in counters)
    self.peak_mb = memory.peak_bytes / 2**20
    self.cpu_seconds = cpu_seconds(server.pid)

  def __str__(self):
    return '%.1f s, runner CPU %.1f s, peak %.0f MB' % (self.seconds, self.cpu_seconds, self.peak_mb)

  def exit_code(self, wanted, limit_mb):
    """1, and says why, when another number came out or the runner took more memory."""
    if self.counted != wanted:
      print('WRONG: %d of %d came out' % (self.counted, wanted))
      return 1
    if self.peak_mb > limit_mb:
      print('TOO MUCH: the limit is %d MB' % limit_mb)
      return 1
    return 0
