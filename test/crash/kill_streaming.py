"""Kills workers in the middle of a streaming job with checkpoints: python kill_streaming.py KILLS

Two workers run streaming_counts.py; now and then the one that is older gets SIGKILL, and the server replaces it. In the
end each number must have been counted once: in user state and in its window.
"""
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
import streaming_counts  # noqa: E402
from weir_server import VENV_PYTHON, WeirServer, child_environment, weir_command  # noqa: E402

JOB_SECONDS = 120


def workers_of(server_pid):
  found = subprocess.run(['pgrep', '-P', str(server_pid)], stdout=subprocess.PIPE, text=True, check=True).stdout
  return [int(pid) for pid in found.split()]


def lines(directory, name):
  path = os.path.join(directory, name)
  if not os.path.exists(path):
    return []
  with open(path, encoding='utf-8') as text:
    return [tuple(int(word) for word in line.split()) for line in text]


def run(server, directory, boot, kills):
  environment = {'command': boot, 'env': {'PYTHONPATH': HERE, 'PATH': child_environment()['PATH']}}
  command = [
      VENV_PYTHON, os.path.join(HERE, 'streaming_counts.py'), directory, '--runner=PortableRunner',
      '--job_endpoint=' + server.endpoint, '--environment_type=PROCESS',
      '--environment_config=' + json.dumps(environment), '--parallelism=2', '--checkpointing_interval=200'
  ]
  client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=child_environment(PYTHONPATH=HERE))
  deadline = time.monotonic() + JOB_SECONDS
  total = streaming_counts.ELEMENT_COUNT
  try:
    for kill in range(kills):
      wanted = total * (kill + 1) // (kills + 1)
      while sum({key: count for key, count in lines(directory, 'state')}.values()) < wanted:
        assert client.poll() is None, 'the job ended before the kill:\n' + client.stdout.read()[-3000:]
        assert time.monotonic() < deadline, 'the job does not get on'
        time.sleep(0.05)
      victim = workers_of(server.pid)[0]
      os.kill(victim, 9)
      print('killed worker %d after %d numbers' % (victim, wanted), flush=True)
    output, _ = client.communicate(timeout=max(1, deadline - time.monotonic()))
    assert client.returncode == 0, 'the job failed:\n%s\n%s' % (output[-4000:], server.log_tail())
  finally:
    if client.poll() is None:
      client.kill()
      client.wait()
  print('restarts from a checkpoint: %d, from the beginning: %d' % (
      output.count('restarts from checkpoint'), output.count('restarts from the beginning')))


def check(directory):
  total, keys = streaming_counts.ELEMENT_COUNT, streaming_counts.KEY_COUNT
  most = collections.defaultdict(int)
  for key, count in lines(directory, 'state'):
    most[key] = max(most[key], count)
  assert dict(most) == {key: total // keys for key in range(keys)}, 'counts in state: %r' % dict(most)
  panes = set(lines(directory, 'windows'))
  window = streaming_counts.WINDOW_SECONDS
  wanted = {(start, key, window // keys) for start in range(0, total, window) for key in range(keys)}
  assert panes == wanted, 'panes: missing %r, wrong %r' % (sorted(wanted - panes), sorted(panes - wanted))


def main(kills):
  directory = tempfile.mkdtemp(prefix='weir-crash-')
  boot = os.path.join(directory, 'boot')
  with open(boot, 'w', encoding='utf-8') as script:
    script.write('#!/bin/sh\nexec %s boot python "$@"\n' % ' '.join("'%s'" % word for word in weir_command()))
  os.chmod(boot, 0o755)
  try:
    with WeirServer(workers=2) as server:
      run(server, directory, boot, kills)
    check(directory)
  finally:
    shutil.rmtree(directory, ignore_errors=True)
  print('each number counted once')


if __name__ == '__main__':
  main(int(sys.argv[1]))
