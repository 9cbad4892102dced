"""A disk of a few megabytes, to be filled: a tmpfs. Needs a mount namespace of its own, whose end is the disk's end:
run the script by `unshare --mount` (without root also --map-root-user)."""
import os
import subprocess
import tempfile


class SmallDisk:
  """`path` is where it is mounted. A context manager."""

  def __init__(self, megabytes):
    self.path = tempfile.mkdtemp(prefix='weir-disk-')
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=%dm' % megabytes, 'tmpfs', self.path], check=True)

  def fill(self):
    """Until nothing fits any more."""
    with open(os.path.join(self.path, 'filler'), 'ab', buffering=0) as file:
      for size in (1 << 20, 1 << 12):
        try:
          while True:
            file.write(bytes(size))
        except OSError:
          pass

  def free(self):
    os.unlink(os.path.join(self.path, 'filler'))

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    subprocess.run(['umount', '--lazy', self.path], check=True)
    os.rmdir(self.path)
