"""Jars of the real services that tests start: what `maven/NAME.xml` depends on, fetched once into .cache/jars.

The folder's name has a checksum of the file, so that a changed one is fetched anew. Downloads are retried, bounded, and
done by one process at a time. `python maven_jars.py NAME...` fetches what is not there yet, and prints the class paths:
tests do that before their own time begins. A machine without Java or Maven has none of these services.
"""
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

from weir_server import REPOSITORY

HERE = os.path.dirname(os.path.abspath(__file__))
ATTEMPTS = 3
ATTEMPT_SECONDS = 300


@contextlib.contextmanager
def locked(path):
  with open(path, 'ab') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield


def class_path(name):
  """The class path of maven/NAME.xml, after a download where it is not there yet."""
  project = os.path.join(HERE, 'maven', name + '.xml')
  with open(project, 'rb') as text:
    version = hashlib.sha256(text.read()).hexdigest()[:12]
  base = os.path.join(REPOSITORY, '.cache', 'jars')
  directory = os.path.join(base, '%s-%s' % (name, version))
  os.makedirs(base, exist_ok=True)
  with locked(os.path.join(base, name + '.lock')):
    if not os.path.isdir(directory):
      partial = directory + '.partial'
      shutil.rmtree(partial, ignore_errors=True)
      _fetch(project, partial)
      os.rename(partial, directory)
  return os.path.join(directory, '*')


def _fetch(project, directory):
  command = [
      'mvn', '-q', '-B', '-f', project, 'dependency:copy-dependencies', '-DincludeScope=runtime',
      '-DoutputDirectory=' + directory
  ]
  for attempt in range(1, ATTEMPTS + 1):
    try:
      subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                     text=True, timeout=ATTEMPT_SECONDS)
      return
    except subprocess.CalledProcessError as failure:
      reason = failure.stdout[-2000:]
    except subprocess.TimeoutExpired:
      reason = 'no end within %d s' % ATTEMPT_SECONDS
    print('Maven, attempt %d of %d: %s' % (attempt, ATTEMPTS, reason), flush=True)
  raise RuntimeError('The jars of %s could not be fetched: %s' % (os.path.basename(project), reason))


if __name__ == '__main__':
  for each in sys.argv[1:]:
    print(class_path(each))
