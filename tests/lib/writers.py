# SPDX-License-Identifier: BSD-3-Clause
"""Guests whose every request is known, and readers of views that know what they have read, for
tests that kill the server. recorded.py has the model of the bitmaps that record the requests.

    clock = Clock()
    with Writer(clock, "vda", uri, rng, trigger) as writer:
        ...
    writer.writes
"""

import dataclasses
import errno
import itertools
import math
import struct
import threading

import nbd

import fleece
from rig import dirty_context, dirty_extents

SECTOR = 512
KINDS = ("write", "write", "write", "zero", "trim")


class Clock:
    """Numbers that grow; whoever asks later gets a larger one. Any thread."""

    def __init__(self):
        self._count = itertools.count(1)

    def now(self):
        return next(self._count)


@dataclasses.dataclass(slots=True)
class Write:
    """A request that changes a disk. Its data is its number (`begun`), again and again."""
    disk: str
    kind: str
    offset: int
    length: int
    begun: int
    ended: float = math.inf  # when its reply was there

    def data(self):
        return struct.pack("<Q", self.begun) * (self.length // 8)

    def landed(self, read):
        """Whether some of it is on the disk. read(offset, length)."""
        if self.kind != "write":
            return False
        tag, found = struct.pack("<Q", self.begun), read(self.offset, self.length)
        return any(found[at:at + 8] == tag for at in range(0, self.length, SECTOR))


def is_gone(h, error):
    """Whether a request failed because its server has ended, or is about to: a server that ends in
    order may say so of what it does not do any more."""
    return h.aio_is_dead() or h.aio_is_closed() or error.errnum == errno.ESHUTDOWN


class Trigger:
    """Calls `action` once, when so many writes have been sent. Without a number it waits until
    pull() gives one. Any thread."""

    def __init__(self, after, action):
        self._left, self._action, self._lock = after or math.inf, action, threading.Lock()

    def pull(self, after):
        with self._lock:
            self._left = min(self._left, after)

    def sent(self):
        with self._lock:
            self._left -= 1
            now = self._left == 0
        if now:
            self._action()


class Writer(threading.Thread):
    """A guest with a connection of its own, and `depth` requests under way. It ends when its server
    is gone, with its `with`, or after `most` requests. `writes`: all that it has sent."""

    def __init__(self, clock, disk, uri, rng, trigger, depth=4, hot=None, most=math.inf):
        super().__init__(daemon=True)
        self._most = most
        self._clock, self._rng, self._trigger, self._depth = clock, rng, trigger, depth
        self._disk, self._ending = disk, False
        self.error, self.writes, self._under_way = None, [], {}
        self._handle = nbd.NBD()
        self._handle.connect_uri(uri)
        self._parts = hot or [(0, self._handle.get_size())]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        self.end()
        if self.error and kind is None:
            raise self.error

    def end(self):
        self._ending = True
        self.join(fleece.SOON)
        assert not self.is_alive(), "a writer is stuck"

    def _choose(self):
        begin, end = self._rng.choice(self._parts)
        kind = self._rng.choice(KINDS)
        most = 9 if kind == "write" else 12
        length = min(SECTOR << self._rng.randrange(most), end - begin)
        offset = self._rng.randrange(begin, end - length + 1) & -SECTOR
        return kind, offset, length

    def _send(self):
        kind, offset, length = self._choose()
        write = Write(self._disk, kind, offset, length, self._clock.now())
        self.writes.append(write)
        h = self._handle
        if kind == "write":
            cookie = h.aio_pwrite(write.data(), offset)
        elif kind == "zero":
            cookie = h.aio_zero(length, offset)
        else:
            cookie = h.aio_trim(length, offset)
        self._under_way[cookie] = write
        self._trigger.sent()

    def _receive(self):
        self._handle.poll(fleece.SOON * 1000)
        for cookie in list(self._under_way):
            if self._handle.aio_command_completed(cookie):
                self._under_way.pop(cookie).ended = self._clock.now()

    def run(self):
        h = self._handle
        try:
            while not self._ending and len(self.writes) < self._most:
                while len(self._under_way) < self._depth:
                    self._send()
                self._receive()
            while self._under_way:
                self._receive()
            h.shutdown()
        except nbd.Error as error:
            if not is_gone(h, error):
                self.error = error


class ViewReader(threading.Thread):
    """A backup client that reads an exported view again and again, with some of the bitmaps that
    are exported with it. A view has nothing that was sent after `made`, the time when it was there,
    and nothing in it changes. It ends when its server is gone, or with end()."""

    def __init__(self, uri, made, rng, bitmaps=()):
        super().__init__(daemon=True)
        self._made, self._rng, self._bitmaps = made, rng, bitmaps
        self._sectors, self._dirty = {}, {}  # what was read so far
        self._ending, self.error, self.reads = False, None, 0
        self._handle = nbd.NBD()
        for bitmap in bitmaps:
            self._handle.add_meta_context(dirty_context(bitmap))
        self._handle.connect_uri(uri)

    def _read(self):
        size = self._handle.get_size()
        length = min(SECTOR << self._rng.randrange(10), size)
        offset = self._rng.randrange(size - length + 1) & -SECTOR
        data = self._handle.pread(length, offset)
        for at in range(0, length, SECTOR):
            sector = data[at:at + SECTOR]
            sent = struct.unpack_from("<Q", sector)[0]
            assert sent <= self._made, f"{offset + at}: written at {sent}, after {self._made}"
            before = self._sectors.setdefault(offset + at, sent)
            assert sent == before, f"{offset + at}: written at {before}, and later at {sent}"
            assert sector == sector[:8] * (len(sector) // 8), f"{offset + at}: of several writes"

    def _look(self):
        for bitmap in self._bitmaps:
            dirty = dirty_extents(self._handle, bitmap)
            before = self._dirty.setdefault(bitmap, dirty)
            assert dirty == before, f"{bitmap}: {before}, and later {dirty}"

    def run(self):
        h = self._handle
        try:
            while not self._ending:
                self._read()
                self.reads += 1
                if self.reads % 64 == 1:
                    self._look()
            h.shutdown()
        except nbd.Error as error:
            if not is_gone(h, error):
                self.error = error
        except AssertionError as error:
            self.error = error

    def end(self):
        self._ending = True
        self.join(fleece.SOON)
        assert not self.is_alive(), "a reader of a view is stuck"
        if self.error:
            raise self.error
