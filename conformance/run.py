"""Runs Beam's own suites, unmodified, against Weir (or any job endpoint) and says how it stands.

    python conformance/run.py --plan ci
    python conformance/run.py --suites fn_api,window --environment LOOPBACK --mode batch --workers 2
    python conformance/run.py --suites fn_api --mode streaming --workers 2 --cut parallelism=3
    python conformance/run.py --suites fn_api --environment PROCESS --workers 2 --kill-workers 7    (the seed; 0: any)
    python conformance/run.py --plan sdks        (other SDKs; needs Go, a JDK and Maven; packages come from their registries)
    python conformance/run.py --suites go -k TestTimers
    python conformance/run.py --suites fn_api --endpoint localhost:8073 --target Prism --no-known-failures

Starts `weir serve` for each cell unless `--endpoint` is given. With `--resume` the cells of a plan that a former call
has finished, in the same working directory, are taken from there: a plan of hours may be interrupted. The exit code
is 1 if a test failed that is not listed in known-failures.yaml, or if a listed one passed.
"""
import argparse
import contextlib
import importlib.metadata
import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import replace

HERE = os.path.dirname(os.path.abspath(__file__))
# Of a test whose jobs begin again, compared with one whose jobs run through.
KILLS_TAKE = 4
# By plan, of those that are kept.
SCOREBOARDS = {'all': 'SCOREBOARD.md', 'kills': 'SCOREBOARD-KILLS.md', 'sdks': 'SCOREBOARD-SDKS.md'}
sys.path.insert(0, os.path.join(HERE, '..', 'test', 'support'))

import go_suite  # noqa: E402
import java_suite  # noqa: E402
import report  # noqa: E402
import typescript_suite  # noqa: E402
from kept_workers import KeptWorkers  # noqa: E402
from known_failures import KnownFailures  # noqa: E402
from run_suite import run_suite  # noqa: E402
from suites import CUTS, PLANS, SUITES, Cell  # noqa: E402
from weir_server import REPOSITORY, VENV_PYTHON, WeirServer, child_environment, weir_command  # noqa: E402
from worker_pool import WorkerPool  # noqa: E402


def parse_arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--plan', choices=sorted(PLANS), help='a fixed list of cells')
  parser.add_argument('--suites', help='comma-separated; of ' + ', '.join(SUITES))
  parser.add_argument('--environment', default='LOOPBACK', choices=['LOOPBACK', 'EXTERNAL', 'PROCESS'])
  parser.add_argument('--mode', default='batch', choices=['batch', 'streaming'])
  parser.add_argument('--workers', type=int, default=1)
  parser.add_argument('--cut', choices=sorted(CUTS), default='', help='how the work is cut into tasks and bundles')
  parser.add_argument('--resume', action='store_true', help='of a plan: run only cells that no former call has finished')
  parser.add_argument('--kill-workers', type=int, metavar='SEED',
                      help='the jobs are streaming, take checkpoints, and a worker of each is killed while it runs; '
                      'the same seed kills the same way, 0 takes a new one')
  parser.add_argument('--kill-harnesses', type=int, metavar='SEED', help='the same with harnesses, in PROCESS; no job may go back')
  parser.add_argument('--kill-within', type=float, default=1, metavar='SECONDS',
                      help='after a job is RUNNING: the kill comes by then, so jobs that run longer are hit')
  parser.add_argument('-k', dest='filter', help='only tests that match, as pytest -k')
  parser.add_argument('--endpoint', help='a running job endpoint; otherwise Weir is started')
  parser.add_argument('--target', default='Weir', help='the name of what is tested, for the scoreboard')
  parser.add_argument('--boot', help='the boot command for PROCESS; `weir boot python` by default')
  parser.add_argument('--option', action='append', default=[], metavar='NAME=VALUE', help='runner option of each job')
  parser.add_argument('--no-known-failures', action='store_true', help='ignore known-failures.yaml')
  parser.add_argument('--junit-dir', help='default: junit/ below the working directory')
  parser.add_argument('--directory', default=os.path.join(REPOSITORY, '.cache', 'conformance'), help='working directory')
  parser.add_argument('--scoreboard', help='where to write the scoreboard; --plan all writes conformance/SCOREBOARD.md, '
                      '--plan kills and --plan sdks SCOREBOARD-KILLS.md and SCOREBOARD-SDKS.md beside it')
  arguments = parser.parse_args()
  if bool(arguments.plan) == bool(arguments.suites):
    parser.error('give one of --plan and --suites')
  arguments.kills = 'workers' if arguments.kill_workers is not None else (
      'harnesses' if arguments.kill_harnesses is not None else '')
  if arguments.kills and arguments.endpoint:
    parser.error('kills need the workers of a server that this starts, so no --endpoint')
  arguments.seed = arguments.kill_workers or arguments.kill_harnesses or random.SystemRandom().randrange(1, 1_000_000)
  return arguments


