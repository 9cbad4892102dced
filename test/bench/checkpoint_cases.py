"""The cases about checkpoints: what each measures, on which runners and with which settings in turn, and its target.

A case's `measure` gets a Variant and the scale, and gives figures by name, each a number or a list of numbers. Runs
alternate between the variants. Targets are printed beside the figures; nothing is asserted.
"""
import dataclasses
import statistics
import time
import typing

from checkpoint_job import Job
from process_tree import cpu_seconds
from s3_server import S3Server

MB = 1_000_000
QUIET = ('--log-level', 'warn')
# The source has its pace, its bundles are as many as they will be, and Python has imported what it needs.
WARM_UP_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Variant:
  name: str
  peer: str = 'weir'
  options: typing.Tuple[str, ...] = ()
  # Of `weir serve`.
  arguments: typing.Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class CheckpointCase:
  variants: typing.Tuple[Variant, ...]
  measure: typing.Callable
  # Figure -> digits behind the point.
  figures: typing.Dict[str, int]
  target: str
  # (figure, of which variant, divided by that of which).
  ratios: typing.Tuple[typing.Tuple[str, str, str], ...] = ()


def interval(milliseconds):
  return '--checkpointing_interval=%d' % milliseconds


def interval_on(variant, milliseconds):
  """Beam's Flink runner never comes back to a source of which a checkpoint was taken before its harness was there."""
  return interval(10_000 if variant.peer == 'flink' else milliseconds)


def warmed_up(job, number):
  job.wait_for_number(number)
  time.sleep(WARM_UP_SECONDS)


def throughput(variant, scale):
  with Job(variant.peer, {}, variant.options, QUIET) as job:
    warmed_up(job, 1000)
    began, cpu = time.monotonic(), cpu_seconds(job.server.pid)
    time.sleep(60 * scale)
    ended = time.monotonic()
    spent = cpu_seconds(job.server.pid) - cpu
    rate = job.elements_per_second(began, ended)
    return {'elements/s': rate, 'CPU s/M': spent / (rate * (ended - began)) * 1e6, 'checkpoints': len(job.checkpoints)}


def loaded_checkpoint(variant, scale):
  with Job(variant.peer, {}, [*variant.options, interval_on(variant, 1000)], QUIET) as job:
    warmed_up(job, 1000)
    before, began = len(job.checkpoints), time.monotonic()
    job.wait_for_checkpoints(2 if variant.peer == 'flink' else max(2, int(20 * scale)))
    return {'checkpoint ms': job.durations_ms()[before:], 'elements/s': job.elements_per_second(began, time.monotonic())}


def backpressured_checkpoint(variant, scale):
  """
  A sink of 2 ms per element of 10 kB behind a faster source. Channels hold what the sink takes in 25 ms, whatever they
  may hold; so that 64 MB are on their way all the same, the sink's bundle and the queue before it are large.
  """
  pipeline = {'element_bytes': 10_000, 'has_state': False, 'seconds_per_element': 0.002}
  arguments = [*QUIET, '--worker-memory-mb', '1024', '--limit', 'bundleInputBytes=%d' % (60 * MB), '--limit',
               'queuedInputBytes=%d' % (16 * MB)]
  options = [*variant.options, interval(1000), '--max_bundle_size=1000000', '--max_bundle_time_millis=10000']
  with Job(variant.peer, pipeline, options, arguments) as job:
    job.wait_for_number(100)
    # Until the channel is full.
    time.sleep(2 * WARM_UP_SECONDS)
    before = len(job.checkpoints)
    # What began before it was full, and those that are measured.
    job.wait_for_checkpoints(1 + max(1, int(3 * scale)))
    measured = job.checkpoints[before + 1:]
    return {
        'checkpoint ms': [each.seconds * 1000 for each in measured],
        'in flight MB': [each.record.get('inFlightBytes', 0) / MB for each in measured]
    }


