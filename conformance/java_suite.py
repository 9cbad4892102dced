"""Runs a few pipelines of Beam's Java SDK through its PortableRunner, and returns records as run_suite does.

A smoke test of our own (java_smoke/Smoke.java): Beam's Java tests are not published so that they could be run whole.
Needs a JDK and Maven, which fetches the SDK into its local repository; the compiled class goes to the working directory.
"""
import os
import re
import shutil
import subprocess
import time

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'java_smoke')
SDK_VERSION = '2.65.0'
BUILD_SECONDS = 900


def build(cache):
  """Compiles Smoke.java. Returns the class path."""
  directory = os.path.join(cache, 'java-' + SDK_VERSION)
  os.makedirs(directory, exist_ok=True)
  listed = os.path.join(directory, 'classpath.txt')
  if not os.path.exists(listed):
    shutil.copy(os.path.join(HERE, 'pom.xml'), directory)
    subprocess.run(
        ['mvn', '-q', '-B', 'dependency:build-classpath', '-Dmdep.outputFile=' + listed], cwd=directory, check=True,
        stdin=subprocess.DEVNULL, timeout=BUILD_SECONDS)
  with open(listed, encoding='utf-8') as jars:
    classpath = jars.read().strip()
  classes = os.path.join(directory, 'classes')
  subprocess.run(
      ['javac', '-nowarn', '-cp', classpath, '-d', classes, os.path.join(HERE, 'Smoke.java')], check=True,
      stdin=subprocess.DEVNULL, capture_output=True, timeout=BUILD_SECONDS)
  return os.pathsep.join([classes, classpath])


def run_suite(suite, settings, directory, cache, filter_expression=None, alive=lambda: True, skip=()):
  """Returns one record per pipeline; one in `skip` is not run and has none."""
  java = ['java', '-cp', build(cache), 'Smoke']
  names = subprocess.run(java + ['--list'], capture_output=True, text=True, check=True, timeout=60).stdout.split()
  records = []
  for name in names:
    test = 'java::' + name
    if test in skip or (filter_expression and filter_expression not in test) or not alive():
      continue
    log_path = os.path.join(directory, 'java-%s.log' % name)
    started = time.monotonic()
    with open(log_path, 'wb') as log:
      try:
        code = subprocess.run(
            java + [settings['endpoint'], name], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            timeout=suite.limit_seconds).returncode
      except subprocess.TimeoutExpired:
        code = None
    with open(log_path, encoding='utf-8', errors='replace') as log:
      text = log.read()
    reason = re.search(r'^(?:Exception in|Caused by).*(?:\n.*){0,3}', text, re.MULTILINE)
    if code is None:
      message = 'no end within %d s' % suite.limit_seconds
    else:
      message = '' if code == 0 else reason.group(0) if reason else text[-300:]
    records.append({
        'event': 'end', 'test': test, 'outcome': 'passed' if code == 0 else 'failed', 'message': message[:2000],
        'detail': text[-20000:], 'jobs': 1, 'seconds': round(time.monotonic() - started, 3), 'marked': False
    })
  return records
