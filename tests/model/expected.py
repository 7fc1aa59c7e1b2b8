# SPDX-License-Identifier: BSD-3-Clause
"""What disks must hold, and what bitmaps must have, after what guests have done, instants, and ends
of servers."""

import copy
import dataclasses
import itertools

from guests import SECTOR


class Bitmap:
    """What a dirty bitmap must have: a set of granules. One that is inconsistent does not record,
    until it is cleared."""

    def __init__(self, granularity, recording, size, persistent=False):
        self.granularity, self.recording, self.size = granularity, recording, size
        self.persistent, self.inconsistent, self.busy = persistent, False, False
        self.granules = set()

    def blank(self):
        other = copy.copy(self)
        other.granules = set()
        return other

    def records(self):
        return self.recording and not self.inconsistent

    def mark(self, offset, length):
        end = min(offset + length, self.size)
        if length > 0 and offset < end:
            self.granules.update(range(offset // self.granularity,
                                       (end - 1) // self.granularity + 1))

    def record(self, offset, length):
        if self.records():
            self.mark(offset, length)

    def merge(self, source):
        for g in source.granules:
            self.mark(g * source.granularity, source.granularity)

    def clear(self):
        self.granules, self.inconsistent = set(), False

    def resize(self, size):
        old, self.size = self.size, size
        self.granules = {g for g in self.granules if g * self.granularity < size}
        self.record(old, size - old)

    def extents(self, size):
        """[(offset, length)] of the dirty ranges, cut to a view's size."""
        found = []
        for g in sorted(self.granules):
            start = g * self.granularity
            end = min(start + self.granularity, size)
            if found and found[-1][0] + found[-1][1] == start:
                found[-1] = (found[-1][0], end - found[-1][0])
            else:
                found.append((start, end - start))
        return found


class Bitmaps(dict):
    """All bitmaps: disk -> name -> Bitmap. `sizes`: of the disks."""

    def __init__(self, sizes):
        super().__init__({disk: {} for disk in sizes})
        self.sizes = dict(sizes)

    def each(self):
        return [(disk, name, b) for disk, mine in self.items() for name, b in mine.items()]

    def blank(self):
        """The same bitmaps, all of them clean."""
        other = Bitmaps(self.sizes)
        for disk, name, b in self.each():
            other[disk][name] = b.blank()
        return other

    def record(self, disk, offset, length):
        for b in self[disk].values():
            b.record(offset, length)

    def resize(self, disk, size):
        self.sizes[disk] = size
        for b in self[disk].values():
            b.resize(size)


@dataclasses.dataclass
class Call:
    """A command whose instant is not known in full. `what` is what it says; each of `acts` does an
    action of it to Bitmaps. The instant lies between `answered` and `begun`, numbers of each
    guest's requests. begun is None until the command is answered."""
    what: object
    acts: list = dataclasses.field(repr=False)
    answered: list
    begun: list | None = None

    def is_answered(self):
        return self.begun is not None


@dataclasses.dataclass
class Found:
    """What a new server says of a bitmap."""
    granularity: int
    recording: bool
    persistent: bool
    inconsistent: bool
    busy: bool
    granules: set


class Model:
    """All disks as they were at the last instant."""

    def __init__(self, images):
        self.images = images  # disk -> bytearray
        self.bitmaps = Bitmaps({disk: len(image) for disk, image in images.items()})
        self.call = None      # that is under way, or whose instant is not settled
        self.numbers = itertools.count(1)  # for names
        self.history = []     # what has happened since the last start
        self.begin([])

    def begin(self, guests):
        """New guests."""
        self.guests = guests
        self.done = [0] * len(guests)  # requests of each guest that are in it
        self._landed = []  # (guest's number, range) of requests that were not answered

    def answered(self):
        return [g.answered for g in self.guests]

    def begun(self):
        return [len(g.log) for g in self.guests]

    def _apply(self, op):
        self.images[op.disk][op.offset:op.offset + len(op.data)] = op.data
        self.bitmaps.record(op.disk, op.offset, len(op.data))

    def _resize_image(self, disk, size):
        image = self.images[disk]
        del image[size:]
        image.extend(bytes(size - len(image)))

    def resized(self, disk, size):
        """The call, which has resized a disk, is answered."""
        self._resize_image(disk, size)
        self.bitmaps.resize(disk, size)
        self.call = None

    # ---- instants with views ----

    def _decide(self, guest, done, answered, begun, views):
        """How many of a guest's requests the instant has: all that were answered before it, none
        that was begun after it, and the same number on all disks. What a guest's sectors hold never
        comes back, so there is at most one such number."""
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

    def settle(self, views):
        """The call has made `views` {disk: bytes}. Bring the model to its instant."""
        for n, guest in enumerate(self.guests):
            k = self._decide(guest, self.done[n], self.call.answered[n], self.call.begun[n], views)
            for op in guest.log[self.done[n]:k]:
                self._apply(op)
            self.done[n] = guest.settled = k
        for disk, got in views.items():
            self.check_image(disk, got)
        for act in self.call.acts:
            act(self.bitmaps)
        self.call = None

    # ---- after a server's end ----

    def died(self, left):
        """The server has ended, and guests with it. `left` is what the images hold: all requests
        that were answered, and any sectors of others. An image that is not there any more is left
        out."""
        for n, guest in enumerate(self.guests):
            for op in guest.log[self.done[n]:guest.answered]:
                self.images[op.disk][op.offset:op.offset + len(op.data)] = op.data
            for op in guest.log[guest.answered:]:
                if op.disk in left:
                    self._land(n, op, left[op.disk])
        for disk, got in left.items():
            self._resize_image(disk, len(got))
            self.check_image(disk, got)

    def _land(self, n, op, got):
        image, runs = self.images[op.disk], []
        for at in range(op.offset, op.offset + len(op.data), SECTOR):
            part, new = slice(at, at + SECTOR), op.data[at - op.offset:at - op.offset + SECTOR]
            if got[part] == new != image[part]:
                image[part] = new
                start = runs.pop()[0] if runs and runs[-1][1] == at else at
                runs.append((start, at + SECTOR))
        self._landed += [(n, (op.disk, start, end - start)) for start, end in runs]

    def check_image(self, disk, got):
        want = self.images[disk]
        assert len(got) == len(want), f"{disk}: {len(got)} bytes, {len(want)} expected"
        if got != want:
            at = next(i for i in range(0, len(got), SECTOR)
                      if got[i:i + SECTOR] != want[i:i + SECTOR])
            near = [f"{g.name} {n}: {op}" for g in self.guests for n, op in enumerate(g.log)
                    if op.disk == disk and op.offset <= at < op.offset + len(op.data)]
            raise AssertionError(f"{disk} differs at {at}; {self.done} of each guest's requests "
                                 f"are in; written there: {near[-8:]}")

    def _changes(self):
        """[(guest's number, its request's number, range, whether it has surely changed)] since the
        last instant."""
        found = []
        for n, guest in enumerate(self.guests):
            found += [(n, k, (op.disk, op.offset, len(op.data)), k < guest.answered)
                      for k, op in enumerate(guest.log) if k >= self.done[n]]
        return found + [(n, self.guests[n].answered, part, True) for n, part in self._landed]

    def _effects(self, n, k, part, acts):
        """What a range of a guest's request makes of clean bitmaps. These are one or two
        possibilities: it may have come before the instant of the call, or after it."""
        call, moments = self.call, []
        if not acts or not call.is_answered() or k < call.begun[n]:
            moments.append("before")
        if acts and k >= call.answered[n]:
            moments.append("after")
        possible = []
        for moment in moments:
            bitmaps = self.bitmaps.blank()
            if moment == "before":
                bitmaps.record(*part)
            for act in acts:
                act(bitmaps)
            if moment == "after":
                bitmaps.record(*part)
            possible.append(bitmaps)
        return possible

    def _bounds(self, acts):
        """(Bitmaps with what must be dirty, Bitmaps with what may be), if the call has done
        this."""
        must = copy.deepcopy(self.bitmaps)
        for act in acts:
            act(must)
        may = copy.deepcopy(must)
        for n, k, part, sure in self._changes():
            effects = self._effects(n, k, part, acts)
            for disk, name, b in must.each():
                each = [e[disk][name].granules for e in effects]
                may[disk][name].granules.update(*each)
                if sure:
                    b.granules.update(set.intersection(*each))
        for disk, _, b in may.each():
            old = self.bitmaps.sizes[disk]
            if not (self.call and self.call.is_answered()) and b.size > old:
                # The new server has found an image that has grown, and nobody who says why.
                b.mark(old, b.size - old)
        return must, may

    def _candidates(self):
        """What has been done of the call: all, or, if it was not answered, perhaps nothing."""
        if not self.call:
            return [[]]
        return [self.call.acts] if self.call.is_answered() else [[], self.call.acts]

    def restarted(self, found, lost):
        """A new server has the bitmaps `found`. Go on from there. lost: the disks whose images are
        not what the last server has left: their bitmaps are inconsistent."""
        complaints = []
        for acts in self._candidates():
            must, may = self._bounds(acts)
            for disk, _, b in must.each():
                b.inconsistent |= disk in lost
            why = judge(must, may, found)
            if not why and all(must.sizes[d] == len(image) for d, image in self.images.items()):
                self._go_on(must, found)
                return
            complaints.append(why or f"sizes: {must.sizes}")
        names = "; or, if the last call has happened: ".join(complaints)
        raise AssertionError(f"{names}\n" + "\n".join(map(str, self.history)))

    def _go_on(self, bitmaps, found):
        self.bitmaps, self.call = bitmaps, None
        for disk, name, b in bitmaps.each():
            if b.persistent:
                b.busy = False
                b.granules = set() if b.inconsistent else set(found[disk][name].granules)
            else:
                del bitmaps[disk][name]
        self.begin([])
        self.history = []


def judge(must, may, found):
    """What is wrong with the bitmaps of a new server, or None."""
    for disk, mine in found.items():
        names = {n for n, b in must[disk].items() if b.persistent}
        if names != set(mine):
            return f"{disk}: {sorted(mine)}, {sorted(names)} expected"
        for name, got in mine.items():
            b = must[disk][name]
            want = Found(b.granularity, b.records(), True, b.inconsistent, False, got.granules)
            if got != want:
                return f"{disk}: {name}: {got}, {want} expected"
            if b.inconsistent:
                continue
            if not b.granules <= got.granules:
                return f"{disk}: {name}: changed, but clean: {sorted(b.granules - got.granules)}"
            more = got.granules - may[disk][name].granules
            if more:
                return f"{disk}: {name}: dirty, but not written: {sorted(more)}"
    return None
