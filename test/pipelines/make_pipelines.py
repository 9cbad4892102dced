"""Writes the pipeline protos (*.pb) that the planner's golden tests read.

Usage: python make_pipelines.py [NAME...]     (needs apache-beam; writes beside this file)

Each pipeline is written as the client submits it with PortableRunner, that is after the client's own optimization,
unless its name ends in "_raw" (streaming pipelines arrive so). Pickled code is replaced by a hash of it: plans do not
depend on it, and it would carry the paths of the machine that it was made on. Hence they can be planned, not run.
"""

import hashlib
import os
import sys

import apache_beam as beam
from apache_beam import coders
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms import trigger, userstate, window
from apache_beam.transforms.timeutil import TimeDomain

HERE = os.path.dirname(os.path.abspath(__file__))


class EvenOdd(beam.DoFn):
  def process(self, element):
    if element % 2:
      yield beam.pvalue.TaggedOutput('odd', element)
    else:
      yield element


class Ranges(beam.RestrictionProvider):
  def initial_restriction(self, element):
    return OffsetRange(0, element)

  def create_tracker(self, restriction):
    return OffsetRestrictionTracker(restriction)

  def restriction_size(self, element, restriction):
    return restriction.size()


class Expand(beam.DoFn):
  def process(self, element, tracker=beam.DoFn.RestrictionParam(Ranges())):
    position = tracker.current_restriction().start
    while tracker.try_claim(position):
      yield position
      position += 1


class Count(beam.DoFn):
  STATE = userstate.CombiningValueStateSpec('count', sum)
  SEEN = userstate.BagStateSpec('seen', coders.StrUtf8Coder())
  TIMER = userstate.TimerSpec('flush', TimeDomain.WATERMARK)
  CLOCK = userstate.TimerSpec('clock', TimeDomain.REAL_TIME)

  def process(
      self,
      element,
      count=beam.DoFn.StateParam(STATE),
      seen=beam.DoFn.StateParam(SEEN),
      flush=beam.DoFn.TimerParam(TIMER),
      clock=beam.DoFn.TimerParam(CLOCK)):
    count.add(1)
    flush.set(10)
    yield element

  @userstate.on_timer(TIMER)
  def on_flush(self, count=beam.DoFn.StateParam(STATE)):
    yield count.read()

  @userstate.on_timer(CLOCK)
  def on_clock(self):
    pass


class Expiring(beam.DoFn):
  """State, a timer that becomes OnWindowExpiration, and a side input."""
  LAST = userstate.ReadModifyWriteStateSpec('last', coders.VarIntCoder())
  EXPIRY = userstate.TimerSpec('expiry', TimeDomain.WATERMARK)

  def process(self, element, low, last=beam.DoFn.StateParam(LAST), expiry=beam.DoFn.TimerParam(EXPIRY)):
    last.write(element[1] + low[1])
    expiry.set(5)

  @userstate.on_timer(EXPIRY)
  def on_expiry(self, last=beam.DoFn.StateParam(LAST)):
    yield last.read()


class Finalizing(beam.DoFn):
  def process(self, element, finalizer=beam.DoFn.BundleFinalizerParam):
    finalizer.register(lambda: None)
    yield element


class Odd:
  """A type that only Python can encode."""
  def __init__(self, value):
    self.value = value


class NamedWindow(window.BoundedWindow):
  def __init__(self, end, name):
    super().__init__(end)
    self.name = name

  def __hash__(self):
    return hash((self.end, self.name))

  def __eq__(self, other):
    return self.end == other.end and self.name == other.name


class NamedWindowCoder(coders.Coder):
  def encode(self, value):
    return ('%d:%s' % (value.end.micros, value.name)).encode('utf-8')

  def decode(self, encoded):
    micros, name = encoded.decode('utf-8').split(':', 1)
    return NamedWindow(window.Timestamp(micros=int(micros)), name)

  def is_deterministic(self):
    return True


class NamedWindows(window.NonMergingWindowFn):
  def assign(self, context):
    return [NamedWindow(window.Timestamp(10), 'named')]

  def get_window_coder(self):
    return NamedWindowCoder()


class MergingWindows(window.WindowFn):
  def assign(self, context):
    return [NamedWindow(window.Timestamp(10), str(context.element))]

  def merge(self, merge_context):
    merge_context.merge(merge_context.windows, NamedWindow(window.Timestamp(10), 'all'))

  def get_window_coder(self):
    return NamedWindowCoder()


