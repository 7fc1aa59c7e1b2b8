#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Backup sessions of a real server whose guests never stop writing.

The difference between the views of two sessions lies inside the map between them, and nothing else is
dirty in it but what was written meanwhile. A session over many disks has one instant. What is dirty
and what is a hole agree."""

import contextlib
import os
import random
import struct
import threading

import nbd

from fleece import SANITIZER, SOON
from qmp_exports import closing, connect
from rawnbd import Client
from rig import HOLE, ZERO, dirty_extents, extents, granules, read_all, seed
from state_rig import Stateful
from tap import main, note, test
from writers import SECTOR, Clock, Trigger, Writer

LONG = bool(os.environ.get("FLEECE_LONG"))
ROUNDS = 100 if LONG else 10 if SANITIZER == "no" else 4
MIB = 1 << 20
GRANULARITY = 64 << 10  # the default


class Taken:
    """A session, read to its end: what it holds, and when it was begun. `own`: its checkpoint is one by
    itself, made at the same instant, so that it is a base at once."""

    def __init__(self, q, clock, id, since, checkpoint, own=False):
        session = {"id": id, **({"since": since.checkpoint} if since else {})}
        self.before = clock.now()
        if own:
            q.transaction(("checkpoint-create", {"name": checkpoint}), ("backup-begin", session))
        else:
            q.cmd("backup-begin", checkpoint=checkpoint, **session)
        self.after = clock.now()
        self.answer, = [b["disks"] for b in q.cmd("query-backups") if b["id"] == id]
        self.id, self.since, self.checkpoint = id, since, checkpoint
        self.data, self.dirty = {}, {}

    def read(self):
        for disk in self.answer:
            name, bitmap = disk["disk"], disk["context"].removeprefix("qemu:dirty-bitmap:")
            with closing(connect(disk["uri"], [disk["context"]])) as h:
                assert h.get_size() == disk["size"]
                self.dirty[name] = dirty_extents(h, bitmap)
                self.data[name] = read_all(h)
                assert self.dirty[name] == dirty_extents(h, bitmap), "the map has moved"
            assert sum(n for _, n in self.dirty[name]) == disk["dirty-bytes"], disk


def different(one, other):
    """The sectors in which two images differ."""
    return [(at, SECTOR) for at in range(0, len(one), SECTOR)
            if one[at:at + SECTOR] != other[at:at + SECTOR]]


def check_between(taken, writers):
    """The map of a session against the view of the session that made its base, and against what
    guests have written between the two."""
    since = taken.since
    for disk in taken.data:
        dirty = set(granules(taken.dirty[disk]))
        differs = set(granules(different(since.data[disk], taken.data[disk])))
        assert differs <= dirty, f"{taken.id}/{disk}: clean, and differs: {differs - dirty}"
        written = set(granules((w.offset, w.length) for writer in writers for w in list(writer.writes)
                               if w.disk == disk and w.ended > since.before and w.begun < taken.after))
        assert dirty <= written, f"{taken.id}/{disk}: dirty, and not written: {dirty - written}"


def check_pair(q, clock, rng, n, kept, writers):
    """Two sessions, the second one begun right after the first one from its instant. The first one
    is since any that was kept. Which of them were kept, and how many granules were dirty."""
    first = Taken(q, clock, f"a{n}", rng.choice(kept), f"k{n}", own=True)
    second = Taken(q, clock, f"b{n}", first, f"c{n}")
    for taken in first, second:
        assert all(d["mode"] == "incremental" for d in taken.answer), taken.answer
        taken.read()
        check_between(taken, writers)
    keep = rng.randrange(2) > 0
    for taken in rng.sample((first, second), 2):
        q.cmd("backup-end", id=taken.id,
              result="commit" if keep or taken is first else "abort")
    return ([first, second] if keep else [first],
            [sum(len(granules(d)) for d in taken.dirty.values()) for taken in (first, second)])


@test
def maps_between_sessions_while_guests_write():
    """From any earlier checkpoint; some sessions are aborted."""
    rng, clock = random.Random(seed()), Clock()
    with Stateful("vda", "vdb", size=32 * MIB) as s, contextlib.ExitStack() as stack:
        q = s.qmp()
        writers = [stack.enter_context(Writer(clock, disk, s.uri(disk), rng, Trigger(None, None)))
                   for disk in ("vda", "vdb")]
        kept, dirty = [Taken(q, clock, "s", None, "c")], []
        kept[0].read()
        q.cmd("backup-end", id="s", result="commit")
        for n in range(ROUNDS):
            more, counts = check_pair(q, clock, rng, n, kept, writers)
            kept += more
            dirty += counts
        assert {c["name"] for c in q.cmd("query-checkpoints")} == {t.checkpoint for t in kept}
        assert q.cmd("query-views") == []
        note(f"{len(kept)} sessions kept, {dirty} dirty granules, "
             f"{sum(len(w.writes) for w in writers)} writes")


# ---- one instant of many disks ----

DISKS = [f"d{n}" for n in range(32)]


class Counter(threading.Thread):
    """A guest that writes a number that grows, to one disk after the other. Each write waits for the
    answer of the one before."""

    def __init__(self, s, number):
        super().__init__(daemon=True)
        self.handles, self.number = [s.nbd(d) for d in DISKS], number
        self.dying, self.error, self._ending = False, None, False
        self._grown = threading.Condition()
        self.start()

    def run(self):
        try:
            while not self._ending:
                number = self.number + 1
                self.handles[number % len(DISKS)].pwrite(struct.pack("<Q", number) * 64, 0)
                with self._grown:
                    self.number = number
                    self._grown.notify_all()
        except nbd.Error as error:
            if not self.dying:
                self.error = error
                with self._grown:
                    self._grown.notify_all()

    def wait(self, more):
        with self._grown:
            goal = self.number + more
            assert self._grown.wait_for(lambda: self.error or self.number >= goal, SOON)
        if self.error:
            raise self.error

    def end(self):
        self._ending = not self.dying
        self.join(SOON)
        assert not self.is_alive(), "the counting guest is stuck"
        if self.error:
            raise self.error
        if not self.dying:
            for h in self.handles:
                h.shutdown()


def numbers_in(answer):
    """The number that each disk of a session has."""
    found = {}
    for disk in answer:
        with closing(connect(disk["uri"])) as h:
            found[disk["disk"]], = struct.unpack("<Q", h.pread(8, 0))
    return found


def check_numbers(found):
    """Every number up to the last one is there."""
    last = max(found.values())
    for n, disk in enumerate(DISKS):
        want = max(0, last - (last - n) % len(DISKS))
        assert found[disk] == want, f"{disk} has {found[disk]}, not {want}; the last is {last}"
    return last


def begin_and_check(q, guest, n):
    guest.wait(100)
    before = guest.number
    answer = q.cmd("backup-begin", id=f"s{n}", checkpoint=f"c{n}",
                   **({"since": f"c{n - 1}"} if n > 0 else {}))
    after = guest.number + 1
    modes = {d["mode"] for d in answer}
    assert modes == {"incremental" if n > 0 else "full"}, answer
    last = check_numbers(numbers_in(answer))
    assert before <= last <= after, (before, last, after)
    q.cmd("backup-end", id=f"s{n}", result="commit")


@test
def one_instant_of_32_disks():
    """Also of sessions after the server was killed, from the checkpoints that it had."""
    with Stateful(*DISKS) as s:
        number = 0
        for n in range(10):
            guest = Counter(s, number)
            begin_and_check(s.qmp(), guest, n)
            guest.wait(10)
            if n % 3 == 2:
                guest.dying = True
                s.process.kill()
                guest.end()
                s.wait(-9)
                s.start()
            else:
                guest.end()
            number = guest.number


# ---- what is dirty, and what is a hole ----

def both(client, offset, length):
    """The lists of both contexts. They cover the same."""
    lists = client.block_status(offset, length)
    totals = {sum(n for n, _ in e) for e in lists.values()}
    assert len(totals) == 1 and 0 < totals.pop() <= length, lists
    return lists


def check_both_contexts(s, disk, prepare):
    """A client that asks for both contexts gets them over the same length, piece by piece, to the
    end."""
    with Client(s.socket) as c:
        prepare(c)
        contexts = c.set_contexts(disk["export"], "base:allocation", disk["context"])
        assert len(contexts) == 2
        c.go(disk["export"])
        at = 0
        while at < disk["size"]:
            lists = both(c, at, min(disk["size"] - at, 1 << 30))
            at += sum(n for n, _ in lists[disk["context"]])


@test
def what_was_trimmed_is_dirty_and_a_hole():
    with Stateful("vda", size=64 * MIB) as s, closing(s.nbd("vda")) as guest:
        q = s.qmp()
        for at in range(0, 32 * MIB, 512 << 10):
            guest.pwrite(b"x" * (256 << 10), at)
        q.cmd("checkpoint-create", name="c0")
        guest.trim(4 * MIB, 8 * MIB)
        guest.zero(MIB, 16 * MIB)
        guest.pwrite(b"y" * 4096, 20 * MIB)
        disk, = q.cmd("backup-begin", id="s", since="c0")
        guest.pwrite(b"z" * 8 * MIB, 8 * MIB)
        bitmap = disk["context"].removeprefix("qemu:dirty-bitmap:")
        with closing(connect(disk["uri"], ["base:allocation", disk["context"]])) as h:
            assert dirty_extents(h, bitmap) == [(8 * MIB, 4 * MIB), (16 * MIB, MIB),
                                                (20 * MIB, GRANULARITY)]
            for offset, length, flags in extents(h, "base:allocation"):
                if offset <= 8 * MIB < offset + length:
                    assert flags == HOLE | ZERO and offset + length >= 12 * MIB, (offset, length)
            assert h.pread(4 * MIB, 8 * MIB) == bytes(4 * MIB)
        check_both_contexts(s, disk, Client.structured)
        check_both_contexts(s, disk, Client.extended)
        q.cmd("backup-end", id="s", result="commit")


main()
