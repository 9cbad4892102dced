"""A pytest plugin that points Beam's own tests, unmodified, at a running job endpoint.

It does what Beam's conftest (absent from the wheel) and its per-runner subclasses do:
- adds `--test-pipeline-options`;
- a Pipeline that would take an in-process runner takes PortableRunner at the endpoint instead;
- counts the jobs that a test submits: a test that never reaches the runner proves nothing about it;
- with `kills` in the settings, has workers or harnesses killed while the jobs run (process_killer.py);
- cancels what a test left running, so that it does not weigh on the next one;
- writes one JSON line when a test starts and one when it has ended, so that a killed child loses nothing.

The settings come from the environment variable WEIR_CONFORMANCE (JSON), written by run.py.
"""
import copy
import faulthandler
import json
import os
import shlex
import signal
import time

import pytest
from apache_beam import pipeline as beam_pipeline
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options import PortableOptions
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability import portable_runner
from apache_beam.testing.test_pipeline import TestPipeline

SETTINGS = json.loads(os.environ['WEIR_CONFORMANCE'])
IN_PROCESS_RUNNERS = frozenset([
    'BundleBasedDirectRunner', 'DirectRunner', 'FnApiRunner', 'PrismRunner', 'SwitchingDirectRunner',
    'EnhancedBundleBasedDirectRunner', 'TestDirectRunner'
])

_handles = []
_killers = []
_running_test = []


def point_at_endpoint(options):
  """Sets endpoint, environment and mode on `options`, in place."""
  portable = options.view_as(PortableOptions)
  portable.job_endpoint = SETTINGS['endpoint']
  portable.environment_type = SETTINGS['environment']
  portable.environment_config = SETTINGS.get('environment_config')
  if SETTINGS['mode'] == 'streaming':
    options.view_as(StandardOptions).streaming = True
  for name, value in SETTINGS.get('options', {}).items():
    # Options that only the runner knows: the client asks it for them and parses them from what it did not know.
    options._flags = list(options._flags or []) + ['--%s=%s' % (name, value)]
  return options


def _is_in_process(runner):
  if runner is None:
    return True
  name = runner if isinstance(runner, str) else type(runner).__name__
  name = name.rsplit('.', 1)[-1]
  return name in IN_PROCESS_RUNNERS or name + 'Runner' in IN_PROCESS_RUNNERS


def _redirect_pipelines():
  original_init = beam_pipeline.Pipeline.__init__

  def init(self, runner=None, options=None, argv=None, display_data=None):
    if options is None and isinstance(argv, list):
      options, argv = PipelineOptions(argv), None
    wanted = runner
    if wanted is None and isinstance(options, PipelineOptions):
      wanted = options.view_as(StandardOptions).runner
    if _is_in_process(wanted) and (options is None or isinstance(options, PipelineOptions)):
      if options is None:
        options = PipelineOptions([])
      else:
        options.view_as(StandardOptions).runner = None
        options = copy.deepcopy(options)
      runner = portable_runner.PortableRunner()
      point_at_endpoint(options)
    original_init(self, runner=runner, options=options, argv=argv, display_data=display_data)

  beam_pipeline.Pipeline.__init__ = init


def _count_jobs():
  original_prepare = portable_runner.JobServiceHandle.prepare
  original_run = portable_runner.JobServiceHandle.run

  def prepare(self, proto_pipeline):
    # Counted before the call: that the runner refuses a pipeline is an answer too.
    _handles.append((self.job_service, None))
    return original_prepare(self, proto_pipeline)

  def run(self, preparation_id):
    result = original_run(self, preparation_id)
    _handles.append((self.job_service, result[0]))
    _kill_processes_of(result[0])
    return result

  portable_runner.JobServiceHandle.prepare = prepare
  portable_runner.JobServiceHandle.run = run


def _kill_processes_of(job_id):
  kills = SETTINGS.get('kills')
  if kills:
    # Not by harnesses, which import this module too.
    from process_killer import ProcessKiller
    seed = '%s %s %d' % (kills['seed'], _running_test[-1], len(_killers))
    _killers.append(ProcessKiller(SETTINGS['endpoint'], job_id, kills, seed))


