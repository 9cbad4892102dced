"""Ports for servers that are told theirs.

From below the range from which the kernel takes the ports of outgoing connections: a port that a test has chosen, or that
a killed server has left, is not taken by somebody's connection before the test's server listens there.
"""
import random
import socket

FIRST, LAST = 12_000, 32_000
TRIES = 100


def free_port():
  """A port on which nobody listens on 127.0.0.1 now. By chance, since tests that run beside this one choose too."""
  for _ in range(TRIES):
    port = random.SystemRandom().randint(FIRST, LAST)
    with socket.socket() as probe:
      try:
        probe.bind(('127.0.0.1', port))
      except OSError:
        continue
      return port
  raise RuntimeError('none of %d ports between %d and %d is free' % (TRIES, FIRST, LAST))
