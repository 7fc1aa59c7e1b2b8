# SPDX-License-Identifier: BSD-3-Clause
"""What tests of `fleecectl pull` share: a guest that writes at random, and what a copy has.

    with tmpdir() as folder, Server("--disk", "vda", "memory", SIZE) as s:
        guest = Guest(s, "vda")
        guest.write(20)
        pull(s.uri("vda"), "-o", f"{folder}/vda.qcow2")
        assert_equal(guest.read(), contents(f"{folder}/vda.qcow2"))
"""

import contextlib
import json
import os
import random
import subprocess

from fleece import FLEECECTL, SOON, by_hand, fleecectl, require_program, run, tmpdir
from tap import note

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def seeded():
    """A random generator whose seed is printed."""
    seed = int(os.environ.get("FLEECE_SEED", random.SystemRandom().randrange(1 << 32)))
    note(f"FLEECE_SEED={seed}")
    return random.Random(seed)


class Guest:
    """Writes to a live disk; what it has then, it knows from the disk itself."""

    def __init__(self, server, disk, rng=None):
        self.nbd = server.nbd(disk)
        self.size = self.nbd.get_size()
        self.random = rng or random.Random(1)

    def write(self, count, most=300 * KIB):
        """So many writes: most are data, others zeroes, as data or as a request."""
        for _ in range(count):
            length = self.random.randrange(1, most // 512) * 512
            offset = self.random.randrange((self.size - length) // 512 + 1) * 512
            kind = self.random.random()
            if kind < 0.7:
                self.nbd.pwrite(self.random.randbytes(length), offset)
            elif kind < 0.8:
                self.nbd.pwrite(bytes(length), offset)
            elif kind < 0.9:
                self.nbd.zero(length, offset)
            else:
                self.nbd.trim(length, offset)

    def read(self):
        """All of the disk."""
        return read_all(self.nbd)


def read_all(h):
    size = h.get_size()
    return b"".join(h.pread(min(4 * MIB, size - at), at) for at in range(0, size, 4 * MIB))


def pull(*args, **kwargs):
    """Run `fleecectl pull`; like fleece.run()."""
    return fleecectl("pull", *args, **kwargs)


def pull_json(*args):
    """The last line of what it prints with --json: its summary."""
    return json.loads(fleecectl("--json", "pull", *args).stdout.splitlines()[-1])


def refused(*args, code=1, why=""):
    """It fails, with one line that says `why`, which is returned."""
    result = pull(*args, check=False)
    assert result.returncode == code, result
    assert len(result.stderr.splitlines()) == 1 and why in result.stderr, result
    return result.stderr


@contextlib.contextmanager
def started(*args, **popen):
    """Start `fleecectl pull` and give the process, which is killed at the end if it still runs."""
    popen.setdefault("stdout", subprocess.DEVNULL)
    process = subprocess.Popen([FLEECECTL, "pull", *args], stdin=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, preexec_fn=by_hand, **popen)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=SOON)


def check(image):
    """qemu-img finds nothing wrong with a qcow2 image."""
    require_program("qemu-img")
    run("qemu-img", "check", "-f", "qcow2", image)


def contents(path):
    """The disk that a file holds, through its chain: raw, or qcow2 by its name, which is checked."""
    if not path.endswith(".qcow2"):
        with open(path, "rb") as f:
            return f.read()
    check(path)
    with tmpdir() as folder:
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, f"{folder}/raw")
        with open(f"{folder}/raw", "rb") as f:
            return f.read()


def assert_equal(a, b):
    """As assert a == b, which would print megabytes."""
    assert len(a) == len(b), (len(a), len(b))
    if a != b:
        at = next(i for i in range(0, len(a), 512) if a[i:i + 512] != b[i:i + 512])
        raise AssertionError(f"they differ first in the sector at {at} ({at // 65536} * 64 KiB): "
                             f"{a[at:at + 16].hex()} {b[at:at + 16].hex()}")


def allocated(path):
    """Bytes that a file takes."""
    return os.stat(path).st_blocks * 512
