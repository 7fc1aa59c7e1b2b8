# SPDX-License-Identifier: BSD-3-Clause
"""Guests that keep a log of their writes, so that what the disk was after each of them is known."""

import random
import threading

import nbd

from fleece import SOON
from rig import assert_same


class Guest(threading.Thread):
    """Writes a region of a disk without end, one request at a time, and logs what it wrote. One
    that is paced writes only as much as it is allowed to, so that some of the disk stays clean."""

    def __init__(self, uri, rng, start, end, paced):
        super().__init__()
        self.uri, self.rng, self.start_at, self.end_at = uri, rng, start, end
        self.log = []       # (offset, bytes) of each write, before it is sent
        self.answered = 0   # of these
        self.allowed = 0 if paced else float("inf")
        self.error = None
        self.changed = threading.Condition()
        self.ending = False

    def run(self):
        try:
            h = nbd.NBD()
            h.connect_uri(self.uri)
            while self.may_go_on():
                length = 512 << self.rng.randrange(7)
                offset = self.rng.randrange(self.start_at, self.end_at - length + 1)
                zeroes = self.rng.randrange(6) == 0
                data = b"\0" * length if zeroes else self.rng.randbytes(length)
                self.log.append((offset, data))
                if zeroes:
                    h.zero(length, offset)
                else:
                    h.pwrite(data, offset)
                with self.changed:
                    self.answered += 1
                    self.changed.notify_all()
            h.shutdown()
        except Exception as error:
            with self.changed:
                self.error = error
                self.changed.notify_all()

    def may_go_on(self):
        with self.changed:
            self.changed.wait_for(lambda: self.ending or self.answered < self.allowed)
            return not self.ending

    def set(self, **fields):
        with self.changed:
            self.__dict__.update(fields)
            self.changed.notify_all()

    def wait_writes(self, count):
        """`count` more writes have been answered, or all that are allowed."""
        with self.changed:
            goal = min(self.answered + count, self.allowed)
            assert self.changed.wait_for(lambda: self.error or self.answered >= goal, SOON)
            if self.error:
                raise self.error


class Guests:
    """Several guests of one disk, a region each, and the disk as it was before the first write."""

    def __init__(self, uri, rng, model, count=2, paced=False):
        step = len(model) // count
        self.before = bytes(model)
        self.guests = [Guest(uri, random.Random(rng.random()), i * step, (i + 1) * step, paced)
                       for i in range(count)]

    def __enter__(self):
        for g in self.guests:
            g.region = bytearray(self.before[g.start_at:g.end_at])
            g.replayed = 0  # writes that `region` has
            g.start()
        return self

    def __exit__(self, kind, value, trace):
        for g in self.guests:
            g.set(ending=True)
        for g in self.guests:
            g.join(SOON)
            assert not g.is_alive(), "a guest is stuck"
            if g.error and kind is None:
                raise g.error

    def wait_writes(self, count):
        for g in self.guests:
            g.wait_writes(count)

    def allow(self, count):
        """Let guests that are paced write `count` times more, each."""
        for g in self.guests:
            g.set(allowed=g.allowed + count)

    def rest(self):
        """All that was allowed has been written."""
        for g in self.guests:
            g.wait_writes(g.allowed)

    def answered(self):
        return [g.answered for g in self.guests]

    def begun(self):
        return [len(g.log) for g in self.guests]

    def check(self, got, answered, begun):
        """`got` is the disk at an instant between the two. Calls are in the order of instants."""
        assert len(got) == len(self.before)
        for g, least, most in zip(self.guests, answered, begun):
            found = got[g.start_at:g.end_at]
            while g.replayed < most and (g.replayed < least or g.region != found):
                offset, data = g.log[g.replayed]
                g.region[offset - g.start_at:offset - g.start_at + len(data)] = data
                g.replayed += 1
            assert_same(found, g.region,
                        f"the region at {g.start_at}, after {least} to {most} writes")
