# SPDX-License-Identifier: BSD-3-Clause
"""A model of dirty bitmaps that record the requests of known guests (writers.py), for tests that
kill the server.

The time between two instants is an *epoch*. The model keeps for each bitmap the epochs whose writes
are in it. A write that was under way when an instant came may belong to either epoch; the times of
a common clock say which ones are possible.

A bitmap that others were merged into has writes of theirs, too: as coarse as they were there, and
of the other bitmap's disk. So a bitmap has *parts*: the epochs whose writes to a disk have come
into it in one way. The way is a chain of steps; each step rounds a write out to a granularity, and
cuts it at a size. A merge is such a step, and so is a resize that cuts bitmaps.

    model = Model(clock, {"vda": 64 * MIB})
    with Writer(clock, "vda", uri, rng, trigger):
        call = model.begin([("block-dirty-bitmap-add", {...})])
        ...                                 # have the server execute them
        model.done(call)                    # or not, if nobody knows whether it did
    model.check(found, sizes, writes, ...)  # found: {disk: {name: Found}}
"""

import bisect
import collections
import copy
import dataclasses
import math

from rig import KIB


@dataclasses.dataclass
class Bitmap:
    granularity: int
    recording: bool
    persistent: bool
    parts: dict = dataclasses.field(default_factory=dict)  # (disk, chain) -> epochs
    base: set = dataclasses.field(default_factory=set)  # granules that are dirty in any case
    maybe: set = dataclasses.field(default_factory=set)  # granules that may be

    def record(self, disk, epoch):
        self.parts.setdefault((disk, ()), set()).add(epoch)

    def chains(self, disk, epoch):
        """The ways by which writes of an epoch come into it."""
        return [chain for (d, chain), epochs in self.parts.items() if d == disk and epoch in epochs]

    def touched(self, write, chains):
        """The granules that a write makes dirty by way of these."""
        found = set()
        for chain in chains:
            found.update(carried(write.offset, write.length, chain, self.granularity))
        return found

    def merge(self, source, size):
        for (disk, chain), epochs in source.parts.items():
            way = disk, lengthened(chain, source.granularity, size)
            self.parts.setdefault(way, set()).update(epochs)
        for mine, its in (self.base, source.base), (self.maybe, source.maybe):
            for g in its:
                mine.update(carried(g * source.granularity, source.granularity, ((1, size),),
                                    self.granularity))

    def cut(self, size):
        parts, self.parts = self.parts, {}
        for (disk, chain), epochs in parts.items():
            way = disk, lengthened(chain, self.granularity, size)
            self.parts.setdefault(way, set()).update(epochs)
        for mine in self.base, self.maybe:
            mine.difference_update([g for g in mine if g * self.granularity >= size])


@dataclasses.dataclass
class Found:
    """What a server says of a bitmap. dirty: set of granules."""
    granularity: int
    recording: bool
    dirty: set
    inconsistent: str | None = None