def idle_checkpoint(variant, scale):
  with Job(variant.peer, {'per_second': 20}, [interval_on(variant, 200)], QUIET) as job:
    job.give('go')
    warmed_up(job, 20)
    before = len(job.checkpoints)
    job.wait_for_checkpoints(2 if variant.peer == 'flink' else max(5, int(50 * scale)))
    return {'checkpoint ms': job.durations_ms()[before:]}


def harness_recovery(variant, scale):
  with Job(variant.peer, {'per_second': 200}, [interval_on(variant, 1000)], [*QUIET, *variant.arguments]) as job:
    job.give('go')
    warmed_up(job, 200)
    job.wait_for_checkpoints(2)
    before = job.restarts
    seconds = job.first_output_after(job.kill_harness())
    job.wait_for_checkpoints(1)
    return {'first output s': seconds, 'rollbacks': job.restarts - before}


def filled(megabytes, value_bytes):
  """Options of a pipeline whose state gets so large at first; and the number of the last element of that."""
  key_count = max(10, int(megabytes * MB / value_bytes))
  return {'at_once': key_count, 'key_count': key_count, 'value_bytes': value_bytes}, key_count - 1


def worker_recovery(variant, scale):
  pipeline, last = filled(100 * scale, 4000)
  with S3Server() as store, Job(variant.peer, dict(pipeline, per_second=200), [interval(1000)], QUIET, store=store) as job:
    job.wait_for_number(last)
    job.give('go')
    job.wait_for_number(last + 1000)
    job.wait_for_checkpoints(3)
    state = job.checkpoints[-1].record['stateBytes']
    return {'first output s': job.first_output_after(job.kill_worker_of_harness()), 'state MB': state / MB}


def incremental(variant, scale):
  """Rounds of changes of one key in a hundred: what the checkpoints after each write, against the whole state."""
  pipeline, last = filled(1000 * scale, 10_000)
  changed, rounds = (last + 1) // 100, 20
  with Job(variant.peer, dict(pipeline, round_size=changed), [interval(2000)], QUIET, limit_seconds=1800) as job:
    job.wait_for_number(last)
    # What began before the end of the filling, and one more.
    job.wait_for_checkpoints(3)
    whole = job.checkpoints[-1].record['stateBytes']
    first, written, bytes_of_rounds = job.checkpoints[-1].number, [], 0
    for number in range(1, rounds + 1):
      before = len(job.checkpoints)
      job.give('round-%d' % number)
      job.wait_for_number(last + number * changed)
      job.wait_for_checkpoints(2)
      written.append(sum(each.record['writtenBytes'] for each in job.checkpoints[before:]) / whole * 100)
    bytes_of_rounds = sum(each.record['writtenBytes'] for each in job.checkpoints if each.number > first)
    return {
        'state MB': whole / MB, '% written': statistics.median(written), 'worst %': max(written),
        'mean %': bytes_of_rounds / rounds / whole * 100,
    }


WEIR, FLINK = Variant('weir'), Variant('flink', 'flink')

