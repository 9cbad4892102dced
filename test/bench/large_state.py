"""State larger than a worker's memory: a bag of 1 GB, and bundles that write 1 GB; Weir's own memory must stay small.

    python test/bench/large_state.py [--gigabytes 1] [--keys 1] [--worker-memory-mb 256]

Every element adds 100 values of 1000 bytes to its key's bag; at the end of time a timer reads each bag and counts. With
one key that is one large bag, which comes in pages; with many it is what a bundle has written and not committed.
Reports the peak resident size of Weir's own processes (job server and workers; by LOOPBACK the SDK harness and the
client are another process). Exit code 1 if the count is wrong or the limit was passed.
"""
import argparse
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
import apache_beam as beam  # noqa: E402
import cases  # noqa: E402
from apache_beam.coders import BytesCoder  # noqa: E402
from apache_beam.metrics import Metrics  # noqa: E402
from apache_beam.transforms import userstate  # noqa: E402
from apache_beam.transforms.timeutil import TimeDomain  # noqa: E402
from apache_beam.transforms.window import GlobalWindow  # noqa: E402
from measured_run import MeasuredRun  # noqa: E402
from weir_server import WeirServer  # noqa: E402

VALUE_BYTES = 1000
VALUES_PER_ELEMENT = 100


class Remember(beam.DoFn):
  BAG = userstate.BagStateSpec('bag', BytesCoder())
  END = userstate.TimerSpec('end', TimeDomain.WATERMARK)

  def process(self, element, bag=beam.DoFn.StateParam(BAG), end=beam.DoFn.TimerParam(END)):
    for _ in range(VALUES_PER_ELEMENT):
      bag.add(b'x' * VALUE_BYTES)
    end.set(GlobalWindow().max_timestamp())

  @userstate.on_timer(END)
  def read(self, bag=beam.DoFn.StateParam(BAG)):
    values = Metrics.counter('bench', 'elements')
    for value in bag.read():
      values.inc(len(value) // VALUE_BYTES)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--gigabytes', type=float, default=1)
  parser.add_argument('--keys', type=int, default=1)
  parser.add_argument('--worker-memory-mb', type=int, default=256)
  parser.add_argument('--limit-mb', type=int, default=640)
  parser.add_argument('--option', action='append', default=[], help='a pipeline option, as --option=--streaming')
  arguments = parser.parse_args()
  count = int(arguments.gigabytes * 1e9 / VALUE_BYTES / VALUES_PER_ELEMENT)
  with WeirServer(workers=1, arguments=['--worker-memory-mb', str(arguments.worker_memory_mb)]) as server:
    pipeline = beam.Pipeline(options=cases.options_for(server.endpoint, arguments.option))
    _ = (
        pipeline | beam.Create(range(count), reshuffle=False)
        | beam.Map(lambda index: (b'%d' % (index % arguments.keys), index)).with_output_types(tuple[bytes, int])
        | beam.ParDo(Remember()))
    run = MeasuredRun(server, pipeline)
  print('%.1f GB of state, %d keys, --worker-memory-mb %d: %s' % (
      arguments.gigabytes, arguments.keys, arguments.worker_memory_mb, run))
  return run.exit_code(count * VALUES_PER_ELEMENT, arguments.limit_mb)


if __name__ == '__main__':
  sys.exit(main())