def create_map_gbk(p):
  p | beam.Create([('a', 1), ('b', 2)]) | beam.Map(lambda kv: kv).with_output_types(
      tuple[str, int]) | beam.GroupByKey() | beam.Map(print)


def wordcount(p):
  (
      p | beam.Create(['to be or not to be'])
      | 'Split' >> beam.FlatMap(str.split).with_output_types(str)
      | 'Pair' >> beam.Map(lambda word: (word, 1)).with_output_types(tuple[str, int])
      | 'Sum' >> beam.CombinePerKey(sum)
      | 'Format' >> beam.Map(lambda kv: '%s: %d' % kv)
      | 'Write' >> beam.io.WriteToText('/tmp/out'))


wordcount_raw = wordcount


def read_and_count(p):
  (
      p | beam.io.ReadFromText('/tmp/in-*.txt', validate=False)
      | beam.FlatMap(str.split).with_output_types(str)
      | beam.combiners.Count.PerElement()
      | beam.io.WriteToText('/tmp/out'))


def multimap_side_input(p):
  """Groups as a multimap on the side, through a Flatten and in windows."""
  side = p | 'Side' >> beam.Create([('a', 1)]) | 'Window' >> beam.WindowInto(window.FixedWindows(10))
  more = p | 'More' >> beam.Create([('b', 2)]) | 'WindowMore' >> beam.WindowInto(window.FixedWindows(10))
  both = (side, more) | beam.Flatten()
  (
      p | 'Main' >> beam.Create(['a']) | 'WindowMain' >> beam.WindowInto(window.SlidingWindows(20, 10))
      | beam.Map(lambda x, m: list(m[x]), beam.pvalue.AsMultiMap(both)))


def side_inputs(p):
  side = p | 'Side' >> beam.Create([1, 2])
  pairs = p | 'Pairs' >> beam.Create([('a', 1)])
  main = p | 'Main' >> beam.Create([3])
  doubled = main | 'Double' >> beam.Map(lambda x: 2 * x)
  doubled | 'UseList' >> beam.Map(lambda x, y: None, beam.pvalue.AsList(side))
  doubled | 'UseDict' >> beam.Map(lambda x, y: None, beam.pvalue.AsDict(pairs))
  # What it needs on the side comes out of the stage that produces its main input.
  doubled | 'UseSelf' >> beam.Map(lambda x, y: None, beam.pvalue.AsIter(doubled))
  flat = (side, main) | beam.Flatten()
  doubled | 'UseFlat' >> beam.Map(lambda x, y: None, beam.pvalue.AsIter(flat))


def splittable(p):
  p | beam.Create([4]) | beam.ParDo(Expand()) | 'After' >> beam.Map(lambda x: x)


class ExpandForever(Expand):
  @beam.DoFn.unbounded_per_element()
  def process(self, element, tracker=beam.DoFn.RestrictionParam(Ranges())):
    position = tracker.current_restriction().start
    while tracker.try_claim(position):
      yield 'k', position
      position += 1


def unbounded(p):
  (
      p | beam.Create([4]) | beam.ParDo(ExpandForever())
      | beam.WindowInto(window.FixedWindows(10)) | beam.GroupByKey() | 'After' >> beam.Map(lambda x: x))


def test_stream(p):
  """One output into a side input and a stateful ParDo, keys of a type that only Python can encode."""
  pairs = p | TestStream(coder=coders.TupleCoder([coders.PickleCoder(), coders.VarIntCoder()])).add_elements(
      [(Odd(1), 1)]).advance_watermark_to_infinity()
  pairs |= beam.WindowInto(window.FixedWindows(10))
  pairs |= 'Typed' >> beam.Map(lambda kv: kv).with_output_types(tuple[Odd, int])
  # Of the same type, because Python may take the side input's for the main input's when it looks for the key's coder.
  low = p | beam.Create([1]) | 'Low' >> beam.Map(lambda x: (Odd(x), x)).with_output_types(tuple[Odd, int])
  pairs | beam.ParDo(Expiring(), beam.pvalue.AsSingleton(low)) | 'Out' >> beam.Map(lambda x: x)


def test_stream_tags(p):
  """Several outputs, of which nobody reads one, into a Flatten and a GroupByKey."""
  stream = TestStream(coder=coders.TupleCoder([coders.StrUtf8Coder(), coders.VarIntCoder()]))
  for tag in ('letters', 'numbers', 'unread'):
    stream = stream.add_elements([('a', 1)], tag=tag).advance_watermark_to_infinity(tag=tag)
  outputs = p | stream
  (
      (outputs['letters'], outputs['numbers']) | beam.Flatten()
      | beam.WindowInto(trigger=trigger.Repeatedly(trigger.AfterCount(1)), windowfn=window.GlobalWindows(),
                        accumulation_mode=trigger.AccumulationMode.DISCARDING)
      | beam.GroupByKey() | 'Out' >> beam.Map(lambda x: x))


