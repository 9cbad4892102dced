"""Packages that a job brings are installed for its harnesses, by `weir boot python`, without a package index.

Usage: packages.py ENDPOINT all|missing
  all      --setup_file, --extra_package, --requirements_file and --save_main_session together; then a job without them
  missing  an extra package whose dependency cannot be had: the job fails with pip's own words
"""
import json
import os
import sys
import tempfile
import zipfile

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from apache_beam.testing.util import equal_to

# A global of the main module, which functions see by --save_main_session.
SESSION_VALUE = 1000


def wheel(directory, name, value, requires=''):
  """A package with one module that has one value. Returns its path."""
  path = os.path.join(directory, '%s-1.0-py3-none-any.whl' % name)
  info = '%s-1.0.dist-info/' % name
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr(name + '.py', 'VALUE = %d\n' % value)
    metadata = 'Metadata-Version: 2.1\nName: %s\nVersion: 1.0\n' % name.replace('_', '-')
    file.writestr(info + 'METADATA', metadata + (requires and 'Requires-Dist: %s\n' % requires))
    file.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
    file.writestr(info + 'RECORD', '')
  return path


def workflow(directory):
  """A project with a setup.py. Returns the path of that."""
  os.mkdir(os.path.join(directory, 'weir_workflow'))
  with open(os.path.join(directory, 'weir_workflow', '__init__.py'), 'w', encoding='utf-8') as file:
    file.write('VALUE = 1\n')
  path = os.path.join(directory, 'setup.py')
  with open(path, 'w', encoding='utf-8') as file:
    file.write("import setuptools\nsetuptools.setup(name='weir-workflow', version='1.0', packages=['weir_workflow'])\n")
  return path


def value_of(name):
  import importlib
  try:
    return importlib.import_module(name).VALUE
  except ModuleNotFoundError:
    return 0


def with_session(element):
  return element + SESSION_VALUE


MODULES = ['weir_workflow', 'weir_extra', 'weir_requirement']


def run(endpoint, expected, *more):
  options = PipelineOptions([
      '--runner=PortableRunner', '--job_endpoint=' + endpoint, '--environment_type=PROCESS',
      '--environment_config=' + json.dumps({'command': 'weir boot python'}), *more
  ])
  with beam.Pipeline(options=options) as pipeline:
    values = pipeline | beam.Create(MODULES) | beam.Map(value_of) | beam.Map(with_session)
    assert_that(values, equal_to(expected))


def main(endpoint, case):
  assert [value_of(name) for name in MODULES] == [0, 0, 0], 'they are installed here'
  with tempfile.TemporaryDirectory() as directory:
    index, cache, project = (os.path.join(directory, name) for name in ('index', 'cache', 'project'))
    for folder in (index, cache, project):
      os.mkdir(folder)
    if case == 'missing':
      extra = wheel(directory, 'weir_extra', 10, requires='weir-nowhere==7.0')
      try:
        run(endpoint, [], '--extra_package=' + extra)
      except RuntimeError as error:
        print(error)
        return
      raise AssertionError('the job did not fail')
    # Only the client's pip finds it: harnesses have to take what is staged.
    os.environ['PIP_FIND_LINKS'] = index
    wheel(index, 'weir_requirement', 100)
    requirements = os.path.join(directory, 'requirements.txt')
    with open(requirements, 'w', encoding='utf-8') as file:
      file.write('weir-requirement==1.0\n')
    run(endpoint, [1001, 1010, 1100],
        '--setup_file=' + workflow(project), '--extra_package=' + wheel(directory, 'weir_extra', 10),
        '--requirements_file=' + requirements, '--requirements_cache=' + cache, '--save_main_session')
    run(endpoint, [1000, 1000, 1000])
  print('as it should be')


if __name__ == '__main__':
  main(*sys.argv[1:])