TERMINAL_STATES = (
    beam_job_api_pb2.JobState.STOPPED, beam_job_api_pb2.JobState.DONE, beam_job_api_pb2.JobState.FAILED,
    beam_job_api_pb2.JobState.CANCELLED, beam_job_api_pb2.JobState.UPDATED, beam_job_api_pb2.JobState.DRAINED)


def _cancel_left_over():
  for service, job_id in _handles:
    if job_id is None:
      continue
    try:
      state = service.GetState(beam_job_api_pb2.GetJobStateRequest(job_id=job_id), timeout=5).state
      if state not in TERMINAL_STATES:
        service.Cancel(beam_job_api_pb2.CancelJobRequest(job_id=job_id), timeout=5)
    except Exception:  # The server may be gone; that is the next test's finding, not this one's.
      pass


def _write(record):
  with open(SETTINGS['results'], 'a', encoding='utf-8') as results:
    results.write(json.dumps(record) + '\n')


def pytest_addoption(parser):
  parser.addoption('--test-pipeline-options', help='Options of the pipelines that the tests run.')


def pytest_configure(config):
  config.addinivalue_line('markers', 'it_validatesrunner: proves a runner')
  faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
  _redirect_pipelines()
  _count_jobs()
  arguments = [
      '--runner=PortableRunner', '--job_endpoint=' + SETTINGS['endpoint'],
      '--environment_type=' + SETTINGS['environment']
  ]
  if SETTINGS.get('environment_config'):
    arguments.append('--environment_config=' + SETTINGS['environment_config'])
  if SETTINGS['mode'] == 'streaming':
    arguments.append('--streaming')
  arguments += ['--%s=%s' % item for item in SETTINGS.get('options', {}).items()]
  config.option.test_pipeline_options = config.getoption('test_pipeline_options') or shlex.join(arguments)
  # Without it Beam skips the tests that it calls integration tests.
  TestPipeline.pytest_test_pipeline_options = config.option.test_pipeline_options


def test_id(item):
  """`module::Class::test`, without the folder of the wheel."""
  return item.path.stem + '::' + item.nodeid.partition('::')[2]


def pytest_collection_modifyitems(config, items):
  done = set(SETTINGS.get('done', ()))
  only = SETTINGS.get('only')
  excluded = SETTINGS.get('exclude_classes', ())
  kept, seen = [], set()
  for item in items:
    name = test_id(item)
    class_name = item.cls.__name__ if getattr(item, 'cls', None) else ''
    # A module that imports another test module's class collects it again.
    if name in seen or name in done or class_name in excluded:
      continue
    if only is not None and not any(name.endswith(wanted) for wanted in only):
      continue
    seen.add(name)
    kept.append(item)
  config.hook.pytest_deselected(items=[item for item in items if item not in kept])
  items[:] = kept


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
  del _handles[:], _killers[:]
  _running_test[:] = [test_id(item)]
  item.weir_reports = []
  started = time.monotonic()
  _write({'event': 'start', 'test': test_id(item)})
  yield
  jobs = sum(1 for _, job_id in _handles if job_id is None)
  for killer in _killers:
    killer.close()
  _cancel_left_over()
  outcome, message, detail = 'passed', '', ''
  for report in item.weir_reports:
    if report.failed and outcome != 'failed':
      outcome, detail = 'failed', report.longreprtext
      message = getattr(getattr(report.longrepr, 'reprcrash', None), 'message', '') or detail[-200:]
    elif report.skipped and outcome == 'passed':
      if hasattr(report, 'wasxfail'):
        outcome, message = 'skipped', 'expected to fail: ' + report.wasxfail
      else:
        outcome = 'skipped'
        message = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
  _write({
      'event': 'end', 'test': test_id(item), 'outcome': outcome, 'message': message[:2000], 'detail': detail[-20000:],
      'jobs': jobs, 'kills': [hit for killer in _killers for hit in killer.hits],
      'jobs_hit': sum(1 for killer in _killers if killer.hits), 'seconds': round(time.monotonic() - started, 3),
      'marked': item.get_closest_marker('it_validatesrunner') is not None
  })


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
  result = yield
  item.weir_reports.append(result.get_result())
