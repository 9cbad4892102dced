"""Disks that are full for a while: python full_disk_cases.py CASE, in a mount namespace of its own (small_disk.py)

  checkpoints   the directory of a streaming job's checkpoints: checkpoints fail, the job goes on, each number is counted
                once, also after a worker is killed
  database      the job server's data directory: the job goes on, a new one is refused, no message is lost
  grouped       the workers' temporary directory, for a job that groups more than fits into memory: it waits
  state         the same for a streaming job's state
  cancelled     a job that waits for room is cancelled
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, '..', 'support'), os.path.join(HERE, '..', 'crash')]
import recovery_cases  # noqa: E402
from small_disk import SmallDisk  # noqa: E402
from weir_server import VENV_PYTHON, WeirServer, child_environment, weir_command  # noqa: E402

INTERVAL_MS = 300
FAILED_CHECKPOINTS = 3
# At once, and one more a minute.
MOST_MESSAGES = 6
NUMBERS_MEANWHILE = 50
JOB_SECONDS = 150


def checkpoints(disk, directory):
  with WeirServer(workers=2) as server:
    run = counting(server, directory, os.path.join(disk.path, 'checkpoints'))
    try:
      run.wait_for_checkpoints(2)
      disk.fill()
      newest = run.newest_checkpoint()
      run.wait_for('failed checkpoints', lambda: run.said(' is given up: ') >= FAILED_CHECKPOINTS)
      run.wait_for_numbers(NUMBERS_MEANWHILE)
      assert run.newest_checkpoint() - newest <= 1
      assert run.said('could not write its state: Cannot write the snapshot file %s/' % run.checkpoint_root) > 0
      assert run.said('ENOSPC') > 0
      told = run.said(' is given up: ')
      assert told <= MOST_MESSAGES, 'messages: %d' % told
      disk.free()
      run.wait_for_checkpoints(2)
      assert run.said('restarts from') == 0, 'the job went back:\n%s' % run.output()[-3000:]
      recovery_cases.worker(run)
      run.finish()
    finally:
      run.end()
  recovery_cases.check(run)


def database(disk, directory):
  data = ['--data-dir', os.path.join(disk.path, 'data')]
  with WeirServer(workers=2, arguments=data) as server:
    run = counting(server, directory, os.path.join(directory, 'checkpoints'))
    try:
      run.wait_for_checkpoints(1)
      disk.fill()
      recovery_cases.worker(run)
      run.wait_for('a message', lambda: run.said("The job's history cannot be stored") > 0)
      run.wait_for_numbers(NUMBERS_MEANWHILE)
      run.wait_for_checkpoints(2)
      refused = submit(server, 'grouped')
      assert refused.wait(60) != 0
      text = refused.stdout.read().decode()
      assert 'The job cannot be stored in %s' % disk.path in text and '--data-dir' in text, text[-3000:]
      disk.free()
      run.finish()
    finally:
      run.end()
  recovery_cases.check(run)
  with WeirServer(workers=0, arguments=data) as server:
    [listed] = weir('jobs', server).splitlines()
    assert 'DONE' in listed, listed
    messages = weir('attach', server, listed.split()[1])
    for text in ('restarts from checkpoint', "The job's history cannot be stored"):
      assert text in messages, 'the history lacks %r:\n%s' % (text, messages)


def waits(disk, kind):
  with spilling(disk) as server:
    disk.fill()
    job = submit(server, kind)
    wait_for_message(server, 'is full: what does not fit into its memory waits for room')
    disk.free()
    output = job.communicate(timeout=JOB_SECONDS)[0].decode()
    assert job.returncode == 0 and 'right' in output, output[-3000:]


def grouped(disk, unused_directory):
  waits(disk, 'grouped')


def state(disk, unused_directory):
  waits(disk, 'state')


def cancelled(disk, unused_directory):
  with spilling(disk) as server:
    disk.fill()
    for count, kind in enumerate(('grouped', 'state'), 1):
      job = submit(server, kind)
      job_id = wait_for_message(server, 'is full: what does not fit into its memory waits for room', count)
      weir('cancel', server, job_id)
      output = job.communicate(timeout=JOB_SECONDS)[0].decode()
      assert job.returncode != 0 and 'CANCELLED' in output, output[-3000:]
    disk.free()
    job = submit(server, 'grouped')
    assert 'right' in job.communicate(timeout=JOB_SECONDS)[0].decode()


def counting(server, directory, checkpoint_root):
  run = recovery_cases.Run(server, directory)
  run.deadline += JOB_SECONDS
  run.checkpoint_root = checkpoint_root
  run.options = ['--state_backend_storage_path=' + checkpoint_root]
  run.start(recovery_cases.boot_script(directory), INTERVAL_MS)
  return run


def spilling(disk):
  """Workers with little memory whose temporary files are on the disk."""
  memory = [
      word for name in ('partitionMemoryBytes', 'bundleMemoryBytes', 'groupingMemoryBytes')
      for word in ('--limit', '%s=2000000' % name)
  ]
  return WeirServer(arguments=['--worker-memory-mb', '64', *memory], environment={'TMPDIR': disk.path})


def submit(server, kind):
  return subprocess.Popen(
      [VENV_PYTHON, os.path.join(HERE, 'spilling_job.py'), server.endpoint, kind],
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=child_environment())


def weir(command, server, *arguments):
  done = subprocess.run([*weir_command(), command, *arguments, '--job-endpoint', server.endpoint],
                        stdout=subprocess.PIPE, text=True, timeout=60, env=child_environment(), check=False)
  return done.stdout


def wait_for_message(server, text, job_count=1):
  """Of the newest of so many jobs, whose id is returned."""
  deadline = time.monotonic() + JOB_SECONDS
  while time.monotonic() < deadline:
    listed = weir('jobs', server).splitlines()
    if len(listed) == job_count and text in messages_of(server, listed[-1].split()[1]):
      return listed[-1].split()[1]
    time.sleep(0.2)
  raise AssertionError('%r was waited for in vain:\n%s' % (text, server.log_tail()))


def messages_of(server, job_id):
  """Those so far."""
  attached = subprocess.Popen([*weir_command(), 'attach', job_id, '--job-endpoint', server.endpoint],
                              stdout=subprocess.PIPE, text=True, env=child_environment())
  try:
    return attached.communicate(timeout=3)[0]
  except subprocess.TimeoutExpired:
    attached.kill()
    return attached.communicate()[0]


CASES = {
    'checkpoints': (checkpoints, 8),
    'database': (database, 8),
    'grouped': (grouped, 128),
    'state': (state, 128),
    'cancelled': (cancelled, 128),
}


def main(case):
  directory = tempfile.mkdtemp(prefix='weir-full-disk-')
  run, megabytes = CASES[case]
  try:
    with SmallDisk(megabytes) as disk:
      run(disk, directory)
  finally:
    shutil.rmtree(directory, ignore_errors=True)
  print('nothing is lost')


if __name__ == '__main__':
  main(sys.argv[1])