def grouped_stateful(p):
  """Groups that go right into a stateful ParDo."""
  p | beam.Create([('a', 1)]) | beam.GroupByKey() | beam.ParDo(Count())


def flatten_coders(p):
  ints = p | 'Ints' >> beam.Create([1]) | 'I' >> beam.Map(lambda x: x).with_output_types(int)
  texts = p | 'Texts' >> beam.Create(['a']) | 'T' >> beam.Map(lambda x: x).with_output_types(str)
  again = texts | beam.Reshuffle()
  (ints, texts, again) | beam.Flatten() | 'Use' >> beam.Map(lambda x: x)


def flatten_same(p):
  ints = p | 'Ints' >> beam.Create([1])
  halves = ints | beam.ParDo(EvenOdd()).with_outputs('odd', main='even')
  (halves.even, halves.odd) | 'Inside' >> beam.Flatten() | 'A' >> beam.Map(lambda x: x)
  other = p | 'Others' >> beam.Create([2])
  (ints, ints, other) | 'Twice' >> beam.Flatten() | 'B' >> beam.Map(lambda x: (x, x)) | beam.GroupByKey()


def sessions(p):
  (
      p | beam.Create([('a', 1)])
      | beam.WindowInto(window.Sessions(10), accumulation_mode=trigger.AccumulationMode.DISCARDING)
      | beam.CombinePerKey(sum) | 'Out' >> beam.Map(lambda kv: kv))


def element_count_trigger(p):
  (
      p | beam.Create([('a', 1)])
      | beam.WindowInto(
          window.FixedWindows(10),
          trigger=trigger.Repeatedly(trigger.AfterCount(2)),
          accumulation_mode=trigger.AccumulationMode.ACCUMULATING,
          allowed_lateness=60)
      | beam.CombinePerKey(sum) | 'Out' >> beam.Map(lambda kv: kv))


def custom_windows(p):
  pairs = p | beam.Create([('a', 1)])
  pairs | 'Named' >> beam.WindowInto(NamedWindows()) | 'G1' >> beam.GroupByKey() | 'O1' >> beam.Map(print)
  pairs | 'Merging' >> beam.WindowInto(MergingWindows()) | 'G2' >> beam.GroupByKey() | 'O2' >> beam.Map(print)


def stateful(p):
  (
      p | beam.Create([('a', 1)])
      | 'Typed' >> beam.Map(lambda kv: kv).with_output_types(tuple[Odd, int])
      | 'Count' >> beam.ParDo(Count()) | 'Out' >> beam.Map(lambda x: x))


def multi_output(p):
  halves = p | beam.Create([1, 2]) | beam.ParDo(EvenOdd()).with_outputs('odd', main='even')
  halves.even | 'Even' >> beam.Map(lambda x: (x, 1)) | 'GE' >> beam.GroupByKey()
  halves.odd | 'Odd' >> beam.Map(lambda x: (Odd(x), 1)).with_output_types(
      tuple[Odd, int]) | 'GO' >> beam.GroupByKey() | 'UseOdd' >> beam.Map(lambda x: x)


def packed_combine(p):
  values = p | beam.Create([1, 2, 3])
  with_packing = values | beam.Map(lambda x: ('k', x)).with_output_types(tuple[str, int])
  with_packing | PackedStats()


class PackedStats(beam.PTransform):
  def expand(self, pairs):
    low = pairs | 'Min' >> beam.CombinePerKey(min)
    high = pairs | 'Max' >> beam.CombinePerKey(max)
    return {'low': low, 'high': high}

  def annotations(self):
    return {'beam:annotation:apply_combiner_packing:v1': b''}


def reshuffle(p):
  (
      p | beam.Create([1, 2]) | 'First' >> beam.Reshuffle() | 'Between' >> beam.Map(lambda x: x)
      | 'Second' >> beam.Reshuffle(num_buckets=2) | 'Pair' >> beam.Map(lambda x: (x, x))
      | 'Third' >> beam.Reshuffle() | beam.GroupByKey() | 'Out' >> beam.Map(print))