CHECKPOINT_CASES = {
    'checkpoint_throughput': CheckpointCase(
        (
            Variant('weir, none'), Variant('weir, 10 s', options=(interval(10_000),)), Variant('flink, none', 'flink'),
            Variant('flink, 10 s', 'flink', (interval(10_000),)),
        ), throughput, {'elements/s': 0, 'CPU s/M': 1, 'checkpoints': 0},
        'with an interval of 10 s at least 97 % of that without',
        (('elements/s', 'weir, 10 s', 'weir, none'), ('elements/s', 'flink, 10 s', 'flink, none'))),
    'checkpoint_idle': CheckpointCase(
        (WEIR, FLINK), idle_checkpoint, {'checkpoint ms': 1}, 'at most 10 ms'),
    'checkpoint_loaded': CheckpointCase(
        (Variant('weir, aligned'), Variant('weir, unaligned', options=('--unaligned_checkpoint_enabled', )), FLINK),
        loaded_checkpoint, {'checkpoint ms': 0, 'elements/s': 0},
        'at most 100 ms'),
    'checkpoint_backpressure': CheckpointCase(
        (Variant('weir, aligned'), Variant('weir, unaligned', options=('--unaligned_checkpoint_enabled', ))),
        backpressured_checkpoint, {'checkpoint ms': 0, 'in flight MB': 1},
        'unaligned at most 1 s, and at most a tenth of aligned', (('checkpoint ms', 'weir, unaligned', 'weir, aligned'),)),
    'checkpoint_incremental': CheckpointCase(
        (WEIR,), incremental,
        {'state MB': 0, '% written': 2, 'worst %': 2, 'mean %': 2},
        '1 % changed: at most 3 % of the whole state is written'),
    'recovery_worker': CheckpointCase(
        (WEIR,), worker_recovery, {'first output s': 2, 'state MB': 0},
        'first new output under 5 s after kill -9 of the worker, 100 MB of state on S3'),
    'recovery_harness': CheckpointCase(
        (WEIR, Variant('weir, standby', arguments=('--standby-harness', )), FLINK), harness_recovery, {'first output s': 2, 'rollbacks': 0},
        'first new output under 1 s after kill -9 of the Python harness, no rollback'),
}


def checkpoint_rows(cases, peers, runs, scale, problems):
  """One row for each case, variant and figure: the median of the runs' medians, and the least and greatest value."""
  rows = []
  for case in cases:
    variants = [variant for variant in CHECKPOINT_CASES[case].variants if variant.peer in peers]
    measured = {variant.name: [] for variant in variants}
    for number in range(runs):
      for variant in variants if number % 2 == 0 else reversed(variants):
        try:
          figures = CHECKPOINT_CASES[case].measure(variant, scale)
        except Exception as error:
          problems.append('%s on %s, run %d: %s' % (case, variant.name, number + 1, ' '.join(str(error).split())[-400:]))
          print('  ' + problems[-1], flush=True)
          continue
        measured[variant.name].append(figures)
        print('  %-22s %-16s %d/%d  %s' % (
            case, variant.name, number + 1, runs,
            '  '.join('%s %.4g' % (name, median(value)) for name, value in figures.items())), flush=True)
    rows += _rows_of(case, measured)
  return rows


def median(value):
  return statistics.median(value) if isinstance(value, list) else value


def _rows_of(case, measured):
  described, rows = CHECKPOINT_CASES[case], []
  for variant, runs in measured.items():
    for figure in described.figures if runs else ():
      values = [run[figure] for run in runs]
      each = [one for value in values for one in (value if isinstance(value, list) else [value])]
      rows.append({
          'case': case, 'variant': variant, 'figure': figure, 'runs': len(runs), 'target': described.target,
          'median': statistics.median(map(median, values)), 'min': min(each), 'max': max(each)
      })
  for figure, divided, by in described.ratios:
    pairs = [(one[figure], other[figure]) for one, other in zip(measured.get(divided, ()), measured.get(by, ()))]
    ratios = [median(one) / median(other) for one, other in pairs]
    if ratios:
      rows.append({
          'case': case, 'variant': '%s / %s' % (divided, by), 'figure': figure, 'runs': len(ratios),
          'target': described.target, 'median': statistics.median(ratios), 'min': min(ratios), 'max': max(ratios)
      })
  return rows


def checkpoint_table(rows):
  lines = ['| case | variant | figure | median (min-max) | runs | target |', '| --- | --- | --- | ---: | ---: | --- |']
  told = None
  for row in rows:
    digits = 3 if '/' in row['variant'] else CHECKPOINT_CASES[row['case']].figures[row['figure']]
    lines.append('| %s | %s | %s | %.*f (%.*f-%.*f) | %d | %s |' % (
        row['case'] if row['case'] != told else '', row['variant'], row['figure'], digits, row['median'], digits,
        row['min'], digits, row['max'], row['runs'], row['target'] if row['case'] != told else ''))
    told = row['case']
  return '\n'.join(lines) + '\n'