def granules(offset, length, granularity):
    return range(offset // granularity, (offset + length - 1) // granularity + 1)


def lengthened(chain, granularity, size):
    """A chain with one step more. Two steps with one size are one, with the coarser granularity."""
    if chain and chain[-1][1] == size:
        granularity = max(granularity, chain[-1][0])
        chain = chain[:-1]
    return chain + ((granularity, size),)


def carried(offset, length, chain, granularity):
    """The granules that a range makes dirty by way of a chain."""
    begin, end = offset, offset + length
    for coarse, size in chain:
        begin = begin // coarse * coarse
        end = min((end + coarse - 1) // coarse * coarse, size)
        if begin >= end:
            return range(0)
    return granules(begin, end - begin, granularity)


class State:
    """What bitmaps there are, at one time."""

    def __init__(self, sizes):
        self.sizes = dict(sizes)
        self.bitmaps = {disk: {} for disk in sizes}

    def apply(self, actions, epoch, answered=True):
        """Carry out actions. `epoch` begins after them. answered: nothing of them was left to be
        done when the server ended."""
        for kind, data in actions:
            if kind == "block-resize":
                self._resize(data["node-name"], data["size"], answered)
            else:
                getattr(self, "_" + kind.rsplit("-", 1)[-1])(data)
        for disk, mine in self.bitmaps.items():
            for bitmap in mine.values():
                if bitmap.recording:
                    bitmap.record(disk, epoch)

    def forget_transient(self):
        for disk, mine in self.bitmaps.items():
            self.bitmaps[disk] = {n: b for n, b in mine.items() if b.persistent}

    def _of(self, data):
        return self.bitmaps[data["node"]][data["name"]]

    def _add(self, data):
        self.bitmaps[data["node"]][data["name"]] = Bitmap(
            data["granularity"], not data["disabled"], data["persistent"])

    def _remove(self, data):
        del self.bitmaps[data["node"]][data["name"]]

    def _clear(self, data):
        bitmap = self._of(data)
        bitmap.parts, bitmap.base, bitmap.maybe = {}, set(), set()

    def _enable(self, data):
        self._of(data).recording = True

    def _disable(self, data):
        self._of(data).recording = False

    def _persistence(self, data):
        self._of(data).persistent = data["persistent"]

    def _merge(self, data):
        disk = data["node"]
        for source in data["bitmaps"]:
            if isinstance(source, str):
                source = {"node": disk, "name": source}
            self.bitmaps[disk][data["target"]].merge(self._of(source), self.sizes[disk])

    def _create(self, data):  # of a view
        pass

    def _resize(self, disk, new, answered):  # block_resize, by itself
        old, self.sizes[disk] = self.sizes[disk], new
        for bitmap in self.bitmaps[disk].values():
            if new < old:
                bitmap.cut(new)
            elif new > old and bitmap.recording:
                bitmap.base.update(granules(old, new - old, bitmap.granularity))
            elif new > old and not answered:
                # The next server may find an image that has grown, and nobody who says why.
                bitmap.maybe.update(granules(old, new - old, bitmap.granularity))


class Model:
    """What the server must know, as far as anybody outside can tell. `granularities`: those of
    bitmaps that it adds at random."""

    def __init__(self, clock, sizes, granularities=(4 * KIB, 64 * KIB)):
        self.clock = clock
        self.state = State(sizes)
        self.busy = set()      # (disk, bitmap) that an export has: no action touches them
        self._granularities = granularities
        self._instants = []    # [begun, ended]
        self._open = None      # a call whose reply is awaited
        self._history = []     # actions that are done
        self._number = 0

    def begin(self, actions):
        """A command or a transaction is about to be sent."""
        self._open = [self.clock.now(), math.inf], actions
        return self._open

    def done(self, call):
        """Its reply is there, without an error. Returns the time."""
        assert call is self._open
        times, actions = self._open
        times[1] = self.clock.now()
        self._instants.append(times)
        self._history.append(actions)
        self.state.apply(actions, len(self._instants))
        self._open = None
        return times[1]

    def candidates(self):
        """[(state, instants)] that are possible: what was under way has happened wholly, or not at
        all."""
        known = [(self.state, self._instants)]
        if self._open:
            times, actions = self._open
            state, instants = copy.deepcopy(self.state), self._instants + [times]
            state.apply(actions, len(instants), answered=False)
            known.append((state, instants))
        return known

    def restarted(self, found, sizes, state):
        """Go on from what a new server says, in the place of `state`."""
        for disk, mine in state.bitmaps.items():
            for name, bitmap in mine.items():
                bitmap.base, bitmap.maybe = set(found[disk][name].dirty), set()
                bitmap.parts = {}
                if bitmap.recording:
                    bitmap.record(disk, 0)
        state.sizes = dict(sizes)
        self.state, self._instants, self._open, self.busy = state, [], None, set()
        self._history = []

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
        raise AssertionError(f"{names}; commands: {self._history}, last: "
                             f"{self._open and self._open[1]}")

    def random_actions(self, rng, most=3):
        """Actions that are valid, for one transaction; none touches a bitmap that another does."""
        actions, touched = [], set(self.busy)
        counts = {disk: len(mine) for disk, mine in self.state.bitmaps.items()}
        for _ in range(rng.randrange(1, most + 1)):
            disk = rng.choice(sorted(self.state.bitmaps))
            free = sorted(n for n in self.state.bitmaps[disk] if (disk, n) not in touched)
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
                sources = self._sources(disk, name, touched)
                if not sources:
                    continue
                source = rng.choice(sources)
                data = {"node": disk, "target": name, "bitmaps": [source]}
                touched.add((source["node"], source["name"]))
            touched.add((disk, name))
            actions.append((f"block-dirty-bitmap-{kind}", data))
        return actions

    def _random_add(self, rng, disk):
        self._number += 1
        return ("block-dirty-bitmap-add", {
            "node": disk, "name": f"b{self._number}", "disabled": rng.randrange(5) == 0,
            "granularity": rng.choice(self._granularities), "persistent": rng.randrange(5) > 0})

    def _sources(self, disk, target, touched):
        """What can be merged into a bitmap: those of disks of the same size."""
        sizes = self.state.sizes
        return [{"node": other, "name": n} for other in sorted(sizes)
                if sizes[other] == sizes[disk] for n in sorted(self.state.bitmaps[other])
                if (other, n) not in touched and (other, n) != (disk, target)]


def bounds(bitmap, writes):
    """(granules that must be dirty, granules that may be), with placed() writes."""
    must, may = set(bitmap.base), bitmap.base | bitmap.maybe
    for (disk, epochs, sure), group in writes.items():
        chains = [bitmap.chains(disk, epoch) for epoch in epochs]
        if not any(chains):
            continue
        for w in group:
            touched = [bitmap.touched(w, ways) for ways in chains]
            may.update(*touched)
            if sure:
                must.update(set.intersection(*touched))
    return must, may


def placed(writes, instants, read):
    """{(disk, epochs to which they may belong, whether something of them has surely happened):
    writes}."""
    begun, ended = [i[0] for i in instants], [i[1] for i in instants]
    groups = collections.defaultdict(list)
    for w in writes:
        epochs = range(bisect.bisect_left(ended, w.begun), bisect.bisect_left(begun, w.ended) + 1)
        sure = w.ended < math.inf or w.landed(lambda *at, d=w.disk: read(d, *at))
        groups[w.disk, epochs, sure].append(w)
    return groups


def judge_one(bitmap, got, writes, exact):
    """(what is wrong with a bitmap, or None; bytes that may be dirty because of a write)."""
    if got.inconsistent:
        return f"inconsistent: {got.inconsistent}", 0
    if (got.granularity, got.recording) != (bitmap.granularity, bitmap.recording):
        return f"{got}", 0
    must, may = bounds(bitmap, writes)
    if not must <= got.dirty:
        return f"changed, but clean: {sorted(must - got.dirty)}", 0
    if exact and not got.dirty <= may:
        return f"dirty, but not written: {sorted(got.dirty - may)}", 0
    return None, len(may) * bitmap.granularity


def judge(state, instants, found, sizes, writes, read, exact):
    """(what is wrong, or None; dirty bytes; bytes that may be dirty because of a write)."""
    dirty = written = 0
    writes = placed(writes, instants, read)
    for disk, mine in state.bitmaps.items():
        if sizes[disk] != state.sizes[disk]:
            return f"{disk}: {sizes[disk]} bytes, {state.sizes[disk]} expected", 0, 0
        if set(mine) != set(found[disk]):
            return f"{disk}: bitmaps {sorted(found[disk])}, {sorted(mine)} expected", 0, 0
        for name, bitmap in mine.items():
            got = found[disk][name]
            why, may = judge_one(bitmap, got, writes, exact)
            if why:
                return f"{disk}: {name}: {why}", 0, 0
            dirty += len(got.dirty) * bitmap.granularity
            written += may
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
