# SPDX-License-Identifier: BSD-3-Clause
"""qcow2 images that QEMU has made, which we and QEMU change in turn. After us, qemu-img finds no
mistake in them and reads what a model has; after QEMU, we read what it does."""

import os
import random

from fleece import tmpdir
from qcow2 import KINDS, Disk, check, disk_of, qemu_io, random_commands, served
from rig import assert_same, extents, seed
from tap import main, note, test

ROUNDS = 50 if os.environ.get("FLEECE_LONG") else 2
REQUESTS = 40


def assert_zeroes(h, disk):
    """What the map calls zero is."""
    for offset, length, flags in extents(h, "base:allocation"):
        assert not flags & 2 or not any(disk.content[offset:offset + length]), (offset, length, flags)


def we_change(path, rng, disk):
    with served(path) as h:
        disk.assert_read(h)
        for _ in range(REQUESTS):
            disk.request(h)
        disk.assert_read(h)
        assert_zeroes(h, disk)
    check(path)
    assert_same(disk_of(path), disk.content, "qemu-img convert")


def qemu_changes(path, rng, disk):
    qemu_io(path, *random_commands(rng, len(disk.content), 8))
    disk.content = bytearray(disk_of(path))


def rounds_of(kind, rng):
    with tmpdir() as folder:
        path = kind.make(folder, rng)
        disk = Disk(rng, disk_of(path))
        for _ in range(ROUNDS):
            we_change(path, rng, disk)
            qemu_changes(path, rng, disk)
        with served(path) as h:
            disk.assert_read(h)
        check(path)


def a_test_of(kind):
    def rounds():
        value = seed()
        note(kind)
        rounds_of(kind, random.Random(value))

    rounds.__name__ = "".join(c if c.isalnum() else "_" for c in str(kind))
    return rounds


for each in KINDS:
    test(a_test_of(each))

main()
