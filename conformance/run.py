"""Runs Beam's own suites, unmodified, against Weir (or any job endpoint) and says how it stands.

    python conformance/run.py --plan ci
    python conformance/run.py --suites fn_api,window --environment LOOPBACK --mode batch --workers 2
    python conformance/run.py --suites go,java,typescript     (needs Go, a JDK and Maven; packages come from their registries)
    python conformance/run.py --suites fn_api --endpoint localhost:8073 --target Prism --no-known-failures

Starts `weir serve` for each cell unless `--endpoint` is given. The exit code is 1 if a test failed that is not
listed in known-failures.yaml, or if a listed one passed.
"""
import argparse
import contextlib
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'test', 'support'))

import go_suite  # noqa: E402
import java_suite  # noqa: E402
import report  # noqa: E402
import typescript_suite  # noqa: E402
from known_failures import KnownFailures  # noqa: E402
from run_suite import run_suite  # noqa: E402
from suites import PLANS, SUITES, Cell  # noqa: E402
from weir_server import REPOSITORY, VENV_PYTHON, WeirServer, child_environment, free_port, weir_command  # noqa: E402


def parse_arguments():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--plan', choices=sorted(PLANS), help='a fixed list of cells')
  parser.add_argument('--suites', help='comma-separated; of ' + ', '.join(SUITES))
  parser.add_argument('--environment', default='LOOPBACK', choices=['LOOPBACK', 'EXTERNAL', 'PROCESS'])
  parser.add_argument('--mode', default='batch', choices=['batch', 'streaming'])
  parser.add_argument('--workers', type=int, default=1)
  parser.add_argument('-k', dest='filter', help='only tests that match, as pytest -k')
  parser.add_argument('--endpoint', help='a running job endpoint; otherwise Weir is started')
  parser.add_argument('--target', default='Weir', help='the name of what is tested, for the scoreboard')
  parser.add_argument('--boot', help='the boot command for PROCESS; `weir boot python` by default')
  parser.add_argument('--option', action='append', default=[], metavar='NAME=VALUE', help='runner option of each job')
  parser.add_argument('--no-known-failures', action='store_true', help='ignore known-failures.yaml')
  parser.add_argument('--junit-dir', help='default: junit/ below the working directory')
  parser.add_argument('--directory', default=os.path.join(REPOSITORY, '.cache', 'conformance'), help='working directory')
  parser.add_argument('--scoreboard', help='where to write the scoreboard; --plan all writes conformance/SCOREBOARD.md')
  arguments = parser.parse_args()
  if bool(arguments.plan) == bool(arguments.suites):
    parser.error('give one of --plan and --suites')
  return arguments


def cells_of(arguments):
  if arguments.plan:
    return PLANS[arguments.plan]
  names = tuple(name.strip() for name in arguments.suites.split(','))
  unknown = [name for name in names if name not in SUITES]
  if unknown:
    sys.exit('No such suite: %s. There are: %s' % (', '.join(unknown), ', '.join(SUITES)))
  return (Cell(arguments.environment, arguments.mode, arguments.workers, names), )


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
    port = free_port()
    with open(os.path.join(directory, 'pool.log'), 'wb') as log:
      pool = subprocess.Popen(
          [VENV_PYTHON, '-m', 'apache_beam.runners.worker.worker_pool_main', '--service_port', str(port)], stdout=log,
          stderr=log, stdin=subprocess.DEVNULL, env=child_environment(PYTHONPATH=HERE, WEIR_CONFORMANCE='{}'))
      try:
        for _ in range(300):
          with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 1):
            break
          time.sleep(0.1)
        yield 'localhost:%d' % port
      finally:
        pool.terminate()
        pool.wait()
  else:
    yield None


def run_cell(cell, arguments, known):
  """Yields (suite, judged, seconds) for each suite of the cell, and restarts a server that has died."""
  slug = '%s-%s-%d' % (cell.environment.lower(), cell.mode, cell.workers)
  directory = os.path.join(arguments.directory, slug)
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
        server = servers.enter_context(
            WeirServer(workers=cell.workers, log_path=os.path.join(directory, 'weir.log')))
      settings = {
          'endpoint': arguments.endpoint or server.endpoint, 'environment': cell.environment, 'mode': cell.mode,
          'environment_config': environment_config,
          'options': dict(option.split('=', 1) for option in arguments.option)
      }
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
      report.write_junit(os.path.join(junit, '%s-%s.xml' % (slug, name)), suite, cell, judged)
      yield suite, judged, time.monotonic() - started
    if server is not None:
      server.stop()
      if server.ended_cleanly is False:
        print('  weir serve did not end within its grace period after SIGTERM', flush=True)


def print_suite(cell, suite, judged, seconds, verbose_skips=False):
  counts = {verdict: sum(1 for _, found, _ in judged if found == verdict) for verdict in report.VERDICTS}
  print('%-32s %-22s %s  (%.0f s)' % (
      cell.label, suite.name, ', '.join('%d %s' % (count, verdict) for verdict, count in counts.items() if count) or
      'no tests', seconds), flush=True)
  for record, verdict, reason in judged:
    if verdict in report.RUN_FAILS_ON:
      print('    %s: %s: %s' % (verdict.upper(), record['test'], ' '.join(reason.split())[:300]), flush=True)


def main():
  arguments = parse_arguments()
  arguments.directory = os.path.abspath(arguments.directory)
  os.makedirs(arguments.directory, exist_ok=True)
  known = None if arguments.no_known_failures else KnownFailures.load()
  results = []
  for cell in cells_of(arguments):
    for suite, judged, seconds in run_cell(cell, arguments, known):
      print_suite(cell, suite, judged, seconds)
      results.append((cell, suite, judged, seconds))
  text = report.scoreboard(results, arguments.target, importlib.metadata.version('apache-beam'))
  path = arguments.scoreboard or (
      os.path.join(HERE, 'SCOREBOARD.md') if arguments.plan == 'all' else
      os.path.join(arguments.directory, 'SCOREBOARD.md'))
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
