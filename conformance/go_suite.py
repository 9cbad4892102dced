"""Runs the integration and regression tests of Beam's Go SDK, as its module has them, and returns records as run_suite does.

The tests are compiled once, from the module at MODULE_VERSION, into the working directory. Each test is a process of
its own, so that one that hangs or panics costs nothing but itself. `-runner=universal` is the one name for which the
SDK filters no test out. Needs a Go toolchain and its module proxy.
"""
import os
import re
import subprocess
import time

MODULE = 'github.com/apache/beam/sdks/v2'
MODULE_VERSION = 'v2.77.0'
# Without those that need services, or Beam's Java expansion services.
PACKAGES = ('integration/primitives', 'integration/synthetic', 'integration/wordcount', 'regression')
BUILD_SECONDS = 1800


def build(cache):
  """Compiles the test packages. Returns {package: path of its binary}."""
  directory = os.path.join(cache, 'go-' + MODULE_VERSION)
  os.makedirs(directory, exist_ok=True)
  go_mod = os.path.join(directory, 'go.mod')
  if not os.path.exists(go_mod):
    with open(go_mod, 'w', encoding='utf-8') as module:
      module.write('module conformance\n\nrequire %s %s\n' % (MODULE, MODULE_VERSION))
  binaries = {}
  for path in PACKAGES:
    package = os.path.basename(path)
    binaries[package] = os.path.join(directory, package + '.test')
    if not os.path.exists(binaries[package]):
      subprocess.run(
          ['go', 'test', '-c', '-mod=mod', '-o', binaries[package], '%s/go/test/%s' % (MODULE, path)], cwd=directory,
          check=True, timeout=BUILD_SECONDS)
  return binaries


def run_suite(suite, settings, directory, cache, filter_expression=None, alive=lambda: True, skip=()):
  """Returns one record per test; a test in `skip` is not run and has none."""
  records = []
  for package, binary in build(cache).items():
    listed = subprocess.run([binary, '-test.list', '.*'], capture_output=True, text=True, check=True, timeout=60)
    for name in re.findall(r'^Test\w+$', listed.stdout, re.MULTILINE):
      test = 'go/%s::%s' % (package, name)
      if test in skip or (filter_expression and filter_expression not in test) or not alive():
        continue
      records.append(_run_test(suite, settings, directory, binary, test, name))
  return records


def _run_test(suite, settings, directory, binary, test, name):
  command = [
      binary, '-test.run', '^%s$' % name, '-test.v', '-test.timeout=%ds' % suite.limit_seconds, '-runner=universal',
      '-endpoint=' + settings['endpoint'], '-environment_type=' + settings['environment']
  ]
  if name == 'TestDrain':
    # What it is about: the job is drained before its source would come to an end.
    command.append('-experiments=drain_at_start')
  log_path = os.path.join(directory, 'go-%s.log' % name)
  started = time.monotonic()
  with open(log_path, 'wb') as log:
    try:
      code = subprocess.run(
          command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=suite.limit_seconds + 20).returncode
    except subprocess.TimeoutExpired:
      code = None
  with open(log_path, encoding='utf-8', errors='replace') as log:
    text = log.read()
  # The client says so when the job server has taken its pipeline.
  jobs = len(re.findall(r'Prepared job with id:', text))
  outcome = 'failed'
  if code == 0:
    outcome = 'skipped' if '--- SKIP: %s ' % name in text else 'passed'
  reason = re.search(r'^.*(?:panic: |job \S+ failed|Failed to execute job|\.go:\d+: ).*$', text, re.MULTILINE)
  message = '' if code == 0 else 'exit code %s: %s' % (code, reason.group(0) if reason else text[-300:])
  return {
      'event': 'end', 'test': test, 'outcome': outcome, 'message': message[:2000], 'detail': text[-20000:],
      'jobs': jobs, 'seconds': round(time.monotonic() - started, 3), 'marked': False
  }
