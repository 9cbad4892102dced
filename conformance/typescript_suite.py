"""Runs the tests of Beam's TypeScript SDK, as its npm package has them, and returns records as run_suite does.

The package is installed once into the working directory. typescript_hooks.cjs sends to the endpoint what the tests
would run on the SDK's direct runner.
"""
import json
import os
import subprocess

SDK_VERSION = '2.49.0'
PACKAGES = ('apache-beam@' + SDK_VERSION, 'mocha@9.2.2', 'js-yaml@4.1.0')
FILES = ('wordcount', 'primitives_test', 'combine_test', 'docs/programming_guide')
HOOKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'typescript_hooks.cjs')
INSTALL_SECONDS = 600
SUITE_SECONDS = 900


def install(cache, environment):
  """Installs the SDK and its test runner. Returns the folder of node_modules."""
  directory = os.path.join(cache, 'typescript-' + SDK_VERSION)
  modules = os.path.join(directory, 'node_modules')
  if not all(os.path.exists(os.path.join(modules, name)) for name in ('apache-beam', 'mocha', 'js-yaml')):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, 'package.json'), 'w', encoding='utf-8') as package:
      package.write('{"private": true}\n')
    subprocess.run(
        ['npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', *PACKAGES], cwd=directory,
        check=True, timeout=INSTALL_SECONDS, env=environment)
  return modules


def run_suite(suite, settings, directory, cache, environment, filter_expression=None):
  modules = install(cache, environment)
  sdk = os.path.join(modules, 'apache-beam')
  results = os.path.join(directory, 'typescript.jsonl')
  if os.path.exists(results):
    os.remove(results)
  command = [
      'node', os.path.join(modules, 'mocha', 'bin', 'mocha'), '--exit', '--require', HOOKS, '--timeout',
      str(suite.limit_seconds * 1000), *(os.path.join(sdk, 'dist', 'test', name + '.js') for name in FILES)
  ]
  if filter_expression:
    command += ['--fgrep', filter_expression]
  child_settings = dict(settings, results=results)
  log_path = os.path.join(directory, 'typescript.log')
  why = None
  with open(log_path, 'wb') as log:
    try:
      code = subprocess.run(
          command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=sdk, timeout=SUITE_SECONDS,
          env=dict(environment, WEIR_CONFORMANCE=json.dumps(child_settings), WEIR_BEAM_SDK=sdk)).returncode
    except subprocess.TimeoutExpired:
      code, why = None, 'the tests did not end within %d s' % SUITE_SECONDS
  records = []
  if os.path.exists(results):
    with open(results, encoding='utf-8') as lines:
      records = [json.loads(line) for line in lines]
  failures = sum(record['outcome'] == 'failed' for record in records)
  # mocha's exit code is the number of failures.
  if code != failures:
    with open(log_path, encoding='utf-8', errors='replace') as log:
      detail = log.read()[-8000:]
    records.append({
        'event': 'end', 'test': 'typescript::mocha', 'outcome': 'failed', 'detail': detail, 'jobs': 1, 'seconds': 0,
        'message': why or 'mocha ended with exit code %s after %d failures' % (code, failures), 'marked': False
    })
  return records
