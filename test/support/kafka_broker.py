"""A real Kafka broker for tests: one KRaft node on free ports, with a directory of its own that goes when it is closed.

`KafkaBroker` needs Java and Maven (maven_jars.missing_tools) and the Python client confluent-kafka. It dies with the
process that started it, even if that is killed.
"""
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import maven_jars
from ports import free_port
from weir_server import die_with_parent

READY_SECONDS = 60
REQUEST_SECONDS = 30
TERM_GRACE_SECONDS = 10
# A port that was free may be taken by another process before the broker has it.
START_ATTEMPTS = 3
COORDINATOR_STARTS = (
    KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR)

PROPERTIES = '''
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{broker},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={directory}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.retention.ms=-1
'''


class KafkaBroker:
  """`servers` is its bootstrap address, at `host`. A context manager."""

  def __init__(self, host='127.0.0.1'):
    self._host = host
    self.directory = tempfile.mkdtemp(prefix='weir-kafka-')
    self.servers = None
    self.process = None
    self.admin = None
    # Consumers that never join their group, to ask what it has committed.
    self._observers = {}
    self._producers = {}
    self._log_path = os.path.join(self.directory, 'kafka.log')
    self._class_path = maven_jars.class_path('kafka-broker')
    try:
      for attempt in range(START_ATTEMPTS):
        if self._start():
          break
        if attempt == START_ATTEMPTS - 1:
          raise RuntimeError('The Kafka broker did not start. Its last lines:\n%s' % self.log_tail())
    except BaseException:
      self.close()
      raise
    self.admin = AdminClient({'bootstrap.servers': self.servers, 'log_level': 0})

  def _java(self, *arguments, **popen):
    command = [
        'java', '-Xmx512m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:-UsePerfData', '-cp', self._class_path,
        *arguments
    ]
    with open(self._log_path, 'ab') as log:
      return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                              preexec_fn=die_with_parent, **popen)

  def _start(self):
    """Returns whether it is ready."""
    broker, controller = free_port(), free_port()
    shutil.rmtree(os.path.join(self.directory, 'data'), ignore_errors=True)
    properties = os.path.join(self.directory, 'server.properties')
    with open(properties, 'w', encoding='utf-8') as text:
      text.write(PROPERTIES.format(host=self._host, broker=broker, controller=controller, directory=self.directory))
    tool = self._java('kafka.tools.StorageTool', 'format', '-t', 'weirtestsAAAAAAAAAAAAA', '-c', properties)
    if tool.wait(READY_SECONDS) != 0:
      return False
    self.process = self._java('kafka.Kafka', properties)
    self.servers = '%s:%d' % (self._host, broker)
    deadline = time.monotonic() + READY_SECONDS
    # Silent: that it cannot be reached yet is no news.
    admin = AdminClient({'bootstrap.servers': self.servers, 'log_level': 0})
    while self.process.poll() is None:
      try:
        if admin.list_topics(timeout=1).brokers:
          return True
      except KafkaException:
        pass
      if time.monotonic() > deadline:
        self.process.kill()
        self.process.wait()
    return False

  def log_tail(self, line_count=40):
    with open(self._log_path, 'rb') as log:
      return b'\n'.join(log.read().splitlines()[-line_count:]).decode(errors='replace')

  def create_topic(self, name, partition_count):
    self.admin.create_topics([NewTopic(name, partition_count, 1)])[name].result(REQUEST_SECONDS)
    # The broker has it a moment after the controller.
    deadline = time.monotonic() + REQUEST_SECONDS
    while len(self.admin.list_topics(name, timeout=REQUEST_SECONDS).topics[name].partitions) < partition_count:
      assert time.monotonic() < deadline, 'topic %s does not appear' % name

  def produce(self, topic, records, records_per_batch=10_000):
    """Writes (partition, key, value, timestamp in ms) in this order, and waits until the broker has all of them."""
    failures = []
    if records_per_batch not in self._producers:
      self._producers[records_per_batch] = Producer({
          'bootstrap.servers': self.servers, 'enable.idempotence': True, 'linger.ms': 5, 'log_level': 0,
          'batch.num.messages': records_per_batch
      })
    producer = self._producers[records_per_batch]

    def delivered(error, _message):
      if error is not None:
        failures.append(error)

    for partition, key, value, timestamp in records:
      while True:
        try:
          producer.produce(
              topic, value=value, key=key, partition=partition, timestamp=timestamp, on_delivery=delivered)
          break
        except BufferError:
          producer.poll(0.1)
    assert producer.flush(REQUEST_SECONDS) == 0, 'records were not taken in %d s' % REQUEST_SECONDS
    assert not failures, 'records were refused: %s' % failures[0]

  def ends(self, topic):
    """Per partition the offset after its last record."""
    consumer = self._consumer()
    try:
      partitions = self.admin.list_topics(topic, timeout=REQUEST_SECONDS).topics[topic].partitions
      return {
          partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), REQUEST_SECONDS)[1]
          for partition in sorted(partitions)
      }
    finally:
      consumer.close()

  def reader(self, topic, **configuration):
    """A consumer of all partitions from their beginning on, of committed records. The caller closes it."""
    consumer = self._consumer(**configuration)
    partitions = self.admin.list_topics(topic, timeout=REQUEST_SECONDS).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    return consumer

  def read(self, topic):
    """All committed records up to the present end, as (partition, offset, key, value); in the partition's order."""
    ends = self.ends(topic)
    consumer = self.reader(topic, **{'enable.partition.eof': True})
    try:
      found = []
      missing = {partition for partition, end in ends.items() if end > 0}
      deadline = time.monotonic() + REQUEST_SECONDS
      while missing:
        assert time.monotonic() < deadline, 'not read to the end: %r' % missing
        for message in consumer.consume(10_000, 0.2):
          # Transactions' marks have offsets, and are not read: only this tells of those at the end.
          if message.error() is not None and message.error().code() == KafkaError._PARTITION_EOF:
            missing.discard(message.partition())
          elif message.error() is not None:
            raise KafkaException(message.error())
          elif message.offset() < ends[message.partition()]:
            found.append((message.partition(), message.offset(), message.key(), message.value()))
          if message.error() is None and message.offset() + 1 >= ends[message.partition()]:
            missing.discard(message.partition())
      return found
    finally:
      consumer.close()

  def committed(self, group, topic):
    """Offsets that the group has committed, by partition; those without any are left out."""
    return {each.partition: each.offset for each in self._committed(group, topic)}

  def committed_metadata(self, group, topic):
    """What was committed with them."""
    return {each.partition: each.metadata for each in self._committed(group, topic)}

  def _committed(self, group, topic):
    # The admin client's own request ends the process by a segmentation fault for a group that is not there yet.
    consumer = self._observers.get(group)
    if consumer is None:
      consumer = self._observers[group] = self._consumer(group)
    partitions = self.admin.list_topics(topic, timeout=REQUEST_SECONDS).topics[topic].partitions
    asked = [TopicPartition(topic, partition) for partition in partitions]
    deadline = time.monotonic() + REQUEST_SECONDS
    while True:
      try:
        answer = consumer.committed(asked, REQUEST_SECONDS)
        return [each for each in answer if each.offset >= 0]
      except KafkaException as failure:
        # The first request for a group makes the broker's topic for offsets, which takes a moment.
        if failure.args[0].code() not in COORDINATOR_STARTS or time.monotonic() > deadline:
          raise
        time.sleep(0.05)

  def _consumer(self, group=None, **configuration):
    return Consumer({
        'bootstrap.servers': self.servers, 'group.id': group or 'test-%s' % uuid.uuid4().hex, 'log_level': 0,
        'enable.auto.commit': False, 'isolation.level': 'read_committed', 'auto.offset.reset': 'error', **configuration
    })

  def close(self):
    for observer in self._observers.values():
      observer.close()
    self._observers.clear()
    self._producers.clear()
    self.admin = None
    if self.process is not None and self.process.poll() is None:
      self.process.terminate()
      try:
        self.process.wait(TERM_GRACE_SECONDS)
      except subprocess.TimeoutExpired:
        self.process.kill()
        self.process.wait()
    shutil.rmtree(self.directory, ignore_errors=True)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.close()
