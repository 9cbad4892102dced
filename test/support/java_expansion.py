"""Beam's Java expansion service for tests, whose transforms run in Java harnesses that Weir starts (PROCESS).

`JavaExpansionService` needs Java and Maven (maven_jars.missing_tools). It dies with the process that started it.
"""
import json
import os
import shutil
import subprocess

import maven_jars
from ports import free_port
from weir_server import NPM_BIN, child_environment, die_with_parent, starts_listening

HERE = os.path.dirname(os.path.abspath(__file__))
READY_SECONDS = 60


class JavaExpansionService:
  """`endpoint` is its address; `directory` gets its log and the harnesses' boot command. A context manager."""

  def __init__(self, directory):
    class_path = maven_jars.class_path('beam-java-kafka')
    boot = os.path.join(directory, 'boot-java')
    words = [os.path.join(NPM_BIN, 'node'), os.path.join(HERE, 'boot-java-main.ts'), shutil.which('java'), class_path]
    with open(boot, 'w', encoding='utf-8') as script:
      script.write('#!/bin/sh\nexec %s "$@"\n' % ' '.join("'%s'" % word for word in words))
    os.chmod(boot, 0o755)
    port = free_port()
    self.endpoint = 'localhost:%d' % port
    log_path = os.path.join(directory, 'expansion.log')
    with open(log_path, 'ab') as log:
      self.process = subprocess.Popen(
          [
              'java', '-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:-UsePerfData', '-cp', class_path,
              'org.apache.beam.sdk.expansion.service.ExpansionService', str(port), '--defaultEnvironmentType=PROCESS',
              '--defaultEnvironmentConfig=' + json.dumps({'command': boot})
          ],
          stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory, env=child_environment(),
          preexec_fn=die_with_parent)
    if not starts_listening(self.process, 'localhost', port, READY_SECONDS):
      self.close()
      with open(log_path, encoding='utf-8', errors='replace') as log:
        raise RuntimeError('The expansion service did not start:\n%s' % log.read()[-3000:])

  def close(self):
    """Idempotent."""
    if self.process.poll() is None:
      self.process.kill()
    self.process.wait()

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()
