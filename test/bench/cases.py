"""The pipelines of the benchmark, and the client process that submits one of them.

    python test/bench/cases.py CASE --endpoint HOST:PORT [--size N] [--input FILE]

Prints one JSON line: wall seconds from submit to DONE, the CPU seconds of this process meanwhile (client and, by
LOOPBACK, the SDK harness), and whether the result is right. A small job goes first, so that connections, imports and
the runner's own first-job costs are not in the measurement.
"""
import argparse
import glob
import json
import os
import re
import shutil
import sys
import tempfile
import time

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import window
import streaming_cases
from sizes import CASES
from sizes import STREAMING_CASES

VALUE_BYTES = 90
SEGMENTS = 100


class Generate(beam.DoFn):
  """Keyed elements of about 100 bytes: (8 bytes of key, 90 of value)."""
  def __init__(self, size, key_count, value_bytes=VALUE_BYTES):
    self._size = size
    self._key_count = key_count
    self._value_bytes = value_bytes

  def process(self, segment):
    first, last = self._size * segment // SEGMENTS, self._size * (segment + 1) // SEGMENTS
    filler = b'v' * (self._value_bytes - 8)
    for index in range(first, last):
      # A multiplicative hash, so that neighbours have different keys.
      yield b'%08d' % (index * 2654435761 % self._key_count), b'%08d' % index + filler


class Count(beam.DoFn):
  """Counts what has arrived, in metrics, so that the client can tell whether all of it came."""
  def __init__(self, weigh=None):
    self._weigh = weigh
    self._elements = Metrics.counter('bench', 'elements')

  def process(self, element):
    self._elements.inc(self._weigh(element) if self._weigh else 1)
    return ()


def _values(key_and_values):
  return sum(1 for _ in key_and_values[1])


def generated(pipeline, size, key_count, value_bytes=VALUE_BYTES):
  return (
      pipeline | beam.Create(range(SEGMENTS), reshuffle=False)
      | beam.ParDo(Generate(size, key_count, value_bytes)).with_output_types(tuple[bytes, bytes]))


def build(case, pipeline, size, arguments):
  """Applies the case. Returns the count that the metric must show, or None."""
  if case in STREAMING_CASES:
    return streaming_cases.build(case, pipeline, size)
  if case == 'tiny':
    _ = pipeline | beam.Create(list(range(size))) | beam.Map(lambda x: x + 1) | beam.ParDo(Count())
    return size
  if case == 'wordcount':
    _ = (
        pipeline | beam.io.ReadFromText(arguments.input)
        | beam.FlatMap(lambda line: re.findall(r"[\w\']+", line, re.UNICODE)).with_output_types(str)
        | beam.Map(lambda word: (word, 1)) | beam.CombinePerKey(sum)
        | beam.MapTuple(lambda word, count: '%s: %d' % (word, count)) | beam.io.WriteToText(arguments.output))
    return None
  if case.startswith('gbk_'):
    key_count = 4 if case == 'gbk_4_keys' else max(1, size // 10)
    _ = generated(pipeline, size, key_count) | beam.GroupByKey() | beam.ParDo(Count(_values))
    return size
  if case == 'reshuffle_5':
    elements = generated(pipeline, size, max(1, size // 10))
    for step in range(5):
      # A step of the user's between two of them, so that no runner may take several for one.
      elements = elements | 'Reshuffle%d' % step >> beam.Reshuffle() | 'Step%d' % step >> beam.Map(lambda kv: kv)
    _ = elements | beam.ParDo(Count())
    return size
  if case == 'side_input_dict':
    entries = pipeline | 'Entries' >> beam.Create([0]) | beam.FlatMap(lambda _: ((n, n * 7) for n in range(size)))
    _ = (
        pipeline | 'Main' >> beam.Create([0]) | 'MainElements' >> beam.FlatMap(lambda _: range(size))
        | beam.Map(lambda n, table: table[n], beam.pvalue.AsDict(entries)) | beam.ParDo(Count()))
    return size
  if case == 'fixed_windows':
    _ = (
        generated(pipeline, size, 1000)
        | beam.Map(lambda kv: window.TimestampedValue((kv[0], 1), int(kv[1][:8]) % 3600))
        | beam.WindowInto(window.FixedWindows(60)) | beam.GroupByKey() | beam.ParDo(Count(_values)))
    return size
  raise ValueError(case)


def options_for(endpoint, extra=()):
  return PipelineOptions(['--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=LOOPBACK', *extra])


def run(case, size, arguments):
  pipeline = beam.Pipeline(
      options=options_for(arguments.endpoint, ['--streaming'] if STREAMING_CASES.get(case) else []))
  expected = build(case, pipeline, size, arguments)
  wall, cpu = time.monotonic(), time.process_time()
  result = pipeline.run()
  state = result.wait_until_finish()
  measured = {'wall_seconds': time.monotonic() - wall, 'sdk_cpu_seconds': time.process_time() - cpu, 'state': state}
  if expected is not None:
    counters = result.metrics().query(MetricsFilter().with_name('elements'))['counters']
    counted = sum(counter.result or 0 for counter in counters)
    measured['correct'] = counted == expected
    measured['counted'] = counted
  else:
    counted = 0
    for shard in glob.glob(arguments.output + '-*'):
      with open(shard, encoding='utf-8') as lines:
        counted += sum(int(line.rpartition(': ')[2]) for line in lines)
    measured['correct'] = counted == size
    measured['counted'] = counted
  return measured


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('case', choices=CASES)
  parser.add_argument('--endpoint', required=True)
  parser.add_argument('--size', type=int)
  parser.add_argument('--input')
  arguments = parser.parse_args()
  directory = tempfile.mkdtemp(prefix='weir-bench-')
  arguments.output = os.path.join(directory, 'output')
  try:
    run('tiny', 3, arguments)
    print('measuring', flush=True)
    sys.stdin.readline()  # The parent takes its first reading of the runner's CPU now.
    measured = run(arguments.case, arguments.size or CASES[arguments.case][0], arguments)
    print(json.dumps(measured), flush=True)
  finally:
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == '__main__':
  main()
