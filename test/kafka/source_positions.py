"""Compares the offsets that a job has committed on the broker with those in its checkpoints, while it runs.

The positions of the sources of kafka_counts.py and java_kafka.py are read from the files of a checkpoint, as
runner/checkpoint/FORMAT.md says.
"""
import glob
import json
import os
import sys
import threading

from apache_beam import coders
from apache_beam.coders.coders import GlobalWindowCoder, LengthPrefixCoder

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'checkpoint-tools'))
import kafka_counts  # noqa: E402
from read_snapshot import read_task, varint  # noqa: E402

POLL_SECONDS = 0.05
# Of a residual's row, before its element: due (8), hold (8), truncated (1).
RESIDUAL_HEADER_BYTES = 17


def residual_coder(element, of_sdk):
  """The input of a splittable DoFn: ((element, (restriction, watermark estimator's state)), size)."""
  restriction = coders.TupleCoder([LengthPrefixCoder(of_sdk), LengthPrefixCoder(of_sdk)])
  return coders.WindowedValueCoder(
      coders.TupleCoder([coders.TupleCoder([element, restriction]), coders.FloatCoder()]), GlobalWindowCoder())


RESIDUAL = residual_coder(coders.VarIntCoder(), coders.FastPrimitivesCoder())
RESIDUAL_OF_JAVA = residual_coder(LengthPrefixCoder(coders.BytesCoder()), coders.BytesCoder())


def id_of(manifest_path):
  return int(manifest_path.rpartition('-')[2].split('.')[0])


def manifests(directory):
  """Paths of the complete checkpoints of all jobs below `directory`, oldest first."""
  return sorted(glob.glob(os.path.join(directory, '*', 'checkpoint-*.json')), key=id_of)


def residuals(manifest_path, coder):
  """What is left to read, as (the source's element, its restriction)."""
  with open(manifest_path, encoding='utf-8') as text:
    manifest = json.load(text)
  for task in manifest['tasks']:
    for (table, _), row in read_task(os.path.dirname(manifest_path), task['files']).items():
      if table == 'residuals':
        (element, (restriction, _)), _ = coder.decode(row[RESIDUAL_HEADER_BYTES:]).value
        yield element, restriction


def by_partition(manifest_path, positions):
  found = {}
  for partition, offset in positions:
    assert partition not in found, 'partition %d is in checkpoint %s twice' % (partition, manifest_path)
    found[partition] = offset
  return found


def positions_of_python(manifest_path):
  """The next offset by partition; of partitions that nothing was read of yet there is none."""
  found = residuals(manifest_path, RESIDUAL)
  return by_partition(manifest_path, ((partition, restriction.start) for partition, restriction in found))


def positions_of_java(manifest_path):
  """The same of KafkaIO: a row that ends with the partition, and two varints."""
  found = residuals(manifest_path, RESIDUAL_OF_JAVA)
  return by_partition(manifest_path, ((descriptor[-1], varint(offsets, 0)[0]) for descriptor, offsets in found))


class OffsetWatch:
  """Asks the broker again and again. What is committed must be in the newest checkpoint that is there afterwards.

  `may_repeat`: what commits is a stage with stable input, which after a restart is given again what the checkpoint has
  of it: commits that it has made since. For a moment offsets go back then.
  """

  def __init__(self, broker, checkpoint_directory, group=kafka_counts.GROUP, positions_of=positions_of_python,
               may_repeat=False):
    self._may_repeat = may_repeat
    self._broker = broker
    self.directory = checkpoint_directory
    self._group = group
    self._positions_of = positions_of
    self._stop = threading.Event()
    self._failure = None
    # Comparisons in which something was committed, and checkpoints that were compared with.
    self.comparison_count = 0
    self.compared_checkpoints = set()
    self.committed = {}
    self._thread = threading.Thread(target=self._run)
    self._thread.start()

  def newest(self):
    """Id of the newest complete checkpoint, 0 before the first."""
    paths = manifests(self.directory)
    return id_of(paths[-1]) if paths else 0

  def _run(self):
    try:
      while not self._stop.wait(POLL_SECONDS):
        self._compare()
    # Of any kind: told when the watch ends.
    except BaseException as failure:  # pylint: disable=broad-except
      self._failure = failure

  def _compare(self):
    committed = self._broker.committed(self._group, 'in')
    while True:
      paths = manifests(self.directory)
      try:
        found = self._positions_of(paths[-1]) if paths else {}
        break
      except FileNotFoundError:
        # Deleted since, for a newer one is there.
        continue
    for partition, offset in committed.items():
      went_back = offset < self.committed.get(partition, 0)
      assert self._may_repeat or not went_back, 'offsets went back: %r, then %r' % (self.committed, committed)
      assert offset <= found.get(partition, 0), (
          'offset %d of partition %d is committed, and the newest of %r has %r' % (offset, partition, paths, found))
    self.committed = committed
    if committed:
      self.comparison_count += 1
      self.compared_checkpoints.add(paths[-1])

  def check(self):
    if self._failure is not None:
      raise self._failure

  def close(self):
    """Idempotent. Call `check` afterwards."""
    self._stop.set()
    self._thread.join()
