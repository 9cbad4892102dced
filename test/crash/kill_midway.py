"""Kills a process in the middle of a job: python kill_midway.py harness|worker

Runs a word count in peace, runs it again and sends SIGKILL to its harness, or to the worker that the harness belongs
to, when a third of it is done. The second output must equal the first. By PROCESS, on two workers when one is killed.
"""
import collections
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
import slow_word_count  # noqa: E402
from weir_server import VENV_PYTHON, WeirServer, child_environment, weir_command  # noqa: E402

JOB_SECONDS = 90


def counts_by_hand():
  counts = collections.Counter(word for line in slow_word_count.lines() for word in line.split())
  return sorted('%s: %d' % item for item in counts.items())


def parent_of(pid):
  with open('/proc/%d/stat' % pid, 'rb') as stat:
    return int(stat.read().rpartition(b') ')[2].split()[1])


def worker_of(harness, server_pid):
  """The ancestor of the harness that is a worker: the child of the server, or its child by the launcher."""
  pid = harness
  while pid > 1:
    pid = parent_of(pid)
    with open('/proc/%d/cmdline' % pid, 'rb') as command:
      if b'worker' in command.read().split(b'\0') and pid != server_pid:
        return pid
  raise AssertionError('no worker is above harness %d' % harness)


def alive(pid):
  try:
    with open('/proc/%d/stat' % pid, 'rb') as stat:
      return stat.read().rpartition(b') ')[2].split()[0] != b'Z'
  except FileNotFoundError:
    return False


def progress(directory):
  path = os.path.join(directory, 'progress')
  return os.path.getsize(path) if os.path.exists(path) else 0


def harnesses(directory):
  return [int(path.rpartition('-')[2]) for path in glob.glob(os.path.join(directory, 'harness-*'))]


def run(server, directory, boot, victim):
  """Runs the job, killing the victim on the way if there is one. Returns the output's lines, sorted."""
  os.makedirs(directory)
  environment = {'command': boot, 'env': {'PYTHONPATH': HERE, 'PATH': child_environment()['PATH']}}
  command = [
      VENV_PYTHON, os.path.join(HERE, 'slow_word_count.py'), directory, '--runner=PortableRunner',
      '--job_endpoint=' + server.endpoint, '--environment_type=PROCESS',
      '--environment_config=' + json.dumps(environment)
  ]
  client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=child_environment(PYTHONPATH=HERE))
  killed, orphans = None, []
  deadline = time.monotonic() + JOB_SECONDS
  try:
    while victim and killed is None:
      assert client.poll() is None, 'the job ended before the kill:\n' + client.stdout.read()[-3000:]
      assert time.monotonic() < deadline, 'the job does not get on: %d lines' % progress(directory)
      if progress(directory) >= slow_word_count.LINE_COUNT // 3:
        harness = next(pid for pid in harnesses(directory) if alive(pid))
        killed = harness if victim == 'harness' else worker_of(harness, server.pid)
        orphans = [pid for pid in harnesses(directory) if alive(pid)] if victim == 'worker' else []
        orphans = [pid for pid in orphans if worker_of(pid, server.pid) == killed]
        os.kill(killed, signal.SIGKILL)
      time.sleep(0.02)
    output, _ = client.communicate(timeout=max(1, deadline - time.monotonic()))
    assert client.returncode == 0, 'the job failed:\n%s\n%s' % (output[-4000:], server.log_tail())
  finally:
    if client.poll() is None:
      client.kill()
      client.wait()
  if killed:
    print('killed %s %d after %d lines of %d; %d lines were processed in all' % (
        victim, killed, slow_word_count.LINE_COUNT // 3, slow_word_count.LINE_COUNT, progress(directory)))
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in orphans) and time.monotonic() < deadline:
      time.sleep(0.1)
    assert not any(alive(pid) for pid in orphans), 'harnesses of the killed worker live on: %r' % orphans
  found = []
  for shard in glob.glob(os.path.join(directory, 'counts-*')):
    with open(shard, encoding='utf-8') as text:
      found += text.read().splitlines()
  return sorted(found)


def main(victim):
  directory = tempfile.mkdtemp(prefix='weir-crash-')
  boot = os.path.join(directory, 'boot')
  with open(boot, 'w', encoding='utf-8') as script:
    script.write('#!/bin/sh\nexec %s boot python "$@"\n' % ' '.join("'%s'" % word for word in weir_command()))
  os.chmod(boot, 0o755)
  try:
    with WeirServer(workers=2 if victim == 'worker' else 1) as server:
      undisturbed = run(server, os.path.join(directory, 'undisturbed'), boot, None)
      assert undisturbed == counts_by_hand(), 'even in peace the output is wrong: %r' % undisturbed
      disturbed = run(server, os.path.join(directory, 'disturbed'), boot, victim)
      assert disturbed == undisturbed, 'after the kill: %r\nin peace: %r' % (disturbed, undisturbed)
  finally:
    shutil.rmtree(directory, ignore_errors=True)
  print('equal output')


if __name__ == '__main__':
  main(sys.argv[1])