def cells_of(arguments):
  if arguments.plan:
    return PLANS[arguments.plan]
  names = tuple(name.strip() for name in arguments.suites.split(','))
  unknown = [name for name in names if name not in SUITES]
  if unknown:
    sys.exit('No such suite: %s. There are: %s' % (', '.join(unknown), ', '.join(SUITES)))
  mode = 'streaming' if arguments.kills else arguments.mode
  return (Cell(arguments.environment, mode, arguments.workers, names, arguments.kills, arguments.cut), )


@contextlib.contextmanager
def harness_for(cell, arguments, directory):
  """Yields the `environment_config` of the cell, with what has to run for it."""
  if cell.environment == 'PROCESS':
    boot = arguments.boot
    if not boot:
      boot = os.path.join(directory, 'boot')
      with open(boot, 'w', encoding='utf-8') as script:
        script.write('#!/bin/sh\nexec %s boot python "$@"\n' % ' '.join("'%s'" % word for word in weir_command()))
      os.chmod(boot, 0o755)
    # The suites of this folder are pickled by reference, so a harness of its own must be able to import them.
    variables = {'PYTHONPATH': HERE, 'WEIR_CONFORMANCE': '{}', 'PATH': child_environment()['PATH']}
    yield json.dumps({'command': boot, 'env': variables})
  elif cell.environment == 'EXTERNAL':
    with WorkerPool(HERE, os.path.join(directory, 'pool.log'), WEIR_CONFORMANCE='{}') as pool:
      yield 'localhost:%d' % pool.port
  else:
    yield None


def run_cell(cell, arguments, known):
  """Yields (suite, judged, seconds) for each suite of the cell, and restarts a server that has died."""
  directory = os.path.join(arguments.directory, cell.slug)
  shutil.rmtree(directory, ignore_errors=True)
  os.makedirs(directory)
  junit = arguments.junit_dir or os.path.join(arguments.directory, 'junit')
  os.makedirs(junit, exist_ok=True)
  environment = child_environment(PYTHONPATH=HERE, PYTHONUNBUFFERED='1')
  with harness_for(cell, arguments, directory) as environment_config, contextlib.ExitStack() as servers:
    server = None
    for name in cell.suites:
      suite = SUITES[name]
      if not arguments.endpoint and (server is None or server.process.poll() is not None):
        servers.close()
        log_path = os.path.join(directory, 'weir.log')
        server = servers.enter_context(WeirServer(
            workers=0 if cell.kills else cell.workers, log_path=log_path, arguments=CUTS[cell.cut].server_arguments))
        if cell.kills:
          servers.enter_context(KeptWorkers(server.endpoint, cell.workers, log_path))
      settings = {
          'endpoint': arguments.endpoint or server.endpoint, 'environment': cell.environment, 'mode': cell.mode,
          'environment_config': environment_config,
          'options': dict(CUTS[cell.cut].options, **dict(option.split('=', 1) for option in arguments.option))
      }
      if cell.kills:
        settings['kills'] = {
            'what': cell.kills, 'seed': arguments.seed, 'parent_pid': os.getpid(), 'within_seconds': arguments.kill_within,
            'checkpoints': os.path.join(server.directory, 'data', 'checkpoints')
        }
        settings['options'].setdefault('checkpointing_interval', '200')
        suite = replace(suite, limit_seconds=KILLS_TAKE * suite.limit_seconds)
      hanging = [
          pattern for _, pattern, entry in (known._entries if known else ())
          if entry.get('hangs') and known.find(name, pattern, cell) is entry and
          not any('::%s::' % class_name in pattern for class_name in suite.exclude_classes)
      ]
      started = time.monotonic()
      alive = lambda: server is None or server.process.poll() is None  # noqa: E731
      sdks = os.path.join(REPOSITORY, '.cache', 'sdks')
      if suite.sdk == 'go':
        records = go_suite.run_suite(suite, settings, directory, sdks, arguments.filter, alive, hanging)
      elif suite.sdk == 'java':
        records = java_suite.run_suite(suite, settings, directory, sdks, arguments.filter, alive, hanging)
      elif suite.sdk == 'typescript':
        records = typescript_suite.run_suite(suite, settings, directory, sdks, child_environment(), arguments.filter)
      else:
        records = run_suite(suite, settings, directory, environment, hanging, arguments.filter, alive)
      records += [{'test': test, 'outcome': 'not run', 'jobs': 0, 'seconds': 0} for test in hanging]
      judged = [(record, *report.judge(suite, record, cell, known)) for record in records]
      report.write_junit(os.path.join(junit, '%s-%s.xml' % (cell.slug, name)), suite, cell, judged)
      yield suite, judged, time.monotonic() - started
    servers.close()
    if server is not None and server.ended_cleanly is False:
      print('  weir serve did not end within its grace period after SIGTERM', flush=True)


