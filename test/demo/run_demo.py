"""`make demo`: Beam's own wordcount, unchanged, on Weir, over the text of this repository's licence.

Starts `weir serve` as a user would (`npx weir serve`), waits for its ready line, submits
`apache_beam.examples.wordcount`, and prints the words that come up most, the time and where the output lies.
"""
import glob
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from weir_server import REPOSITORY, VENV_PYTHON, WeirServer, child_environment  # noqa: E402

TOP_COUNT = 10


def main():
  text = os.path.join(REPOSITORY, 'LICENSE')
  output = os.path.join(tempfile.mkdtemp(prefix='weir-demo-'), 'counts')
  print('Starting: npx weir serve', flush=True)
  with WeirServer(command=['npx', '--no-install', 'weir']) as server:
    command = [
        VENV_PYTHON, '-m', 'apache_beam.examples.wordcount', '--input', text, '--output', output,
        '--runner=PortableRunner', '--job_endpoint=' + server.endpoint, '--environment_type=LOOPBACK'
    ]
    print('Submitting: python ' + ' '.join(command[1:]).replace(REPOSITORY + os.sep, ''), flush=True)
    started = time.monotonic()
    client = subprocess.run(command, env=child_environment(), capture_output=True, text=True, timeout=300)
    seconds = time.monotonic() - started
    if client.returncode:
      sys.stderr.write(client.stderr[-8000:])
      sys.stderr.write('\nThe last lines of weir serve:\n%s\n' % server.log_tail())
      return 1
  counts = []
  for shard in glob.glob(output + '-*-of-*'):
    with open(shard, encoding='utf-8') as lines:
      counts += [line.rstrip('\n').rpartition(': ') for line in lines]
  counts = sorted(((int(count), word) for word, _, count in counts), reverse=True)
  if not counts:
    sys.stderr.write('The job ended without an error, yet there is no output at %s*.\n' % output)
    return 1
  print('\n%d words, %d different. The most frequent:' % (sum(count for count, _ in counts), len(counts)))
  for count, word in counts[:TOP_COUNT]:
    print('%7d  %s' % (count, word))
  print('\nTime   %.1f s from the start of the client to its end' % seconds)
  print('Output %s' % ' '.join(sorted(glob.glob(output + '-*-of-*'))))
  return 0


if __name__ == '__main__':
  sys.exit(main())
