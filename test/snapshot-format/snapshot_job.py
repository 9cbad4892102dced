"""A streaming job whose state is of every kind that Python has, for snapshots that later versions of Weir must restore.

Two sources give the numbers 0 to 79, number n at second n. Half of them come before the snapshot, and nothing but early
panes has come out then: all else that the job writes is made of what the snapshot holds. What it writes is known by hand.

  snapshot_job.py write ENDPOINT FOLDER           writes FOLDER/savepoint and FOLDER/in-flight (which must not be there)
  snapshot_job.py restore ENDPOINT PATH PARALLELISM
                                                  goes on from a snapshot, to the end, and checks what comes out
"""
import collections
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import apache_beam as beam
from apache_beam import coders
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import trigger, userstate, window
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.utils.timestamp import Duration, Timestamp

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from weir_server import child_environment, weir_command  # noqa: E402

NUMBER_COUNT = 80
SHARD_COUNT = 2
KEY_COUNT = 4
WINDOW_SECONDS = 60
GAP_SECONDS = 15
EARLY_COUNT = 4
PARALLELISM = 2
# A shard's numbers come in steps, so that there are checkpoints between them, which write deltas.
NUMBERS_PER_STEP = 4
STEP_SECONDS = 0.3
INTERVAL_MS = 600
# Set before the snapshot, and due after it. A snapshot that was just written has to be as old before it is restored.
DUE_SECONDS = 60
# Larger than what is kept in one row, and small when compressed.
LARGE_KEY = 3
LARGE_ELEMENTS = 30
LARGE_ELEMENT_BYTES = 50_000
BLOCKING_NUMBER = 21
WAIT_SECONDS = 100


def append(directory, name, *words):
  descriptor = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.write(descriptor, (' '.join(map(str, words)) + '\n').encode())
  os.close(descriptor)


def lines(directory, name):
  path = os.path.join(directory, name)
  if not os.path.exists(path):
    return []
  with open(path, encoding='utf-8') as text:
    return [tuple(line.split()) for line in text if line.endswith('\n')]


class RangeCoder(coders.Coder):
  """No pickle is in a snapshot: what Python makes of one is not what is tested."""

  def encode(self, value):
    return b'%d %d' % (value.start, value.stop)

  def decode(self, encoded):
    return OffsetRange(*map(int, encoded.split()))

  def is_deterministic(self):
    return True


class Watermarks(WatermarkEstimatorProvider):

  def initial_estimator_state(self, element, restriction):
    return Timestamp(0)

  def create_watermark_estimator(self, estimator_state):
    return ManualWatermarkEstimator(estimator_state)

  def estimator_state_coder(self):
    return coders.TimestampCoder()


