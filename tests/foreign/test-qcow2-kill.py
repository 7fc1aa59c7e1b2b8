# SPDX-License-Identifier: BSD-3-Clause
"""A server of a qcow2 image is killed in the midst of writes. The image is clean, or has leaks; what was
flushed is there, every sector is old or new; and it is served again at once."""

import contextlib
import os
import random

import nbd

from fleece import SOON, tmpdir
from qcow2 import CLEAN, KINDS, LEAKS, check, disk_of, server
from rig import read_all, seed
from tap import main, note, test

ROUNDS = 40 if os.environ.get("FLEECE_LONG") else 4
SECTOR = 512
NAMES = ["plain", "empty", "clusters of 512", "clusters of 2 MiB", "subclusters over qcow2", "over a longer image",
         "version 2 over qcow2", "zstd over qcow2", "zlib", "counts of 1 bit", "data file", "preallocated"]


class Sectors:
    """What each sector may be. A value is one byte, which the whole sector has: None is that of a trim,
    which makes zeroes or leaves what was there."""

    def __init__(self, content):
        self.durable = [{content[at:at + SECTOR]} for at in range(0, len(content), SECTOR)]
        self.later = {}  # sector: values written since, in their order

    def change(self, covered, value):
        for sector in covered:
            self.later.setdefault(sector, []).append(value)

    def flushed(self, before):
        """So many values of each sector, {sector: how many}, are durable."""
        for sector, count in before.items():
            for value in self.later[sector][:count]:
                self.durable[sector] = {bytes(SECTOR)} | self.durable[sector] if value is None else \
                    {bytes([value]) * SECTOR}
            self.later[sector] = self.later[sector][count:]
            if not self.later[sector]:
                del self.later[sector]

    def judge(self, content):
        """The disk after a death is one of those that it may be, and is known from then on."""
        assert len(content) == len(self.durable) * SECTOR
        for sector, values in enumerate(self.durable):
            got = content[sector * SECTOR:(sector + 1) * SECTOR]
            values = values | {bytes([value or 0]) * SECTOR for value in self.later.get(sector, ())}
            assert got in values, f"sector {sector} has {got[:8].hex()}..., and may have " + \
                ", ".join(value[:8].hex() for value in values)
        self.__init__(content)


class Writer:
    """Many writes, zeroes and trims at once, and now and then a flush; each is on sectors of which no other is on
    its way."""

    def __init__(self, h, rng, sectors):
        self.h, self.rng, self.sectors = h, rng, sectors
        self.busy, self.done, self.flushing = set(), 0, False

    def _begin(self):
        rng, size = self.rng, self.h.get_size()
        length = rng.choice([1, 1, 8, 8, 8, 128, 300]) * SECTOR
        offset = rng.randrange(0, (size - length) // SECTOR) * SECTOR
        covered = range(offset // SECTOR, (offset + length) // SECTOR)
        if not self.busy.isdisjoint(covered):
            return
        self.busy.update(covered)
        kind, value = rng.choice(["write"] * 6 + ["zero", "trim"]), rng.randrange(1, 256)
        self.sectors.change(covered, {"write": value, "zero": 0, "trim": None}[kind])

        def ended(error):
            if not error.value:
                self.busy.difference_update(covered)
                self.done += 1
            return 1

        if kind == "write":
            data = nbd.Buffer.from_bytearray(bytearray([value]) * length)
            self.h.aio_pwrite(data, offset, completion=ended)
        else:
            (self.h.aio_zero if kind == "zero" else self.h.aio_trim)(length, offset, completion=ended)

    def _flush(self):
        """It covers what was answered before it was sent."""
        before = {sector: len(values) for sector, values in self.sectors.later.items() if sector not in self.busy}
        self.flushing = True

        def ended(error):
            self.flushing = False
            if not error.value:
                self.sectors.flushed(before)
            return 1

        self.h.aio_flush(completion=ended)

    def until(self, count):
        """Go on until so many changes are answered."""
        while self.done < count:
            while self.h.aio_in_flight() < 16:
                if self.rng.randrange(12) == 0 and not self.flushing:
                    self._flush()
                else:
                    self._begin()
            assert self.h.poll(SOON * 1000) > 0


def killed(path, rng, sectors):
    """Serve the image, write, and kill the server when some writes are answered and others are not."""
    with server(path) as s:
        h = s.nbd("vda")
        writer = Writer(h, rng, sectors)
        writer.until(rng.randrange(1, 120))
        s.kill()
        with contextlib.suppress(nbd.Error):  # the replies that were sent before it died
            while h.aio_in_flight() > 0:
                h.poll(SOON * 1000)


def rounds_of(kind, rng):
    with tmpdir() as folder:
        path = kind.make(folder, rng)
        sectors = Sectors(disk_of(path))
        for _ in range(ROUNDS):
            killed(path, rng, sectors)
            check(path, CLEAN, LEAKS)
            sectors.judge(disk_of(path))
        with server(path) as s:  # without a repair
            h = s.nbd("vda")
            sectors.judge(read_all(h))
            h.pwrite(b"x" * SECTOR, 0)
            h.shutdown()
        check(path, CLEAN, LEAKS)


def a_test_of(kind):
    def rounds():
        value = seed()
        note(kind)
        rounds_of(kind, random.Random(value))

    rounds.__name__ = "killed_" + "".join(c if c.isalnum() else "_" for c in str(kind))
    return rounds


for each in KINDS:
    if str(each) in NAMES:
        test(a_test_of(each))

main()
