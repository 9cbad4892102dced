"""GroupByKey over 3 GB of input with a runner memory budget of 512 MB: it must finish, and stay under 1 GB.

    python test/bench/gbk_3gb.py [--gigabytes 3] [--worker-memory-mb 512]

Reports the peak resident size of Weir's own processes (job server and workers; by LOOPBACK the SDK harness and the
client are another process). Exit code 1 if the count is wrong or the limit was passed.
"""
import argparse
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
from measured_run import MeasuredRun  # noqa: E402
from weir_server import WeirServer  # noqa: E402

ELEMENT_BYTES = 1000


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--gigabytes', type=float, default=3)
  parser.add_argument('--keys', type=int, default=100_000)
  parser.add_argument('--worker-memory-mb', type=int, default=512)
  parser.add_argument('--limit-mb', type=int, default=1024)
  parser.add_argument('--workers', type=int, default=1)
  arguments = parser.parse_args()
  import apache_beam as beam
  import cases
  size = int(arguments.gigabytes * 1e9 / ELEMENT_BYTES)
  with WeirServer(workers=arguments.workers, arguments=['--worker-memory-mb', str(arguments.worker_memory_mb)]) as server:
    pipeline = beam.Pipeline(options=cases.options_for(server.endpoint))
    _ = (
        cases.generated(pipeline, size, arguments.keys, ELEMENT_BYTES - 10) | beam.GroupByKey()
        | beam.ParDo(cases.Count(cases._values)))
    run = MeasuredRun(server, pipeline)
  print('%.1f GB, %d elements, %d keys, --worker-memory-mb %d: %s' % (
      arguments.gigabytes, size, arguments.keys, arguments.worker_memory_mb, run))
  return run.exit_code(size, arguments.limit_mb)


if __name__ == '__main__':
  sys.exit(main())