class Numbers(beam.DoFn, RestrictionProvider):
  """The shard's numbers, those below `stop` of them."""

  def __init__(self, directory, stop):
    self._directory = directory
    self._stop = stop // SHARD_COUNT

  def initial_restriction(self, shard):
    return OffsetRange(0, NUMBER_COUNT // SHARD_COUNT)

  def create_tracker(self, restriction):
    return OffsetRestrictionTracker(restriction)

  def restriction_size(self, shard, restriction):
    return restriction.size()

  def restriction_coder(self):
    return RangeCoder()

  @beam.DoFn.unbounded_per_element()
  def process(self, shard, tracker=beam.DoFn.RestrictionParam(), watermark=beam.DoFn.WatermarkEstimatorParam(Watermarks())):
    position = tracker.current_restriction().start
    append(self._directory, 'positions', shard, position)
    end = min(position + NUMBERS_PER_STEP, self._stop)
    while position < end and tracker.try_claim(position):
      number = position * SHARD_COUNT + shard
      watermark.set_watermark(Timestamp(number))
      yield window.TimestampedValue((number % KEY_COUNT, number), Timestamp(number))
      position += 1
    if position < NUMBER_COUNT // SHARD_COUNT:
      tracker.defer_remainder(Duration(STEP_SECONDS))
    else:
      tracker.try_claim(position)


class Sum(beam.CombineFn):
  """With a number as its accumulator."""

  def create_accumulator(self):
    return 0

  def add_input(self, accumulator, number):
    return accumulator + number

  def merge_accumulators(self, accumulators):
    return sum(accumulators)

  def extract_output(self, accumulator):
    return accumulator


class Remember(beam.DoFn):
  KEY = userstate.ReadModifyWriteStateSpec('key', coders.VarIntCoder())
  SUM = userstate.CombiningValueStateSpec('sum', coders.VarIntCoder(), Sum())
  TEXTS = userstate.BagStateSpec('texts', coders.StrUtf8Coder())
  TENS = userstate.SetStateSpec('tens', coders.VarIntCoder())
  LIST = userstate.OrderedListStateSpec('list', coders.VarIntCoder())
  LARGE = userstate.BagStateSpec('large', coders.BytesCoder())
  END = userstate.TimerSpec('end', TimeDomain.WATERMARK)
  DUE = userstate.TimerSpec('due', TimeDomain.REAL_TIME)

  def __init__(self, directory):
    self._directory = directory

  def process(self,
              element,
              in_window=beam.DoFn.WindowParam,
              key=beam.DoFn.StateParam(KEY),
              total=beam.DoFn.StateParam(SUM),
              texts=beam.DoFn.StateParam(TEXTS),
              tens=beam.DoFn.StateParam(TENS),
              ordered=beam.DoFn.StateParam(LIST),
              large=beam.DoFn.StateParam(LARGE),
              end=beam.DoFn.TimerParam(END),
              due=beam.DoFn.TimerParam(DUE)):
    number = element[1]
    if number < KEY_COUNT:
      due.set(Timestamp.of(time.time()) + Duration(DUE_SECONDS))
    if number == LARGE_KEY:
      for index in range(LARGE_ELEMENTS):
        large.add(bytes([index]) * LARGE_ELEMENT_BYTES)
    key.write(element[0])
    total.add(number)
    texts.add('number %d' % number)
    tens.add(number // 10)
    ordered.add((Timestamp(-number), number))
    # By a tag for each half of the window, beside the one without.
    end.set(in_window.max_timestamp())
    end.set(in_window.max_timestamp(), dynamic_timer_tag='odd' if number // KEY_COUNT % 2 else 'even')
    append(self._directory, 'seen', number)
    yield element

  @userstate.on_timer(END)
  def write(self,
            in_window=beam.DoFn.WindowParam,
            tag=beam.DoFn.DynamicTimerTagParam,
            key=beam.DoFn.StateParam(KEY),
            total=beam.DoFn.StateParam(SUM),
            texts=beam.DoFn.StateParam(TEXTS),
            tens=beam.DoFn.StateParam(TENS),
            ordered=beam.DoFn.StateParam(LIST),
            large=beam.DoFn.StateParam(LARGE)):
    numbers = [int(text.split()[1]) for text in texts.read()]
    sizes = {(value[0], len(value)) for value in large.read()}
    append(self._directory, 'results', 'end', int(in_window.start), key.read(), tag or '-', total.read(), plain(sorted(numbers)),
           plain(sorted(tens.read())), plain([value for _, value in ordered.read()]), len(sizes),
           sum(size for _, size in sizes))

  @userstate.on_timer(DUE)
  def due(self, key=beam.DoFn.StateParam(KEY)):
    append(self._directory, 'results', 'due', key.read())


class Block(beam.DoFn):
  """Stands still with one number, if it is to, until there is a file `go`."""

  def __init__(self, directory, is_blocking):
    self._directory = directory
    self._is_blocking = is_blocking

  def process(self, element):
    if self._is_blocking and element[1] == BLOCKING_NUMBER:
      append(self._directory, 'blocked', element[1])
      deadline = time.monotonic() + WAIT_SECONDS
      while not os.path.exists(os.path.join(self._directory, 'go')) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield element


class WritePane(beam.DoFn):

  def __init__(self, directory, name):
    self._directory = directory
    self._name = name

  def process(self, element, in_window=beam.DoFn.WindowParam, pane=beam.DoFn.PaneInfoParam):
    key, numbers = element
    is_last = pane.timing in (beam.utils.windowed_value.PaneInfoTiming.ON_TIME,)
    append(self._directory, 'results', self._name, int(in_window.start), int(in_window.end), key, plain(sorted(numbers)),
           'on-time' if is_last else 'early', 'first' if pane.index == 0 else 'later')


class BesideAll(beam.DoFn):

  def __init__(self, directory):
    self._directory = directory

  def process(self, element, beside, in_window=beam.DoFn.WindowParam):
    append(self._directory, 'results', 'beside', int(in_window.start), element[1], len(beside), sum(beside))


def plain(numbers):
  return ','.join(map(str, numbers))


def pipeline_of(directory, stop, is_blocking, arguments):
  pipeline = beam.Pipeline(options=PipelineOptions(arguments, streaming=True))
  pair = tuple[int, int]
  numbers = (
      pipeline | beam.Create(range(SHARD_COUNT)) | beam.Reshuffle()
      | 'Numbers' >> beam.ParDo(Numbers(directory, stop)).with_output_types(pair)
      | 'Windows' >> beam.WindowInto(window.FixedWindows(WINDOW_SECONDS))
      | 'Remember' >> beam.ParDo(Remember(directory)).with_output_types(pair)
      | 'Block' >> beam.ParDo(Block(directory, is_blocking)).with_output_types(pair))
  early = trigger.AfterWatermark(early=trigger.AfterCount(EARLY_COUNT))
  _ = (
      numbers
      | 'Early' >> beam.WindowInto(
          window.FixedWindows(WINDOW_SECONDS), trigger=early, accumulation_mode=trigger.AccumulationMode.ACCUMULATING)
      | 'GroupEarly' >> beam.GroupByKey()
      | 'WriteEarly' >> beam.ParDo(WritePane(directory, 'early')))
  _ = (
      numbers | 'Sessions' >> beam.WindowInto(window.Sessions(GAP_SECONDS))
      | 'GroupSessions' >> beam.GroupByKey()
      | 'WriteSessions' >> beam.ParDo(WritePane(directory, 'session')))
  beside = numbers | 'Values' >> beam.Values()
  _ = numbers | 'Beside' >> beam.ParDo(BesideAll(directory), beam.pvalue.AsList(beside))
  return pipeline


def expected():
  """What is in `results` at the end, but for early panes."""
  results = collections.Counter()
  in_window = lambda key, start: range(start + key, min(start + WINDOW_SECONDS, NUMBER_COUNT), KEY_COUNT)
  for start in range(0, NUMBER_COUNT, WINDOW_SECONDS):
    all_numbers = range(start, min(start + WINDOW_SECONDS, NUMBER_COUNT))
    for number in all_numbers:
      results[tuple(map(str, ('beside', start, number, len(all_numbers), sum(all_numbers))))] += 1
    for key in range(KEY_COUNT):
      numbers = in_window(key, start)
      large = LARGE_ELEMENTS if (start, key) == (0, LARGE_KEY) else 0
      state = (sum(numbers), plain(numbers), plain(sorted({number // 10 for number in numbers})), plain(reversed(numbers)),
               large, large * LARGE_ELEMENT_BYTES)
      for tag in ('-', 'odd', 'even'):
        results[tuple(map(str, ('end', start, key, tag, *state)))] += 1
      pane = ('early', start, start + WINDOW_SECONDS, key, plain(numbers), 'on-time', 'later')
      results[tuple(map(str, pane))] += 1
  for key in range(KEY_COUNT):
    results['due', str(key)] += 1
    numbers = range(key, NUMBER_COUNT, KEY_COUNT)
    session = ('session', key, numbers[-1] + GAP_SECONDS, key, plain(numbers), 'on-time', 'first')
    results[tuple(map(str, session))] += 1
  return results


def base_options(endpoint, parallelism):
  return [
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=LOOPBACK', '--job_name=snapshot-format',
      '--parallelism=%d' % parallelism, '--checkpointing_interval=%d' % INTERVAL_MS
  ]


def wait_for(result, what, is_so):
  deadline = time.monotonic() + WAIT_SECONDS
  while not is_so():
    assert result.state not in ('FAILED', 'CANCELLED', 'DONE'), '%s was waited for until the job was %s' % (what, result.state)
    assert time.monotonic() < deadline, '%s was waited for in vain' % what
    time.sleep(0.05)


def weir(endpoint, *words):
  ended = subprocess.run([*weir_command(), *words, '--job-endpoint', endpoint], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, check=False, timeout=WAIT_SECONDS, env=child_environment())
  assert ended.returncode == 0, ended.stdout


def wait_for_half(result, directory):
  """Every source has stopped, and has said so to a bundle that follows those of its numbers."""
  half = str(NUMBER_COUNT // 2 // SHARD_COUNT)
  for shard in range(SHARD_COUNT):
    wait_for(result, 'source %d' % shard, lambda shard=shard: lines(directory, 'positions').count((str(shard), half)) > 1)


def cancel(result, directory):
  result.cancel()
  open(os.path.join(directory, 'go'), 'wb').close()
  try:
    result.wait_until_finish()
  except RuntimeError as error:
    assert 'CANCELLED' in str(error), error
  results = lines(directory, 'results')
  assert all(line[0] == 'early' for line in results), 'too early for a snapshot: %r' % results


def write_savepoint(endpoint, directory, path):
  result = pipeline_of(directory, NUMBER_COUNT // 2, False, base_options(endpoint, PARALLELISM)).run()
  wait_for_half(result, directory)
  wait_for(result, 'all numbers', lambda: len(lines(directory, 'seen')) == NUMBER_COUNT // 2)
  weir(endpoint, 'savepoint', result._job_id, path)
  cancel(result, directory)
  kinds = {os.path.splitext(name)[1] for name in os.listdir(os.path.join(path, 'state'))}
  assert kinds == {'.base', '.delta'}, kinds


def write_in_flight(endpoint, directory, path):
  storage = os.path.join(directory, 'storage')
  result = pipeline_of(directory, NUMBER_COUNT // 2, True, base_options(endpoint, PARALLELISM) + [
      '--unaligned_checkpoint_enabled', '--state_backend_storage_path=' + storage, '--externalized_checkpoints_enabled',
      '--retain_externalized_checkpoints_on_cancellation'
  ]).run()
  manifests = lambda: sorted(glob.glob(os.path.join(storage, '*', 'checkpoint-*.json')), key=id_of)
  wait_for(result, 'the number that does not end', lambda: lines(directory, 'blocked'))
  wait_for_half(result, directory)
  begun = id_of(manifests()[-1])
  wait_for(result, 'a checkpoint', lambda: id_of(manifests()[-1]) >= begun + 2)
  cancel(result, directory)
  manifest_path = manifests()[-1]
  with open(manifest_path, encoding='utf-8') as text:
    manifest = json.load(text)
  assert manifest['record']['unaligned'] and manifest['record']['inFlightBytes'] > 0, manifest['record']
  os.makedirs(os.path.join(path, 'state'))
  for name in [os.path.basename(manifest_path)] + [file['path'] for task in manifest['tasks'] for file in task['files']]:
    shutil.copyfile(os.path.join(os.path.dirname(manifest_path), name), os.path.join(path, name))


def id_of(manifest_path):
  return int(manifest_path.rpartition('-')[2].split('.')[0])


def write(endpoint, folder):
  for name, writer in (('savepoint', write_savepoint), ('in-flight', write_in_flight)):
    directory = tempfile.mkdtemp(prefix='weir-snapshot-format-')
    try:
      writer(endpoint, directory, os.path.join(folder, name))
    finally:
      shutil.rmtree(directory)


def restore(endpoint, path, parallelism):
  directory = tempfile.mkdtemp(prefix='weir-snapshot-format-')
  try:
    options = base_options(endpoint, int(parallelism)) + ['--savepoint_path=' + path]
    result = pipeline_of(directory, NUMBER_COUNT, False, options).run()
    watchdog = threading.Timer(WAIT_SECONDS, result.cancel)
    watchdog.start()
    try:
      result.wait_until_finish()
    finally:
      watchdog.cancel()
    first = min(int(position) for _, position in lines(directory, 'positions'))
    assert first == NUMBER_COUNT // 2 // SHARD_COUNT, 'a source began at %d' % first
    results = collections.Counter(line for line in lines(directory, 'results') if line[-2] != 'early')
    missing, more = expected() - results, results - expected()
    assert not missing and not more, 'missing: %r\ntoo much: %r' % (sorted(missing.items()), sorted(more.items()))
  finally:
    shutil.rmtree(directory)
  print('as it should be')


if __name__ == '__main__':
  # By its importable name, so that what is pickled by reference is found.
  import snapshot_job
  {'write': snapshot_job.write, 'restore': snapshot_job.restore}[sys.argv[1]](*sys.argv[2:])
