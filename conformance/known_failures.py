"""The lists of tests that are known to fail, each with a reason: always, and where workers are killed (cells with kills).

An entry of known-failures.yaml, or of exempt-under-kills.yaml, where all are `sometimes`:

    - tests: [portable_runner_suite::WeirRunnerTest::test_pardo_timers]
      suites: [fn_api, smoke]      # default: every suite
      environments: [LOOPBACK]     # default: every environment
      modes: [batch]               # default: both
      workers: [1]                 # default: any number
      cuts: [bundles of one]       # default: any; '' is the one where nothing is set
      hangs: true                  # optional: not run at all, since it costs its whole time limit
      sometimes: true              # optional: what it expects may happen by chance; passing is no failure of the list
      reason: why it fails, and the issue that will change it

A name may hold `*`. `?` and `[` stand for themselves, since parametrized tests have brackets.
A listed test that passes fails the run: the list only tells the truth.
"""
import os
import re

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
PATH = os.path.join(HERE, 'known-failures.yaml')
KILLS_PATH = os.path.join(HERE, 'exempt-under-kills.yaml')
FIELDS = {'tests', 'suites', 'environments', 'modes', 'workers', 'cuts', 'hangs', 'sometimes', 'reason'}


class KnownFailures:
  def __init__(self, entries, under_kills=()):
    self._entries = []
    self._add(entries or ())
    self._add([dict(entry, sometimes=True) for entry in under_kills or ()], only_under_kills=True)

  def _add(self, entries, only_under_kills=False):
    for entry in entries:
      unknown = set(entry) - FIELDS
      if unknown or not entry.get('tests') or not entry.get('reason'):
        raise ValueError('%s: an entry needs tests and a reason, and has no fields but %s: %r' %
                         (KILLS_PATH if only_under_kills else PATH, ', '.join(sorted(FIELDS)), entry))
      for pattern in entry['tests']:
        expression = re.compile('.*'.join(re.escape(part) for part in pattern.split('*')) + r'\Z')
        self._entries.append((expression, pattern, dict(entry, only_under_kills=only_under_kills)))

  @staticmethod
  def load():
    with open(PATH, encoding='utf-8') as always, open(KILLS_PATH, encoding='utf-8') as under_kills:
      return KnownFailures(yaml.safe_load(always), yaml.safe_load(under_kills))

  def find(self, suite, test, cell):
    """The entry for `test` of `suite` in `cell`, or None."""
    for expression, _, entry in self._entries:
      if entry['only_under_kills'] and not cell.kills:
        continue
      if (suite in entry.get('suites', (suite, )) and cell.environment in entry.get('environments',
                                                                                    (cell.environment, )) and
          cell.mode in entry.get('modes', (cell.mode, )) and cell.workers in entry.get('workers', (cell.workers, )) and
          cell.cut in entry.get('cuts', (cell.cut, )) and
          expression.match(test)):
        return entry
    return None
