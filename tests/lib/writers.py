# SPDX-License-Identifier: BSD-3-Clause
"""Guests whose every request is known, and a model of the bitmaps that record them, for tests that
kill the server.

The time between two instants is an *epoch*. The model keeps for each bitmap the epochs whose writes
are in it. A write that was under way when an instant came may belong to either epoch; the times of
a common clock say which ones are possible.

    clock = Clock()
    model = Model(clock, {"vda": 64 * MIB})
    with Writer(clock, "vda", uri, rng, trigger):
        call = model.begin([("block-dirty-bitmap-add", {...})])
        ...                                 # have the server execute them
        model.done(call)                    # or not, if nobody knows whether it did
    model.check(found, writes)              # found: {disk: {name: Found}}
"""

import bisect
import copy
import dataclasses
import errno
import itertools
import math
import struct
import threading

import nbd

import fleece
from rig import KIB

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


class Trigger:
    """Calls `action` once, when so many writes have been sent. Any thread."""

    def __init__(self, after, action):
        self._left, self._action, self._lock = after, action, threading.Lock()

    def sent(self):
        with self._lock:
            self._left -= 1
            now = self._left == 0
        if now:
            self._action()


class Writer(threading.Thread):
    """A guest with a connection of its own, and `depth` requests under way. It ends when its server
    is gone, or with its `with`. `writes`: all that it has sent."""

    def __init__(self, clock, disk, uri, rng, trigger, depth=4, hot=None):
        super().__init__(daemon=True)
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
            while not self._ending:
                while len(self._under_way) < self._depth:
                    self._send()
                self._receive()
            while self._under_way:
                self._receive()
            h.shutdown()
        except nbd.Error as error:
            # A server that ends in order may say so of what it does not do any more.
            gone = h.aio_is_dead() or h.aio_is_closed() or error.errnum == errno.ESHUTDOWN
            if not gone:
                self.error = error


@dataclasses.dataclass
class Bitmap:
    granularity: int
    recording: bool
    persistent: bool
    epochs: set = dataclasses.field(default_factory=set)
    base: set = dataclasses.field(default_factory=set)  # granules that are dirty in any case
    maybe: set = dataclasses.field(default_factory=set)  # granules that may be


@dataclasses.dataclass
class Found:
    """What a server says of a bitmap. dirty: set of granules."""
    granularity: int
    recording: bool
    dirty: set
    inconsistent: str | None = None


