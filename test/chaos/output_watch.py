"""Reads the topic `counts` while it is written, as a user of the pipeline does: committed records, by key, in order."""
import threading
import time

from confluent_kafka import KafkaException

POLL_SECONDS = 0.05


class OutputWatch:
  """The n-th record of a key must have number n: there is no gap, and none comes twice."""

  def __init__(self, broker, numbering):
    self._broker = broker
    self._expected = numbering.expected_value
    self._failure = None
    self._stop = threading.Event()
    self.count = 0
    self.last = {}
    # When the newest came (time.monotonic).
    self.arrived = None
    self._consumer = broker.reader('counts')
    self._thread = threading.Thread(target=self._run)
    self._thread.start()

  def _run(self):
    try:
      while not self._stop.is_set():
        for message in self._consumer.consume(1000, POLL_SECONDS):
          self._take(message)
    # Of any kind: told when the watch ends.
    except BaseException as failure:  # pylint: disable=broad-except
      self._failure = failure
    finally:
      self._consumer.close()

  def _take(self, message):
    if message.error() is not None:
      raise KafkaException(message.error())
    key, value = message.key(), message.value()
    number = self.last.get(key, 0) + 1
    expected = self._expected(number)
    assert value == expected, 'after %d of %r there is %r, not %r' % (number - 1, key, value, expected)
    self.last[key] = number
    self.count += 1
    self.arrived = time.monotonic()

  def check(self):
    if self._failure is not None:
      raise self._failure

  def close(self):
    """Idempotent. Call `check` afterwards."""
    self._stop.set()
    self._thread.join()
