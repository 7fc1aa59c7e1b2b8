# SPDX-License-Identifier: BSD-3-Clause
"""Guests for the model test, and a model of what disks hold and which bits of bitmaps are set."""

import random
import threading

import nbd

SECTOR = 512


class Op:
    """A request. `data` is what its range holds afterwards."""

    def __init__(self, kind, disk, offset, data):
        self.kind, self.disk, self.offset, self.data = kind, disk, offset, data

    def __str__(self):
        return f"{self.kind} of {self.disk} [{self.offset}, +{len(self.data)})"


class Guest(threading.Thread):
    """Writes to all disks, through one connection to each, one request at a time. Each request
    changes the data of its range. A guest writes only to its own runs of sectors, so what it has
    written does not depend on other guests."""

    def __init__(self, name, handles, runs, rng):
        super().__init__(name=name)
        self.handles, self.runs, self.rng = handles, runs, rng
        self.log = []      # Op, before it is sent
        self.answered = 0  # of these
        self.error = None
        self._own = {}  # (disk, sector) -> its bytes, where not zero
        self._changed = threading.Condition()
        self._ending = False

    def _is_zero(self, disk, offset, length):
        return all((disk, s) not in self._own
                   for s in range(offset // SECTOR, (offset + length) // SECTOR))

    def _choose(self):
        rng = self.rng
        disk = rng.choice(sorted(self.runs))
        start, end = rng.choice(self.runs[disk])
        first = rng.randrange(start, end)
        count = rng.randrange(first, end) - first + 1
        offset, length = first * SECTOR, count * SECTOR
        kind = rng.choice(("write", "write", "write", "zero", "trim"))
        if kind != "write" and self._is_zero(disk, offset, length):
            kind = "write"  # each request must change something, to show whether it is done
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
                self._own[key] = True
            else:
                self._own.pop(key, None)

    def run(self):
        try:
            while not self._ending:
                op = self._choose()
                self.log.append(op)
                self._do(op)
                with self._changed:
                    self.answered += 1
                    self._changed.notify_all()
        except Exception as error:  # raised by whoever waits
            with self._changed:
                self.error = error
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


def share_out(disks, sectors, count, rng):
    """Give every sector to one of `count` guests, in short runs: [{disk: [(first, end)]}]."""
    runs = [{disk: [] for disk in disks} for _ in range(count)]
    for disk in disks:
        at = 0
        while at < sectors:
            end = min(sectors, at + (rng.randrange(1, 400) if rng.randrange(12) == 0
                                     else rng.randrange(1, 14)))
            runs[rng.randrange(count)][disk].append((at, end))
            at = end
    return runs


class Bitmap:
    """What a dirty bitmap must have: a set of granules."""

    def __init__(self, granularity, recording, size):
        self.granularity, self.recording, self.size = granularity, recording, size
        self.granules = set()
        self.busy = False

    def mark(self, offset, length):
        end = min(offset + length, self.size)
        if length > 0 and offset < end:
            self.granules.update(range(offset // self.granularity,
                                       (end - 1) // self.granularity + 1))

    def merge(self, source):
        for g in source.granules:
            self.mark(g * source.granularity, source.granularity)

    def grow(self, size):
        old, self.size = self.size, size
        if self.recording:
            self.mark(old, size - old)

    def extents(self, size):
        """[(offset, length)] of what is dirty, cut off at `size`."""
        found = []
        for g in sorted(self.granules):
            start = g * self.granularity
            end = min(start + self.granularity, size)
            if found and found[-1][0] + found[-1][1] == start:
                found[-1] = (found[-1][0], end - found[-1][0])
            else:
                found.append((start, end - start))
        return found


class Model:
    """All disks as they were at the last instant."""

    def __init__(self, images, guests):
        self.images = images  # disk -> bytearray
        self.guests = guests
        self.bitmaps = {disk: {} for disk in images}  # name -> Bitmap
        self.done = [0] * len(guests)  # requests of each guest that are in it

    def answered(self):
        return [g.answered for g in self.guests]

    def begun(self):
        return [len(g.log) for g in self.guests]

    def grow(self, disk, size):
        image = self.images[disk]
        image.extend(bytes(size - len(image)))
        for b in self.bitmaps[disk].values():
            b.grow(size)

    def _apply(self, op):
        self.images[op.disk][op.offset:op.offset + len(op.data)] = op.data
        for b in self.bitmaps[op.disk].values():
            if b.recording:
                b.mark(op.offset, len(op.data))

    def _decide(self, guest, done, answered, begun, views):
        """How many requests of a guest the views contain: all that were answered before the
        instant, none that was begun after it, and the same number on all disks. Each request
        changes the data, so at most one number is right."""
        state = {disk: bytearray(image) for disk, image in self.images.items()}
        undecided = [(op.disk, slice(op.offset, op.offset + len(op.data)))
                     for op in guest.log[answered:begun]]
        for k in range(done, begun + 1):
            if k >= answered and all(views[d][part] == state[d][part] for d, part in undecided):
                return k
            if k < begun:
                op = guest.log[k]
                state[op.disk][op.offset:op.offset + len(op.data)] = op.data
        raise AssertionError(f"{guest.name}: no number of requests from {answered} to {begun} "
                             "makes what the views have")

    def advance(self, answered, begun, views):
        """Bring the model to the instant of `views` {disk: bytes}. `answered` and `begun` are the
        numbers of requests just before and just after it."""
        for n, guest in enumerate(self.guests):
            k = self._decide(guest, self.done[n], answered[n], begun[n], views)
            for op in guest.log[self.done[n]:k]:
                self._apply(op)
            self.done[n] = k
        for disk, got in views.items():
            want = self.images[disk]
            assert len(got) == len(want), f"{disk}: {len(got)} bytes, {len(want)} expected"
            if got != want:
                at = next(i for i in range(0, len(got), SECTOR)
                          if got[i:i + SECTOR] != want[i:i + SECTOR])
                near = [f"{g.name} {n}: {op}" for g in self.guests
                        for n, op in enumerate(g.log)
                        if op.disk == disk and op.offset <= at < op.offset + len(op.data)]
                raise AssertionError(f"{disk} differs at {at}; {self.done} of each guest's "
                                     f"requests are in; written there: {near[-8:]}")
