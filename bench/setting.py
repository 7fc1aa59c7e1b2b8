# SPDX-License-Identifier: BSD-3-Clause
"""What each part is given: servers, folders, rounds."""

import contextlib
import dataclasses
import os
import random
import sys
import tempfile

from rig import MIB


@dataclasses.dataclass
class Setting:
    """root: where rivals come from (peers.py). kinds: classes of rivals.py, ours first. memory,
    disk: folders for images, one in memory and one on a real disk."""
    root: object
    kinds: list
    memory: str
    disk: str
    rounds: int
    seconds: int

    def start(self, kind, place, disks, **options):
        """Start a server of this kind in the folder `place`."""
        return kind(self.root, place, disks, **options)

    def turns(self, items, what):
        """(round, item) for all rounds. Each round has all items, and begins with another item than
        the round before. Every second round goes backwards, since an item may gain or lose by the
        one before it."""
        for n in range(self.rounds):
            progress(f"round {n + 1} of {self.rounds}: {what}")
            first = n % len(items)
            order = items[first:] + items[:first]
            for item in reversed(order) if n % 2 else order:
                yield n, item


def progress(text):
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def folder(base, name):
    """A folder for one server, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"{name.split()[0]}-", dir=base) as path:
        yield path


def make_image(path, size):
    """Make a file without holes or zeroes; on a real disk it is written back, too."""
    room = os.statvfs(os.path.dirname(path))
    if room.f_bavail * room.f_frsize < size + 64 * MIB:
        raise SystemExit(f"{path}: no room for {size // MIB} MiB; see --dir and --disk-dir")
    block = random.Random(1).randbytes(MIB)
    with open(path, "wb") as f:
        for _ in range(0, size, MIB):
            f.write(block)
        f.flush()
        os.fsync(f.fileno())
    return path


def make_sparse(path, size):
    with open(path, "wb") as f:
        f.truncate(size)
    return path
