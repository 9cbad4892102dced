"""The list of tests that are known to fail, each with a reason.

An entry of known-failures.yaml:

    - tests: [portable_runner_suite::WeirRunnerTest::test_pardo_timers]
      suites: [fn_api, smoke]      # default: every suite
      environments: [LOOPBACK]     # default: every environment
      modes: [batch]               # default: both
      workers: [1]                 # default: any number
      hangs: true                  # optional: not run at all, since it costs its whole time limit
      sometimes: true              # optional: what it expects may happen by chance; passing is no failure of the list
      reason: why it fails, and the issue that will change it

A name may hold `*`. `?` and `[` stand for themselves, since parametrized tests have brackets.
A listed test that passes fails the run: the list only tells the truth.
"""
import os
import re

import yaml

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'known-failures.yaml')
FIELDS = {'tests', 'suites', 'environments', 'modes', 'workers', 'hangs', 'sometimes', 'reason'}


class KnownFailures:
  def __init__(self, entries):
    self._entries = []
    for entry in entries or ():
      unknown = set(entry) - FIELDS
      if unknown or not entry.get('tests') or not entry.get('reason'):
        raise ValueError('%s: an entry needs tests and a reason, and has no fields but %s: %r' %
                         (PATH, ', '.join(sorted(FIELDS)), entry))
      for pattern in entry['tests']:
        expression = re.compile('.*'.join(re.escape(part) for part in pattern.split('*')) + r'\Z')
        self._entries.append((expression, pattern, entry))

  @staticmethod
  def load(path=PATH):
    with open(path, encoding='utf-8') as source:
      return KnownFailures(yaml.safe_load(source))

  def find(self, suite, test, cell):
    """The entry for `test` of `suite` in `cell`, or None."""
    for expression, _, entry in self._entries:
      if (suite in entry.get('suites', (suite, )) and cell.environment in entry.get('environments',
                                                                                    (cell.environment, )) and
          cell.mode in entry.get('modes', (cell.mode, )) and cell.workers in entry.get('workers', (cell.workers, )) and
          expression.match(test)):
        return entry
    return None
