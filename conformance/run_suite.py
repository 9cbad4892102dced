"""Runs one suite in a child process and returns one record per test.

Every test has a time limit (pytest-timeout, which shows the stacks). Where even that cannot interrupt a test, or where
the child dies, this parent records the test as failed with what is known, and a new child goes on behind it.
"""
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
COLLECT_SECONDS = 180
OVERTIME_SECONDS = 20
MAX_CHILDREN = 40


def _read_records(path):
  if not os.path.exists(path):
    return []
  with open(path, encoding='utf-8') as lines:
    return [json.loads(line) for line in lines if line.endswith('\n')]


def _suite_paths(suite):
  package = os.path.dirname(importlib.util.find_spec('apache_beam').origin)
  return [
      os.path.join(HERE, name) if name.endswith('_suite.py') else os.path.join(package, *name.split('/'))
      for name in suite.files
  ]


def _log_tail(path, byte_count=8000):
  with open(path, 'rb') as log:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - byte_count))
    return log.read().decode(errors='replace')


def _kill(child):
  try:
    child.send_signal(signal.SIGUSR1)  # faulthandler: the stacks of all threads, into the log
    time.sleep(1)
    os.killpg(child.pid, signal.SIGKILL)
  except ProcessLookupError:
    pass
  child.wait()


def run_suite(suite, settings, directory, environment, known_hangs=(), filter_expression=None, alive=lambda: True):
  """Returns the records of `suite`. `settings` goes to the plugin; `alive()` says whether the server still lives."""
  os.makedirs(directory, exist_ok=True)
  results = os.path.join(directory, suite.name + '.jsonl')
  log_path = os.path.join(directory, suite.name + '.log')
  for path in (results, log_path):
    if os.path.exists(path):
      os.remove(path)
  finished = {}
  for _ in range(MAX_CHILDREN):
    child_settings = dict(
        settings, results=results, only=suite.only, exclude_classes=suite.exclude_classes,
        done=sorted(set(finished) | set(known_hangs)))
    command = [
        sys.executable, '-m', 'pytest', '-c', os.path.join(HERE, 'pytest.ini'), '-p', 'weir_plugin', '--tb=short',
        '--color=no', '-q', '--timeout=%d' % suite.limit_seconds, '--timeout-method=signal'
    ]
    if suite.marker:
      command += ['-m', suite.marker]
    if filter_expression:
      command += ['-k', filter_expression]
    with open(log_path, 'ab') as log:
      child = subprocess.Popen(
          command + _suite_paths(suite), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
          env=dict(environment, WEIR_CONFORMANCE=json.dumps(child_settings)), start_new_session=True)
    already, started = len(_read_records(results)), time.monotonic()
    last_change, hung = started, False
    try:
      while child.poll() is None:
        time.sleep(0.1)
        records = _read_records(results)
        if len(records) != already:
          already, last_change = len(records), time.monotonic()
        running = bool(records) and records[-1]['event'] == 'start'
        allowed = suite.limit_seconds + OVERTIME_SECONDS if running else COLLECT_SECONDS
        if time.monotonic() - last_change > allowed or not alive():
          hung = alive()
          _kill(child)
    finally:
      # Of a run that is interrupted.
      if child.poll() is None:
        _kill(child)
    records = _read_records(results)
    for record in records:
      if record['event'] == 'end':
        finished[record['test']] = record
    lost = [record['test'] for record in records if record['event'] == 'start' and record['test'] not in finished]
    for test in lost:
      why = (
          'the server died during the test' if not alive() else
          'hung: no end within %d s and not to be interrupted' % suite.limit_seconds if hung else
          'the test process died with exit code %s' % child.returncode)
      finished[test] = {
          'event': 'end', 'test': test, 'outcome': 'failed', 'message': why, 'detail': _log_tail(log_path), 'jobs': 1,
          'seconds': round(time.monotonic() - last_change, 3), 'marked': bool(suite.marker)
      }
      with open(results, 'a', encoding='utf-8') as lines:
        lines.write(json.dumps(finished[test]) + '\n')
    if not alive():
      break
    if lost:
      continue
    if child.returncode not in (0, 1, 5):
      finished['collection'] = {
          'event': 'end', 'test': 'collection', 'outcome': 'failed', 'detail': _log_tail(log_path), 'jobs': 1,
          'message': 'pytest ended with exit code %s' % child.returncode, 'seconds': 0, 'marked': False
      }
    break
  return list(finished.values())