def grouped_twice(p):
  """Groups that two consumers read, one of them on the side."""
  grouped = p | beam.Create([('a', 1)]) | beam.GroupByKey()
  grouped | 'Main' >> beam.Map(lambda x: x)
  p | 'Other' >> beam.Create([1]) | 'Use' >> beam.Map(lambda x, y: x, beam.pvalue.AsDict(grouped))


def finalizing(p):
  p | beam.Create([1]) | beam.ParDo(Finalizing())


def pass_through(p):
  """Composites whose output is their input, and a transform whose output nobody reads."""
  class Nothing(beam.PTransform):
    def expand(self, pcoll):
      return pcoll

  p | beam.Create([1]) | Nothing() | 'Discard' >> beam.Map(lambda x: None)


def empty(p):
  pass


PIPELINES = [
    create_map_gbk,
    wordcount,
    read_and_count,
    multimap_side_input,
    side_inputs,
    splittable,
    flatten_coders,
    flatten_same,
    sessions,
    element_count_trigger,
    custom_windows,
    stateful,
    multi_output,
    packed_combine,
    reshuffle,
    grouped_twice,
    finalizing,
    pass_through,
    unbounded,
    test_stream,
    test_stream_tags,
    grouped_stateful,
    empty,
]


def scrub(spec):
  if spec.payload and ('pickled' in spec.urn or not spec.urn.startswith('beam:window_fn:')):
    spec.payload = hashlib.sha256(spec.payload).hexdigest()[:16].encode('ascii')


def scrub_payload(spec, message, scrub_parts):
  payload = message.FromString(spec.payload)
  scrub_parts(payload)
  spec.payload = payload.SerializeToString(deterministic=True)


def scrub_par_do(payload):
  scrub(payload.do_fn)
  for side_input in payload.side_inputs.values():
    scrub(side_input.view_fn)
    scrub(side_input.window_mapping_fn)
  for state in payload.state_specs.values():
    if state.HasField('combining_spec'):
      scrub(state.combining_spec.combine_fn)


def scrub_pipeline(proto):
  for transform in proto.components.transforms.values():
    del transform.display_data[:]
    urn = transform.spec.urn
    if urn == 'beam:transform:pardo:v1':
      scrub_payload(transform.spec, beam_runner_api_pb2.ParDoPayload, scrub_par_do)
    elif 'beam:transform:combine_' in urn:
      scrub_payload(transform.spec, beam_runner_api_pb2.CombinePayload, lambda payload: scrub(payload.combine_fn))
    elif urn == 'beam:transform:window_into:v1':
      scrub_payload(transform.spec, beam_runner_api_pb2.WindowIntoPayload, lambda payload: scrub(payload.window_fn))
    elif urn != 'beam:transform:teststream:v1':
      transform.spec.payload = b''
  for coder in proto.components.coders.values():
    scrub(coder.spec)
  for windowing in proto.components.windowing_strategies.values():
    scrub(windowing.window_fn)
  for environment in proto.components.environments.values():
    del environment.dependencies[:]


def mark_expiry(proto):
  """Python has no on_window_expiration: the timer family becomes one as Java would say it."""
  def mark(payload):
    if payload.timer_family_specs:
      payload.on_window_expiration_timer_family_spec = 'ts-expiry'

  for transform in proto.components.transforms.values():
    if transform.spec.urn == 'beam:transform:pardo:v1':
      scrub_payload(transform.spec, beam_runner_api_pb2.ParDoPayload, mark)


def write(name, make):
  raw = name.endswith('_raw')
  options = PipelineOptions(
      ['--runner=PortableRunner', '--job_endpoint=localhost:1', '--environment_type=EXTERNAL'] +
      ['--environment_config=localhost:2'] + (['--experiments=pre_optimize=none'] if raw else []))
  pipeline = beam.Pipeline(options=options)
  make(pipeline)
  proto = PortableRunner.get_proto_pipeline(pipeline, options)
  scrub_pipeline(proto)
  if name == 'test_stream':
    mark_expiry(proto)
  with open(os.path.join(HERE, name + '.pb'), 'wb') as out:
    out.write(proto.SerializeToString(deterministic=True))


if __name__ == '__main__':
  named = [(make.__name__, make) for make in PIPELINES] + [('wordcount_raw', wordcount)]
  named += [(name + '_raw', make) for name, make in named if name in ('splittable', 'element_count_trigger', 'packed_combine')]
  for name, make in named:
    if len(sys.argv) < 2 or name in sys.argv[1:]:
      write(name, make)
      print(name)
