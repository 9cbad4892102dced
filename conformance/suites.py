"""Which of Beam's own test modules make a suite, and which cells (suite x environment x mode x workers) a plan runs.

Paths are relative to the installed `apache_beam` package, or to this folder when they have no slash.
"""
from dataclasses import dataclass, field

TRANSLATIONS = 'runners/portability/fn_api_runner/translations_test.py'


@dataclass(frozen=True)
class Suite:
  name: str
  files: tuple
  marker: str = ''
  # Test ids (suffixes) to run, all others are left out; None runs all.
  only: tuple = None
  exclude_classes: tuple = ()
  limit_seconds: int = 60
  # Whose tests they are. Those of other SDKs have a module that runs them: go_suite, java_suite, typescript_suite.
  sdk: str = 'python'


VALIDATES_RUNNER_FILES = (
    'pipeline_test.py', 'metrics/metric_test.py', 'transforms/combinefn_lifecycle_test.py',
    'transforms/combiners_test.py', 'deduplicate_suite.py', 'transforms/dofn_lifecycle_test.py',
    'transforms/ptransform_test.py', 'transforms/sideinputs_test.py', 'transforms/util_test.py',
    'runners/portability/fn_api_runner/fn_runner_test.py', TRANSLATIONS)

SMOKE_TESTS = tuple(
    'WeirRunnerTest::' + test for test in (
        'test_assert_that', 'test_pardo', 'test_pardo_side_and_main_outputs', 'test_pardo_side_inputs',
        'test_pardo_windowed_side_inputs', 'test_multimap_side_input', 'test_pardo_unfusable_side_inputs',
        'test_flattened_side_input', 'test_group_by_key', 'test_reshuffle', 'test_flatten', 'test_combine_per_key',
        'test_windowed_combine_per_key', 'test_windowing', 'test_custom_merging_window', 'test_sdf', 'test_read',
        'test_metrics', 'test_error_traceback_includes_user_code', 'test_error_message_includes_stage'))

# What a checkpoint holds: groups, state, timers of both kinds, side inputs, restrictions, a TestStream's position.
SMOKE_TESTS_WITH_KILLS = (
    'WeirRunnerTest::test_group_by_key', 'WeirRunnerTest::test_pardo_timers',
    'WeirRunnerTest::test_windowed_pardo_state_timers', 'WeirRunnerTest::test_pardo_windowed_side_inputs',
    'WeirRunnerTest::test_sdf_with_watermark_tracking', 'WeirRunnerTest::test_metrics',
    'TestStreamTest::test_basic_execution_with_service', 'TestStreamTest::test_gbk_execution_after_watermark_trigger')

SUITES = {
    suite.name: suite
    for suite in (
        # Two of its tests have 5000 elements, which are as many bundles where bundles have one.
        Suite('fn_api', ('portable_runner_suite.py', ), exclude_classes=('WeirRunnerPreOptimizedTest', ), limit_seconds=120),
        Suite('fn_api_state_backed', ('runners/portability/fn_api_runner/fn_runner_test.py', ),
              only=('FnApiBasedStateBackedCoderTest::test_gbk_many_values', )),
        Suite('fn_api_pre_optimized', ('portable_runner_suite.py', ), exclude_classes=('WeirRunnerTest', )),
        Suite('smoke', ('portable_runner_suite.py', ), only=SMOKE_TESTS),
        Suite('smoke_with_kills', ('portable_runner_suite.py', 'testing/test_stream_test.py'), only=SMOKE_TESTS_WITH_KILLS),
        Suite('validates_runner', VALIDATES_RUNNER_FILES, marker='it_validatesrunner'),
        Suite('core', (
            'pipeline_test.py', 'transforms/core_test.py', 'transforms/create_test.py', 'transforms/combiners_test.py',
            'transforms/sideinputs_test.py', 'transforms/dofn_lifecycle_test.py',
            'transforms/combinefn_lifecycle_test.py', 'deduplicate_suite.py',
            'transforms/batch_dofn_test.py', 'metrics/metric_test.py')),
        Suite('core_subset', (
            'transforms/core_test.py', 'transforms/create_test.py', 'transforms/sideinputs_test.py',
            'transforms/dofn_lifecycle_test.py', 'transforms/batch_dofn_test.py', 'transforms/window_test.py')),
        Suite('window', ('transforms/window_test.py', )),
        Suite('ptransform', ('transforms/ptransform_test.py', )),
        Suite('util', ('transforms/util_test.py', )),
        # What is left of transforms/ that runs pipelines, save by Java, and what needs services on the internet.
        Suite('other_transforms', tuple(
            'transforms/%s_test.py' % name for name in (
                'error_handling', 'fully_qualified_named_transform', 'resources', 'stats', 'timestamped_value_type',
                'transforms_keyword_only_args', 'write_ptransform'))),
        # Two of them run thirty pipelines each, in PROCESS with a new Python for each.
        Suite('periodicsequence', ('transforms/periodicsequence_test.py', ), limit_seconds=300),
        Suite('userstate', ('transforms/userstate_test.py', )),
        Suite('trigger', ('transforms/trigger_test.py', 'trigger_suite.py'), exclude_classes=('BatchTranscriptTest', )),
        Suite('test_stream', ('testing/test_stream_test.py', )),
        Suite('io', (
            'io/textio_test.py', 'io/avroio_test.py', 'io/parquetio_test.py', 'io/tfrecordio_test.py',
            'io/fileio_test.py', 'io/iobase_test.py')),
        Suite('go', (), limit_seconds=90, sdk='go'),
        Suite('java', (), limit_seconds=60, sdk='java'),
        Suite('typescript', (), limit_seconds=20, sdk='typescript'),
    )
}