def granules(offset, length, granularity):
    return range(offset // granularity, (offset + length - 1) // granularity + 1)


class State:
    """What bitmaps there are, at one time."""

    def __init__(self, sizes):
        self.sizes = dict(sizes)
        self.bitmaps = {disk: {} for disk in sizes}

    def apply(self, actions, epoch):
        """Carry out actions. `epoch` begins after them."""
        for kind, data in actions:
            getattr(self, "_" + kind.rsplit("-", 1)[-1])(data)
        for bitmap in self._all():
            if bitmap.recording:
                bitmap.epochs.add(epoch)

    def forget_transient(self):
        for disk, mine in self.bitmaps.items():
            self.bitmaps[disk] = {n: b for n, b in mine.items() if b.persistent}

    def _all(self):
        return [b for mine in self.bitmaps.values() for b in mine.values()]

    def _of(self, data):
        return self.bitmaps[data["node"]][data["name"]]

    def _add(self, data):
        self.bitmaps[data["node"]][data["name"]] = Bitmap(
            data["granularity"], not data["disabled"], data["persistent"])

    def _remove(self, data):
        del self.bitmaps[data["node"]][data["name"]]

    def _clear(self, data):
        bitmap = self._of(data)
        bitmap.epochs, bitmap.base, bitmap.maybe = set(), set(), set()

    def _enable(self, data):
        self._of(data).recording = True

    def _disable(self, data):
        self._of(data).recording = False

    def _persistence(self, data):
        self._of(data).persistent = data["persistent"]

    def _merge(self, data):
        target = self.bitmaps[data["node"]][data["target"]]
        for name in data["bitmaps"]:
            source = self.bitmaps[data["node"]][name]
            target.epochs |= source.epochs
            target.base |= source.base
            target.maybe |= source.maybe

    def _resize(self, data):  # block_resize, by itself
        old, new = self.sizes[data["node-name"]], data["size"]
        for bitmap in self.bitmaps[data["node-name"]].values():
            grown = set(granules(old, new - old, bitmap.granularity))
            if bitmap.recording:
                bitmap.base |= grown
            else:
                bitmap.maybe |= grown  # if the server dies before it knows the size for good
        self.sizes[data["node-name"]] = new


class Model:
    """What the server must know, as far as anybody outside can tell."""

    def __init__(self, clock, sizes):
        self.clock = clock
        self.state = State(sizes)
        self._instants = []    # [begun, ended]
        self._open = None      # a call whose reply is awaited
        self._number = 0

    def begin(self, actions):
        """A command or a transaction is about to be sent."""
        self._open = [self.clock.now(), math.inf], actions
        return self._open

    def done(self, call):
        """Its reply is there, without an error."""
        assert call is self._open
        times, actions = self._open
        times[1] = self.clock.now()
        self._instants.append(times)
        self.state.apply(actions, len(self._instants))
        self._open = None

    def candidates(self):
        """[(state, instants)] that are possible: what was under way has happened wholly, or not at
        all."""
        known = [(self.state, self._instants)]
        if self._open:
            times, actions = self._open
            state, instants = copy.deepcopy(self.state), self._instants + [times]
            state.apply(actions, len(instants))
            known.append((state, instants))
        return known

    def restarted(self, found, sizes, state):
        """Go on from what a new server says, in the place of `state`."""
        for disk, mine in state.bitmaps.items():
            for name, bitmap in mine.items():
                bitmap.base, bitmap.maybe = set(found[disk][name].dirty), set()
                bitmap.epochs = {0} if bitmap.recording else set()
        state.sizes = dict(sizes)
        self.state, self._instants, self._open = state, [], None

    # ---- judging ----

    def check(self, found, sizes, writes, read, exact):
        """What a new server has found, after the last one's end. exact: no bit may be set without a
        write; otherwise more may be dirty. read(disk, offset, length): what is on a disk. Goes on
        from there; returns (dirty bytes, bytes that may be dirty because of a write)."""
        complaints = []
        for state, instants in self.candidates():
            state.forget_transient()
            why, dirty, written = judge(state, instants, found, sizes, writes, read, exact)
            if not why:
                self.restarted(found, sizes, state)
                return dirty, written
            complaints.append(why)
        names = "; or, if the last command has happened: ".join(complaints)
        raise AssertionError(f"{names}; the last command: {self._open and self._open[1]}")

    def random_actions(self, rng, most=3):
        """Actions that are valid, for one transaction; none touches a bitmap that another does."""
        actions, touched = [], set()
        counts = {disk: len(mine) for disk, mine in self.state.bitmaps.items()}
        for _ in range(rng.randrange(1, most + 1)):
            disk = rng.choice(sorted(self.state.bitmaps))
            mine = self.state.bitmaps[disk]
            free = sorted(n for n in mine if (disk, n) not in touched)
            kind = rng.choice(("add", "add", "remove", "clear", "clear", "enable", "disable",
                               "merge", "set-persistence"))
            if kind == "add" or not free:
                if counts[disk] < 5:
                    counts[disk] += 1
                    actions.append(self._random_add(rng, disk))
                continue
            name = rng.choice(free)
            data = {"node": disk, "name": name}
            if kind == "set-persistence":
                data["persistent"] = rng.randrange(3) > 0
            if kind == "merge":
                same = [n for n in free
                        if n != name and mine[n].granularity == mine[name].granularity]
                if not same:
                    continue
                data = {"node": disk, "target": name, "bitmaps": [rng.choice(same)]}
                touched.add((disk, data["bitmaps"][0]))
            touched.add((disk, name))
            actions.append((f"block-dirty-bitmap-{kind}", data))
        return actions

    def _random_add(self, rng, disk):
        self._number += 1
        return ("block-dirty-bitmap-add", {
            "node": disk, "name": f"b{self._number}", "disabled": rng.randrange(5) == 0,
            "granularity": rng.choice((4 * KIB, 64 * KIB)), "persistent": rng.randrange(5) > 0})


def bounds(bitmap, instants, writes, read):
    """(granules that must be dirty, granules that may be)."""
    begun, ended = [i[0] for i in instants], [i[1] for i in instants]
    must, may = set(bitmap.base), bitmap.base | bitmap.maybe
    for w in writes:
        possible = range(bisect.bisect_left(ended, w.begun), bisect.bisect_left(begun, w.ended) + 1)
        inside = [epoch in bitmap.epochs for epoch in possible]
        if any(inside):
            touched = granules(w.offset, w.length, bitmap.granularity)
            may.update(touched)
            if all(inside) and (w.ended < math.inf or w.landed(read)):
                must.update(touched)
    return must, may


def judge(state, instants, found, sizes, writes, read, exact):
    """(what is wrong, or None; dirty bytes; bytes that may be dirty because of a write)."""
    dirty = written = 0
    for disk, mine in state.bitmaps.items():
        if sizes[disk] != state.sizes[disk]:
            return f"{disk}: {sizes[disk]} bytes, {state.sizes[disk]} expected", 0, 0
        if set(mine) != set(found[disk]):
            return f"{disk}: bitmaps {sorted(found[disk])}, {sorted(mine)} expected", 0, 0
        own = [w for w in writes if w.disk == disk]
        for name, bitmap in mine.items():
            got, what = found[disk][name], f"{disk}: {name}"
            if got.inconsistent:
                return f"{what}: inconsistent: {got.inconsistent}", 0, 0
            if (got.granularity, got.recording) != (bitmap.granularity, bitmap.recording):
                return f"{what}: {got}", 0, 0
            must, may = bounds(bitmap, instants, own, lambda *at, d=disk: read(d, *at))
            if not must <= got.dirty:
                return f"{what}: changed, but clean: {sorted(must - got.dirty)}", 0, 0
            if exact and not got.dirty <= may:
                return f"{what}: dirty, but not written: {sorted(got.dirty - may)}", 0, 0
            dirty += len(got.dirty) * bitmap.granularity
            written += len(may) * bitmap.granularity
    return None, dirty, written


def found_in(blocks, extents_of):
    """{disk: {name: Found}} of the answer to query-block. extents_of(disk, bitmap): [(offset,
    length)] that are dirty."""
    found = {}
    for block in blocks:
        mine = found[block["device"]] = {}
        for b in block["inserted"].get("dirty-bitmaps", []):
            why = b.get("inconsistent-reason", "?") if b.get("inconsistent") else None
            pieces = [] if why else extents_of(block["device"], b["name"])
            dirty = set()
            for offset, length in pieces:
                dirty.update(granules(offset, length, b["granularity"]))
            mine[b["name"]] = Found(b["granularity"], b["recording"], dirty, why)
            assert why or len(dirty) * b["granularity"] >= b["count"] > len(dirty) * b[
                "granularity"] - b["granularity"] or not dirty, (b, len(dirty))
    return found
