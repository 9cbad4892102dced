"""Beam's Flink job server with an embedded Flink, as a peer of the benchmarks.

`FLINK_JARS` is the class path; `python test/support/maven_jars.py flink-job-server` fetches it (by Maven, 162 jars) and prints it.
"""
import os
import shutil
import subprocess

from ports import free_port
from weir_server import RunnerProcess, child_environment, starts_listening

MAIN = 'org.apache.beam.runners.flink.FlinkJobServerDriver'
VERSION = 'Beam 2.62.0 on Flink 1.19.0, embedded'
OPENED = ('java.util', 'java.lang', 'java.nio', 'java.net', 'java.time', 'java.util.concurrent',
          'java.util.concurrent.atomic', 'java.util.concurrent.locks')
COORDINATOR_LOG = 'org.apache.flink.runtime.checkpoint.CheckpointCoordinator'
JOB_LOG = 'org.apache.flink.runtime.executiongraph.ExecutionGraph'


def missing_flink():
  """Why it cannot be measured here, or None."""
  if not os.environ.get('FLINK_JARS'):
    return 'FLINK_JARS is not set (python test/support/maven_jars.py flink-job-server prints what to set it to)'
  return None if shutil.which('java') else 'no java on the PATH'


class FlinkServer(RunnerProcess):
  """The job server at a free port, with one task slot for each core. Its log tells of checkpoints and of restarts."""

  def __init__(self, ready_seconds=60):
    super().__init__('flink')
    ports = [free_port() for _ in range(3)]
    command = [
        'java', '-Xmx2g', '-Djava.io.tmpdir=' + self.directory,
        *('--add-opens=java.base/%s=ALL-UNNAMED' % name for name in OPENED),
        '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', '-Dorg.slf4j.simpleLogger.log.%s=info' % COORDINATOR_LOG,
        '-Dorg.slf4j.simpleLogger.log.%s=info' % JOB_LOG, '-cp', os.environ['FLINK_JARS'], MAIN,
        '--flink-master=[local]', *('--%s-port=%d' % named for named in zip(('job', 'artifact', 'expansion'), ports)),
        '--artifacts-dir=' + os.path.join(self.directory, 'artifacts')
    ]
    self._spawn(command, stdout=subprocess.DEVNULL, cwd=self.directory, env=child_environment(TMPDIR=self.directory))
    if not starts_listening(self.process, 'localhost', ports[0], ready_seconds):
      tail = self.log_tail()
      self.stop()
      raise RuntimeError('The Flink job server was not ready:\n' + tail)
    self.endpoint = 'localhost:%d' % ports[0]