# What only the streaming engine runs: TestStream, triggers, user state, timers.
MODEL = ('test_stream', 'trigger', 'userstate')
FN_API = ('fn_api', 'fn_api_state_backed')
EVERYTHING = FN_API + (
    'fn_api_pre_optimized', 'validates_runner', 'core', 'window', 'ptransform', 'util', 'other_transforms',
    'periodicsequence', 'userstate', 'trigger', 'test_stream', 'io')


# What Beam's model decides, in every cell: the same results however the work is cut.
MATRIX = FN_API + (
    'validates_runner', 'core', 'window', 'periodicsequence', 'userstate', 'trigger', 'test_stream')


@dataclass(frozen=True)
class Cut:
  """How the work is cut into tasks and bundles: runner options of each job, arguments of `weir serve`."""
  options: dict = field(default_factory=dict, hash=False)
  server_arguments: tuple = ()


# The limits in bytes are beyond what any of these tests has; the time is that of batch, in streaming too.
CUTS = {
    '': Cut(),
    'parallelism=3': Cut({'parallelism': '3'}),
    'bundles of one': Cut({'max_bundle_size': '1'}),
    'bundles unlimited': Cut({'max_bundle_size': '2147483647', 'max_bundle_time_mills': '10000'},
                             ('--limit', 'bundleInputBytes=1000000000', '--limit', 'queuedInputBytes=1000000000')),
}


@dataclass(frozen=True)
class Cell:
  environment: str
  mode: str
  workers: int
  suites: tuple
  # 'workers' or 'harnesses': jobs take checkpoints, and some of these are killed while they run.
  kills: str = ''
  # A key of CUTS.
  cut: str = ''

  @property
  def label(self):
    workers = '%d worker%s' % (self.workers, '' if self.workers == 1 else 's')
    return ', '.join(
        part for part in ('%s %s' % (self.environment, self.mode), workers, self.cut, self.kills and self.kills + ' killed')
        if part)

  @property
  def slug(self):
    parts = (self.environment.lower(), self.mode, str(self.workers), self.cut.replace(' ', '-').replace('=', '-'))
    return '-'.join(part for part in parts + (self.kills and 'kills-' + self.kills, ) if part)


PLANS = {
    'ci': (
        Cell('LOOPBACK', 'batch', 1, FN_API + ('validates_runner', 'core_subset') + MODEL),
        Cell('LOOPBACK', 'streaming', 1, FN_API),
        Cell('LOOPBACK', 'batch', 2, FN_API),
        Cell('EXTERNAL', 'batch', 1, ('smoke', )),
        Cell('PROCESS', 'batch', 1, ('smoke', )),
        Cell('PROCESS', 'streaming', 2, ('smoke_with_kills', ), kills='workers'),
    ),
    'all': (
        Cell('LOOPBACK', 'batch', 1, EVERYTHING),
        Cell('LOOPBACK', 'streaming', 1, MATRIX),
        Cell('LOOPBACK', 'batch', 2, MATRIX),
        Cell('LOOPBACK', 'streaming', 2, MATRIX),
        Cell('LOOPBACK', 'batch', 2, MATRIX, cut='parallelism=3'),
        Cell('LOOPBACK', 'streaming', 2, MATRIX, cut='parallelism=3'),
        Cell('LOOPBACK', 'batch', 1, MATRIX, cut='bundles of one'),
        Cell('LOOPBACK', 'streaming', 1, MATRIX, cut='bundles of one'),
        Cell('LOOPBACK', 'batch', 1, MATRIX, cut='bundles unlimited'),
        Cell('LOOPBACK', 'streaming', 1, MATRIX, cut='bundles unlimited'),
        Cell('EXTERNAL', 'batch', 1, FN_API + ('validates_runner', )),
        Cell('PROCESS', 'batch', 1, MATRIX),
        Cell('PROCESS', 'streaming', 2, MATRIX),
    ),
    'sdks': tuple(Cell('LOOPBACK', 'batch', workers, ('go', 'java', 'typescript')) for workers in (1, 2)),
    # Not `userstate`, which looks into a list of the test's own process.
    'kills': (Cell(
        'PROCESS', 'streaming', 2,
        FN_API + ('validates_runner', 'trigger', 'test_stream', 'window', 'periodicsequence', 'core', 'util', 'ptransform'),
        kills='workers'), ),
}