def print_suite(cell, suite, judged, seconds, seed):
  counts = {verdict: sum(1 for _, found, _ in judged if found == verdict) for verdict in report.VERDICTS}
  print('%-42s %-22s %s  (%.0f s)' % (
      cell.label, suite.name, ', '.join('%d %s' % (count, verdict) for verdict, count in counts.items() if count) or
      'no tests', seconds), flush=True)
  if cell.kills:
    print('    seed %d: %d kills hit, in %d of %d jobs; %d went back to a checkpoint' % (
        seed, *report.kill_counts(judged)), flush=True)
  for record, verdict, reason in judged:
    if verdict in report.RUN_FAILS_ON:
      print('    %s: %s: %s' % (verdict.upper(), record['test'], ' '.join(reason.split())[:300]), flush=True)


def results_path(cell, arguments):
  return os.path.join(arguments.directory, cell.slug + '.json')


def finished_cell(cell, arguments, known):
  """What a former call found in the cell, or None: it did not come to its end, or the plan had other suites."""
  with contextlib.suppress(OSError, ValueError):
    with open(results_path(cell, arguments), encoding='utf-8') as source:
      found = json.load(source)
    if [name for name, _, _ in found] == list(cell.suites):
      # Judged anew: the list of known failures may have changed.
      return [(SUITES[name], [(record, *report.judge(SUITES[name], record, cell, known)) for record, _, _ in judged],
               seconds) for name, judged, seconds in found]
  return None


def main():
  arguments = parse_arguments()
  # Ended as by Ctrl-C: what was started is closed.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  arguments.directory = os.path.abspath(arguments.directory)
  os.makedirs(arguments.directory, exist_ok=True)
  known = None if arguments.no_known_failures else KnownFailures.load()
  results = []
  for cell in cells_of(arguments):
    of_cell = finished_cell(cell, arguments, known) if arguments.plan and arguments.resume else None
    if of_cell is None:
      of_cell = []
      for suite, judged, seconds in run_cell(cell, arguments, known):
        print_suite(cell, suite, judged, seconds, arguments.seed)
        of_cell.append((suite, judged, seconds))
      with open(results_path(cell, arguments), 'w', encoding='utf-8') as target:
        json.dump([(suite.name, judged, seconds) for suite, judged, seconds in of_cell], target)
    results += [(cell, *result) for result in of_cell]
    print('%s: %.1f minutes' % (cell.label, sum(seconds for _, _, seconds in of_cell) / 60), flush=True)
  versions = {
      'python': importlib.metadata.version('apache-beam'), 'go': go_suite.MODULE_VERSION, 'java': java_suite.SDK_VERSION,
      'typescript': typescript_suite.SDK_VERSION
  }
  text = report.scoreboard(results, arguments.target, versions)
  path = arguments.scoreboard or (
      os.path.join(HERE if arguments.plan in SCOREBOARDS else arguments.directory,
                   SCOREBOARDS.get(arguments.plan, 'SCOREBOARD.md')))
  with open(path, 'w', encoding='utf-8') as scoreboard:
    scoreboard.write(text)
  verdicts = [verdict for _, _, judged, _ in results for _, verdict, _ in judged]
  failed = sum(1 for verdict in verdicts if verdict in report.RUN_FAILS_ON)
  empty = [(cell, suite) for cell, suite, judged, _ in results if not judged and not arguments.filter]
  for cell, suite in empty:
    print('%s %s: no test was collected' % (cell.label, suite.name))
  failed += len(empty)
  summary = {'passed': verdicts.count('passed'), 'failed': failed, 'known': verdicts.count('known')}
  with open(os.path.join(arguments.directory, 'summary.json'), 'w', encoding='utf-8') as target:
    json.dump(summary, target)
  print('Conformance: %(passed)d passed, %(failed)d failed, %(known)d known failures.' % summary, 'Scoreboard:', path)
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main())
