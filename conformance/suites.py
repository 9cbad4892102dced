"""Which of Beam's own test modules make a suite, and which cells (suite x environment x mode x workers) a plan runs.

Paths are relative to the installed `apache_beam` package, or to this folder when they have no slash.
"""
from dataclasses import dataclass

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
    'transforms/combiners_test.py', 'transforms/deduplicate_test.py', 'transforms/dofn_lifecycle_test.py',
    'transforms/ptransform_test.py', 'transforms/sideinputs_test.py', 'transforms/util_test.py',
    'runners/portability/fn_api_runner/fn_runner_test.py', TRANSLATIONS)

SMOKE_TESTS = tuple(
    'WeirRunnerTest::' + test for test in (
        'test_assert_that', 'test_pardo', 'test_pardo_side_and_main_outputs', 'test_pardo_side_inputs',
        'test_pardo_windowed_side_inputs', 'test_multimap_side_input', 'test_pardo_unfusable_side_inputs',
        'test_flattened_side_input', 'test_group_by_key', 'test_reshuffle', 'test_flatten', 'test_combine_per_key',
        'test_windowed_combine_per_key', 'test_windowing', 'test_custom_merging_window', 'test_sdf', 'test_read',
        'test_metrics', 'test_error_traceback_includes_user_code', 'test_error_message_includes_stage'))

SUITES = {
    suite.name: suite
    for suite in (
        Suite('fn_api', ('portable_runner_suite.py', ), exclude_classes=('WeirRunnerPreOptimizedTest', )),
        Suite('fn_api_state_backed', ('runners/portability/fn_api_runner/fn_runner_test.py', ),
              only=('FnApiBasedStateBackedCoderTest::test_gbk_many_values', )),
        Suite('fn_api_pre_optimized', ('portable_runner_suite.py', ), exclude_classes=('WeirRunnerTest', )),
        Suite('smoke', ('portable_runner_suite.py', ), only=SMOKE_TESTS),
        Suite('validates_runner', VALIDATES_RUNNER_FILES, marker='it_validatesrunner'),
        Suite('core', (
            'pipeline_test.py', 'transforms/core_test.py', 'transforms/create_test.py', 'transforms/combiners_test.py',
            'transforms/sideinputs_test.py', 'transforms/dofn_lifecycle_test.py',
            'transforms/combinefn_lifecycle_test.py', 'transforms/deduplicate_test.py',
            'transforms/batch_dofn_test.py', 'metrics/metric_test.py')),
        Suite('core_subset', (
            'transforms/core_test.py', 'transforms/create_test.py', 'transforms/sideinputs_test.py',
            'transforms/dofn_lifecycle_test.py', 'transforms/batch_dofn_test.py', 'transforms/window_test.py')),
        Suite('window', ('transforms/window_test.py', )),
        Suite('ptransform', ('transforms/ptransform_test.py', )),
        Suite('util', ('transforms/util_test.py', )),
        Suite('periodicsequence', ('transforms/periodicsequence_test.py', ), limit_seconds=90),
        Suite('userstate', ('transforms/userstate_test.py', )),
        Suite('trigger', ('transforms/trigger_test.py', )),
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
    'fn_api_pre_optimized', 'validates_runner', 'core', 'window', 'ptransform', 'util', 'periodicsequence',
    'userstate', 'trigger', 'test_stream', 'io')


@dataclass(frozen=True)
class Cell:
  environment: str
  mode: str
  workers: int
  suites: tuple

  @property
  def label(self):
    return '%s %s, %d worker%s' % (self.environment, self.mode, self.workers, '' if self.workers == 1 else 's')


PLANS = {
    'ci': (
        Cell('LOOPBACK', 'batch', 1, FN_API + ('validates_runner', 'core_subset') + MODEL),
        Cell('LOOPBACK', 'streaming', 1, FN_API),
        Cell('LOOPBACK', 'batch', 2, FN_API),
        Cell('EXTERNAL', 'batch', 1, ('smoke', )),
        Cell('PROCESS', 'batch', 1, ('smoke', )),
    ),
    'all': (
        Cell('LOOPBACK', 'batch', 1, EVERYTHING),
        Cell('LOOPBACK', 'batch', 2, FN_API + ('validates_runner', 'core')),
        Cell('EXTERNAL', 'batch', 1, FN_API + ('validates_runner', )),
        Cell('PROCESS', 'batch', 1, FN_API + ('validates_runner', )),
        Cell('LOOPBACK', 'streaming', 1, FN_API + ('validates_runner', )),
    ),
}
