"""Writes to Kafka exactly once: a transaction for each bundle and shard, as Beam's and Flink's own sinks have them.

Input is (shard, (key, value)); a value begins with its number: 1, 2, 3, … of its key. A shard is a partition of the topic.
A transaction has a bundle's records, and as the committed offset of GROUP for that partition the numbers that are
written of each key. So what comes again, since a bundle runs twice or the job has gone back to a checkpoint, is known and
left out. A shard's producer has always the same transactional id: a new one fences off one that still runs elsewhere.
Those who read committed records see each once. This needs numbers that are the same the second time.
"""
import json

import apache_beam as beam
from apache_beam.transforms.userstate import CombiningValueStateSpec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

GROUP = 'weir-sink'
REQUEST_SECONDS = 30
# A transaction of a machine that is gone holds readers back for so long, if nobody fences it.
TRANSACTION_TIMEOUT_MS = 20_000


def retrying(request, *arguments):
  while True:
    try:
      return request(*arguments, REQUEST_SECONDS)
    except KafkaException as failure:
      if not failure.args[0].retriable():
        raise


class ShardWriter:
  """One producer of a shard. Of no use any more after a failure."""

  def __init__(self, servers, topic, shard):
    self._partition = TopicPartition(topic, shard)
    self._consumer = Consumer({'bootstrap.servers': servers, 'group.id': GROUP, 'isolation.level': 'read_committed'})
    self._producer = Producer({
        'bootstrap.servers': servers, 'transactional.id': '%s-%s-%d' % (GROUP, topic, shard), 'linger.ms': 2,
        'transaction.timeout.ms': TRANSACTION_TIMEOUT_MS
    })
    # Ends a transaction of another producer of this shard, too.
    retrying(self._producer.init_transactions)
    [written] = retrying(self._consumer.committed, [self._partition])
    self._record = json.loads(written.metadata) if written.metadata else {'numbers': {}, 'again': 0}
    self._is_open = False

  def write(self, key, value):
    numbers, number = self._record['numbers'], int(value.split()[0])
    known = numbers.get(key, 0)
    if number <= known:
      self._record['again'] += 1
      return
    if number != known + 1:
      raise ValueError('%s: %d comes after %d' % (key, number, known))
    if not self._is_open:
      self._producer.begin_transaction()
      self._is_open = True
    self._producer.produce(self._partition.topic, partition=self._partition.partition, key=key, value=value)
    self._producer.poll(0)
    numbers[key] = number

  def commit(self):
    if not self._is_open:
      return
    offset = TopicPartition(
        self._partition.topic, self._partition.partition, sum(self._record['numbers'].values()),
        metadata=json.dumps(self._record))
    retrying(self._producer.send_offsets_to_transaction, [offset], self._consumer.consumer_group_metadata())
    retrying(self._producer.commit_transaction)
    self._is_open = False


class WriteExactlyOnce(beam.DoFn):
  # It is not used: with state, the bundles of a shard run one after the other.
  ONE_AT_A_TIME = CombiningValueStateSpec('one-at-a-time', combine_fn=sum)
  # Of this process. A bundle takes a shard's writer, and gives it back when it has committed.
  _idle = {}

  def __init__(self, servers, topic):
    self._servers = servers
    self._topic = topic

  def start_bundle(self):
    self._writers = {}

  def process(self, element, _state=beam.DoFn.StateParam(ONE_AT_A_TIME)):
    shard, (key, value) = element
    if shard not in self._writers:
      idle = self._idle.pop((self._servers, self._topic, shard), None)
      self._writers[shard] = idle or ShardWriter(self._servers, self._topic, shard)
    self._writers[shard].write(key, value)

  def finish_bundle(self):
    while self._writers:
      shard, writer = self._writers.popitem()
      writer.commit()
      self._idle[self._servers, self._topic, shard] = writer


def written_again(broker, topic):
  """How many records came to the sink again and were left out."""
  records = broker.committed_metadata(GROUP, topic).values()
  return sum(json.loads(record)['again'] for record in records)
