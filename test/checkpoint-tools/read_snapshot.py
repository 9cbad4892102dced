"""Reads a checkpoint as runner/checkpoint/FORMAT.md says, and compares it with what `weir checkpoint export` wrote.

Usage: read_snapshot.py MANIFEST ARROW_FILE ARROW_STREAM. Prints what it found as one JSON object.
"""
import collections
import hashlib
import json
import os
import struct
import sys
import zlib

import pyarrow
import pyarrow.ipc


def varint(data, at):
  value = shift = 0
  while True:
    byte = data[at]
    at += 1
    value |= (byte & 0x7f) << shift
    shift += 7
    if byte < 0x80:
      return value, at


def prefixed(data, at):
  length, at = varint(data, at)
  assert at + length <= len(data)
  return data[at:at + length], at + length


def read_file(path, byte_length, sha256):
  """Yields (table, key, value or None)."""
  with open(path, 'rb') as file:
    data = file.read()
  assert len(data) == byte_length and hashlib.sha256(data).hexdigest() == sha256, path
  magic, version, kind, _, checksum = struct.unpack('>8sIBQI', data[:25])
  assert (magic, version) == (b'WEIRSNAP', 1) and checksum == zlib.crc32(data[:21]), path
  assert path.endswith(('.delta', '.base', '.in-flight')[kind])
  at, tables, count = 25, [], 0
  while True:
    stored_bytes, encoding, content_bytes, checksum = struct.unpack('>IBII', data[at:at + 13])
    stored = data[at + 13:at + 13 + stored_bytes]
    assert checksum == zlib.crc32(stored, zlib.crc32(data[at:at + 9])), path
    at += 13 + stored_bytes
    if encoding == 255:
      assert struct.unpack('>Q', stored)[0] == count and at == len(data), path
      return
    if encoding == 1:
      stored = pyarrow.Codec('zstd').decompress(stored, decompressed_size=content_bytes, asbytes=True)
    position = 0
    while position < len(stored):
      kind = stored[position]
      if kind == 0:
        name, position = prefixed(stored, position + 1)
        tables.append(name.decode())
        continue
      table, position = varint(stored, position + 1)
      key, position = prefixed(stored, position)
      value = None
      if kind == 1:
        value, position = prefixed(stored, position)
      count += 1
      yield tables[table], key, value


def read_task(directory, files):
  rows = {}
  for file in files:
    for table, key, value in read_file(os.path.join(directory, file['path']), file['byteLength'], file['sha256']):
      if value is None:
        rows.pop((table, key), None)
      else:
        rows[table, key] = value
  return rows


def cell_of(key):
  """Key group, key, window of a user state's head row; the rest must be empty."""
  state_key, at = prefixed(key, 2)
  window, at = prefixed(key, at)
  return struct.unpack('>H', key[:2])[0], state_key, window, key[at:]


def main(manifest_path, arrow_file, arrow_stream):
  with open(manifest_path) as file:
    manifest = json.load(file)
  assert manifest['format'] == 'weir-checkpoint' and manifest['version'] == 1
  exported = pyarrow.ipc.open_file(arrow_file).read_all()
  exported.validate(full=True)
  assert pyarrow.ipc.open_stream(arrow_stream).read_all().equals(exported)
  records = collections.defaultdict(list)
  for record in exported.to_pylist():
    records[record['vertex'], record['subtask'], record['table']].append(record)
  row_count, cells = 0, 0
  for task in manifest['tasks']:
    rows = read_task(os.path.dirname(manifest_path), task['files'])
    row_count += len(rows)
    by_table = collections.defaultdict(dict)
    for (table, key), value in rows.items():
      by_table[table][key] = value
    for table, of_table in by_table.items():
      found = records[task['vertexId'], task['subtaskIndex'], table]
      assert len(found) == len(of_table), table
      if not table.startswith('user-state/'):
        continue
      by_cell = {(record['key_group'], record['key'], record['window'], record['part']): record for record in found}
      for key, value in of_table.items():
        key_group, state_key, window, tail = cell_of(key)
        assert tail == b'' and value[0] == 0, 'the states of this job are small'
        record = by_cell[key_group, state_key, window, 'elements']
        assert record['value'] == value[1:]
        assert record['decoded_key'].encode() == prefixed(state_key, 0)[0]
        cells += 1
  counts = {
      record['decoded_key']: sum(json.loads(record['decoded_value']))
      for record in exported.to_pylist()
      if record['state_id'] == 'count'
  }
  seen = {
      record['decoded_key']: json.loads(record['decoded_value'])
      for record in exported.to_pylist()
      if record['state_id'] == 'seen'
  }
  last = {
      record['decoded_key']: int(record['decoded_value'])
      for record in exported.to_pylist()
      if record['state_id'] == 'last'
  }
  timers = [json.loads(record['decoded_value']) for record in exported.to_pylist() if record['table'] == 'timers']
  grouped = collections.Counter()
  for record in exported.to_pylist():
    if record['part'] == 'values':
      grouped[record['decoded_key']] += len(json.loads(record['decoded_value']))
  print(
      json.dumps({
          'rows': row_count,
          'exported': exported.num_rows,
          'cells': cells,
          'counts': counts,
          'seen': {key: len(values) for key, values in seen.items()},
          'lastOfSeen': {key: max(int(value.split()[1]) for value in values) for key, values in seen.items()},
          'last': last,
          'timers': len(timers),
          'timerFires': sorted({timer['fire'] for timer in timers}),
          'grouped': grouped,
      }))


if __name__ == '__main__':
  main(*sys.argv[1:])
