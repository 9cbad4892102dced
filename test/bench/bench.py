"""`make bench`: the same Python pipelines on Weir and on Prism, in turn, on this machine.

Prints, and writes to .cache/bench/ as JSON and Markdown, for each case and peer: wall seconds from submit to DONE
(median, min-max), CPU seconds of the runner's process tree and the same per million elements, the peak resident size
of that tree, and the CPU seconds of the client with its SDK harness, which are the floor. Every measurement has a
runner of its own, freshly started, after one small job.

The cases about checkpoints and recovery (checkpoint_cases.py) are measured on Weir with several settings in turn, and
on Beam's Flink job server where FLINK_JARS has its class path. `--cases checkpoints` and `--cases pipelines` are all of a kind.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'support'))
from checkpoint_cases import CHECKPOINT_CASES, checkpoint_rows, checkpoint_table  # noqa: E402
from flink_server import missing_flink  # noqa: E402
from process_tree import PeakMemory, cpu_seconds  # noqa: E402
from sizes import CASES  # noqa: E402
from weir_server import REPOSITORY, VENV_PYTHON, PrismServer, WeirServer, child_environment  # noqa: E402

PRISM = 'github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0'
MEASURES = ('wall_seconds', 'runner_cpu_seconds', 'peak_mb', 'sdk_cpu_seconds')


def prism_binary(cache):
  """The path of Prism, built by Go if need be; or (None, why not)."""
  path = os.environ.get('PRISM') or os.path.join(cache, 'bin', 'prism')
  if os.path.exists(path):
    return path, None
  if not shutil.which('go'):
    return None, 'no Go here to build it with (or set PRISM to its path)'
  print('Building Prism: go install ' + PRISM, flush=True)
  os.makedirs(os.path.dirname(path), exist_ok=True)
  built = subprocess.run(['go', 'install', PRISM], env=dict(os.environ, GOBIN=os.path.dirname(path)),
                         capture_output=True, text=True)
  return (path, None) if built.returncode == 0 else (None, 'go install failed: ' + built.stderr.strip()[-300:])


def write_words(path, count):
  """A text of `count` words, ten a line, whose frequencies fall as in natural text. The same on every machine."""
  chance = random.Random(20260101)
  vocabulary = [''.join(chance.choices('abcdefghijklmnopqrstuvwxyz', k=chance.randint(2, 10))) for _ in range(20_000)]
  weights = [1 / (rank + 2) for rank in range(len(vocabulary))]
  words = chance.choices(vocabulary, weights, k=count)
  with open(path, 'w', encoding='utf-8') as text:
    for start in range(0, count, 10):
      text.write(' '.join(words[start:start + 10]) + '\n')


def measure(server, case, size, words, timeout_seconds):
  command = [VENV_PYTHON, os.path.join(HERE, 'cases.py'), case, '--endpoint', server.endpoint, '--size', str(size)]
  if case == 'wordcount':
    command += ['--input', words]
  client = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment())
  try:
    if client.stdout.readline().strip() != 'measuring':
      raise RuntimeError(client.communicate(timeout=30)[1][-2000:])
    before = cpu_seconds(server.pid)
    with PeakMemory(server.pid) as memory:
      out, errors = client.communicate('go\n', timeout=timeout_seconds)
      # Read at once: the client has ended, the runner may still tidy up, which is not part of the job.
      spent = cpu_seconds(server.pid) - before
    if client.returncode:
      raise RuntimeError(errors[-2000:])
    measured = json.loads(out.splitlines()[-1])
    if not measured['correct']:
      raise RuntimeError('wrong result: counted %s' % measured['counted'])
    return dict(measured, runner_cpu_seconds=spent, peak_mb=memory.peak_bytes / 2**20)
  finally:
    if client.poll() is None:
      client.kill()
      client.wait()


def start(peer, arguments, prism):
  if peer == 'prism':
    return PrismServer(prism)
  return WeirServer(workers=arguments.workers, arguments=arguments.weir_arguments.split())


def spread(values):
  return statistics.median(values), min(values), max(values)


def row(case, peer, size, runs):
  _, unit, boundaries = CASES[case]
  result = {'case': case, 'peer': peer, 'size': size, 'runs': len(runs)}
  for name in MEASURES:
    result[name] = dict(zip(('median', 'min', 'max'), spread([run[name] for run in runs])))
  if unit:
    result['runner_cpu_per_million'] = result['runner_cpu_seconds']['median'] / (size * boundaries) * 1e6
    result['per_million'] = unit
  return result


def cell(measure_of, digits):
  return '%.*f (%.*f-%.*f)' % (
      digits, measure_of['median'], digits, measure_of['min'], digits, measure_of['max'])


def table(rows):
  lines = [
      '| case | size | runner | wall s | runner CPU s | CPU s / million | peak MB | SDK CPU s (floor) |',
      '| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |'
  ]
  by_case = {}
  for result in rows:
    by_case.setdefault(result['case'], {})[result['peer']] = result
    lines.append('| %s | %s | %s | %s | %s | %s | %s | %s |' % (
        result['case'], result['size'], result['peer'], cell(result['wall_seconds'], 2),
        cell(result['runner_cpu_seconds'], 2),
        '%.2f' % result['runner_cpu_per_million'] if 'per_million' in result else '-', cell(result['peak_mb'], 0),
        cell(result['sdk_cpu_seconds'], 2)))
    both = by_case[result['case']]
    if len(both) == 2:
      ratios = []
      for name in ('wall_seconds', 'runner_cpu_seconds', 'peak_mb'):
        prism = both['prism'][name]['median']
        ratios.append('%.2f' % (both['weir'][name]['median'] / prism) if prism else '-')
      lines.append('| | | **weir / prism** | **%s** | **%s** | | **%s** | |' % tuple(ratios))
  return '\n'.join(lines) + '\n'


def named_cases(text):
  kinds = {'pipelines': list(CASES), 'checkpoints': list(CHECKPOINT_CASES)}
  return [case for name in text.split(',') for case in kinds.get(name, [name])]


def pipeline_rows(cases, peers, prism, arguments, problems):
  peers = [peer for peer in peers if peer != 'flink']
  sizes = {case: CASES[case][0] if case == 'tiny' else int(CASES[case][0] * arguments.scale) for case in cases}
  sizes.update((case, int(size)) for case, size in (text.split('=') for text in arguments.size))
  rows = []
  for case in cases:
    words = os.path.join(arguments.out, 'words-%d.txt' % sizes[case])
    if case == 'wordcount' and not os.path.exists(words):
      write_words(words, sizes[case])
    runs = {peer: [] for peer in peers}
    for number in range(arguments.runs):
      for peer in peers if number % 2 == 0 else reversed(peers):
        try:
          with start(peer, arguments, prism) as server:
            measured = measure(server, case, sizes[case], words, arguments.timeout)
        except Exception as error:
          problems.append('%s on %s, run %d: %s' % (case, peer, number + 1, ' '.join(str(error).split())[-400:]))
          print('  ' + problems[-1], flush=True)
          continue
        runs[peer].append(measured)
        print('  %-16s %-6s %d/%d  wall %6.2f s  runner CPU %6.2f s  peak %5.0f MB  SDK CPU %6.2f s' % (
            case, peer, number + 1, arguments.runs, *(measured[name] for name in MEASURES)), flush=True)
    rows += [row(case, peer, sizes[case], runs[peer]) for peer in peers if runs[peer]]
  return rows


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--cases', default='pipelines,checkpoints', help='names, separated by commas; pipelines: %s; '
                      'checkpoints: %s' % (', '.join(CASES), ', '.join(CHECKPOINT_CASES)))
  parser.add_argument('--peers', default='weir,prism,flink')
  parser.add_argument('--runs', type=int, default=5)
  parser.add_argument('--scale', type=float, default=1.0, help='multiplies every size but that of the tiny job')
  parser.add_argument('--size', action='append', default=[], metavar='CASE=N')
  parser.add_argument('--workers', type=int, default=1, help='workers of Weir')
  parser.add_argument('--weir-arguments', default='', help='more arguments of weir serve')
  parser.add_argument('--timeout', type=float, default=600, help='seconds for one job')
  parser.add_argument('--out', default=os.path.join(REPOSITORY, '.cache', 'bench'))
  arguments = parser.parse_args()
  os.makedirs(arguments.out, exist_ok=True)
  cases, peers, problems, prism = named_cases(arguments.cases), arguments.peers.split(','), [], None
  unknown = set(cases) - set(CASES) - set(CHECKPOINT_CASES) | set(peers) - {'weir', 'prism', 'flink'}
  if unknown:
    parser.error('unknown: ' + ', '.join(sorted(unknown)))
  if 'prism' in peers and set(cases) & set(CASES):
    prism, why = prism_binary(os.path.join(REPOSITORY, '.cache'))
    if not prism:
      peers.remove('prism')
      problems.append('Prism was not measured: ' + why)
  if 'flink' in peers and set(cases) & set(CHECKPOINT_CASES):
    why = missing_flink()
    if why:
      peers.remove('flink')
      problems.append('Flink was not measured: ' + why)
      print(problems[-1], flush=True)
  rows = pipeline_rows([case for case in cases if case in CASES], peers, prism, arguments, problems)
  checkpoints = checkpoint_rows(
      [case for case in cases if case in CHECKPOINT_CASES], peers, arguments.runs, arguments.scale, problems)
  text = '\n'.join(part for part in (
      table(rows) if rows else '', checkpoint_table(checkpoints) if checkpoints else '',
      '\n'.join('- %s' % problem for problem in problems)) if part) + '\n'
  with open(os.path.join(arguments.out, 'bench.json'), 'w', encoding='utf-8') as target:
    json.dump({'rows': rows, 'checkpoints': checkpoints, 'problems': problems, 'cpus': os.cpu_count()}, target, indent=2)
  with open(os.path.join(arguments.out, 'bench.md'), 'w', encoding='utf-8') as target:
    target.write(text)
  print('\n' + text)
  return 1 if not rows and not checkpoints else 0


if __name__ == '__main__':
  sys.exit(main())
