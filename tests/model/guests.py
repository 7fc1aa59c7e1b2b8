# SPDX-License-Identifier: BSD-3-Clause
"""Guests for the model tests: what they write is in a log."""

import threading

import nbd
from writers import is_gone

SECTOR = 512


class Op:
    """A request: `data` is what the range holds after it."""

    def __init__(self, kind, disk, offset, data):
        self.kind, self.disk, self.offset, self.data = kind, disk, offset, data

    def __str__(self):
        return f"{self.kind} of {self.disk} [{self.offset}, +{len(self.data)})"


class Guest(threading.Thread):
    """A guest writes to all disks, through a connection to each, one request at a time. It writes
    only to its own runs of sectors, so that what it has written does not depend on what others do.

    What its sectors hold never comes back: data are random, and a request that makes zeroes makes
    them also of a sector that has had data since the last instant that is settled. So what they
    hold at the next instant tells which of its requests are in it.

    images   what the disks hold
    sent     is called before each request"""

    def __init__(self, name, handles, runs, rng, images, sent):
        super().__init__(name=name)
        self.handles, self.runs, self.rng, self.sent = handles, runs, rng, sent
        self.log = []      # Op, before it is sent
        self.answered = 0  # how many of these were answered
        self.error = None
        self.gone = False  # the error is that the server has ended
        self.settled = 0  # so many requests are in the last instant that is settled
        # Sectors that are not zero -> the number of the request that made them so.
        self._own = {(disk, s): -1 for disk, mine in runs.items() for start, end in mine
                     for s in range(start, end) if any(images[disk][s * SECTOR:(s + 1) * SECTOR])}
        self._changed = threading.Condition()
        self._ending = False

    def _may_be_zeroed(self, disk, offset, length):
        return any(self._own.get((disk, s), self.settled) < self.settled
                   for s in range(offset // SECTOR, (offset + length) // SECTOR))

    def _choose(self):
        rng = self.rng
        disk = rng.choice(sorted(self.runs))
        start, end = rng.choice(self.runs[disk])
        first = rng.randrange(start, end)
        count = rng.randrange(first, end) - first + 1
        offset, length = first * SECTOR, count * SECTOR
        kind = rng.choice(("write", "write", "write", "zero", "trim"))
        if not self._may_be_zeroed(disk, offset, length):
            kind = "write"
        data = rng.randbytes(length) if kind == "write" else bytes(length)
        return Op(kind, disk, offset, data)

    def _do(self, op):
        h = self.handles[op.disk]
        flags = nbd.CMD_FLAG_FUA if self.rng.randrange(8) == 0 else 0
        if op.kind == "write":
            h.pwrite(op.data, op.offset, flags)
        elif op.kind == "zero":
            no_hole = nbd.CMD_FLAG_NO_HOLE if self.rng.randrange(2) else 0
            h.zero(len(op.data), op.offset, flags | no_hole)
        else:
            h.trim(len(op.data), op.offset, flags)
        for s in range(len(op.data) // SECTOR):
            key = op.disk, op.offset // SECTOR + s
            if op.kind == "write":
                self._own.setdefault(key, len(self.log) - 1)
            else:
                self._own.pop(key, None)

    def run(self):
        try:
            while not self._ending:
                op = self._choose()
                self.log.append(op)
                self.sent()
                self._do(op)
                with self._changed:
                    self.answered += 1
                    self._changed.notify_all()
        except Exception as error:  # whoever waits raises it
            with self._changed:
                self.error = error
                self.gone = isinstance(error, nbd.Error) and any(
                    is_gone(h, error) for h in self.handles.values())
                self._changed.notify_all()

    def wait_for(self, count, timeout):
        """Wait until `count` more requests have been answered."""
        with self._changed:
            goal = self.answered + count
            assert self._changed.wait_for(lambda: self.error or self.answered >= goal, timeout), \
                f"{self.name} is stuck"
        if self.error:
            raise self.error

    def end(self, timeout):
        self._ending = True
        self.join(timeout)
        assert not self.is_alive(), f"{self.name} is stuck"


def share_out(sizes, count, rng):
    """Give every sector to one of `count` guests, in short runs: [{disk: [(first, end)]}]."""
    runs = [{disk: [] for disk in sizes} for _ in range(count)]
    for disk, size in sizes.items():
        at, sectors = 0, size // SECTOR
        while at < sectors:
            end = min(sectors, at + (rng.randrange(1, 400) if rng.randrange(12) == 0
                                     else rng.randrange(1, 14)))
            runs[rng.randrange(count)][disk].append((at, end))
            at = end
    return runs
