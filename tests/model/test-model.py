#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The model test, end to end. Guests write to two disks over NBD, at random and without a pause,
while transactions over both disks make views and change bitmaps. A simple model says, byte for
byte, what each view holds, what the bitmaps of its export have, and what QMP shows."""

import contextlib
import os
import random

from fleece import SANITIZER, SOON, QmpError, Server, tmpdir
from guests import SECTOR, Bitmap, Guest, Model, share_out
from tap import main, note, test

from rig import HOLE, ZERO, dirty_context, dirty_extents, extents, seed

DISKS = "vda", "vdb"
SIZE = (2 << 20) + 3 * SECTOR  # no multiple of anything bigger
GUESTS = 3
LONG = bool(os.environ.get("FLEECE_LONG"))
ROUNDS = 600 if LONG else 8 if SANITIZER == "thread" else 20
GRANULARITIES = 512, 4096, 32768, 65536


class View:
    """An exported view, and what it must hold as long as it exists."""

    def __init__(self, disk, name, holds, bitmaps):
        self.disk, self.name, self.holds, self.bitmaps = disk, name, holds, bitmaps


class Run:
    """One server, its guests, and the model of it all."""

    def __init__(self, server, rng, grows):
        self.s, self.rng, self.q = server, rng, server.qmp()
        self.grows = grows  # the plugin can resize
        self.guests, self.model = [], None
        self.views = []
        self.number = 0

    @contextlib.contextmanager
    def writing(self):
        handles = [{d: self.s.nbd(d) for d in DISKS} for _ in range(GUESTS)]
        runs = share_out(DISKS, SIZE // SECTOR, GUESTS, self.rng)
        self.guests = [Guest(f"guest {i}", handles[i], runs[i], random.Random(self.rng.random()))
                       for i in range(GUESTS)]
        self.model = Model({d: bytearray(SIZE) for d in DISKS}, self.guests)
        for g in self.guests:
            g.start()
        try:
            yield
        finally:
            for g in self.guests:
                g.end(SOON)
        for g in self.guests:
            if g.error:
                raise g.error

    # ---- one instant ----

    def random_action(self, bitmaps):
        """A random bitmap action that is valid after the actions before it. Returns ((type, data),
        a function that does the same to the model), or None. `bitmaps` {disk: {name: Bitmap}} says
        which there are at this point, and is updated."""
        rng = self.rng
        disk = rng.choice(DISKS)
        mine = bitmaps[disk]
        free = sorted(n for n, b in mine.items() if not b.busy)
        kind = rng.choice(("add", "add", "remove", "clear", "enable", "disable", "merge"))
        if kind == "add" or not free:
            if len(mine) >= 5:
                return None
            self.number += 1
            name, granularity = f"b{self.number}", rng.choice(GRANULARITIES)
            recording = rng.randrange(3) > 0
            mine[name] = Bitmap(granularity, recording, len(self.model.images[disk]))
            return ("block-dirty-bitmap-add", {"node": disk, "name": name, "disabled": not recording,
                                               "granularity": granularity}), \
                lambda m, b=mine[name]: m.bitmaps[disk].update({name: b})
        name = rng.choice(free)
        if kind == "merge":
            other = rng.choice(DISKS)
            sources = sorted(n for n, b in bitmaps[other].items()
                             if not b.busy and b is not mine[name])
            if not sources or len(self.model.images[disk]) != len(self.model.images[other]):
                return None
            source = rng.choice(sources)
            return ("block-dirty-bitmap-merge",
                    {"node": disk, "target": name, "bitmaps": [{"node": other, "name": source}]}), \
                lambda m: m.bitmaps[disk][name].merge(m.bitmaps[other][source])
        act = {
            "remove": lambda m: m.bitmaps[disk].pop(name),
            "clear": lambda m: m.bitmaps[disk][name].granules.clear(),
            "enable": lambda m: setattr(m.bitmaps[disk][name], "recording", True),
            "disable": lambda m: setattr(m.bitmaps[disk][name], "recording", False),
        }[kind]
        if kind == "remove":
            mine.pop(name)
        return (f"block-dirty-bitmap-{kind}", {"node": disk, "name": name}), act

    def plan(self):
        """Random bitmap actions, and among them the actions that make views of both disks."""
        staged = {d: dict(self.model.bitmaps[d]) for d in DISKS}
        chosen = [self.random_action(staged) for _ in range(self.rng.randrange(6))]
        chosen = [c for c in chosen if c]
        self.number += 1
        names = {d: f"{d}-{self.number}" for d in DISKS}
        for disk in DISKS:
            chosen.insert(self.rng.randrange(len(chosen) + 1),
                          (("view-create", {"disk": disk, "name": names[disk]}), None))
        return chosen, names

    def refused(self, actions):
        """A transaction that ends with an action that fails does nothing."""
        bad = self.rng.choice([("abort", {}),
                               ("block-dirty-bitmap-clear", {"node": "vda", "name": "nobody"}),
                               ("view-create", {"disk": "nodisk", "name": "never"})])
        try:
            self.q.transaction(*actions, bad)
        except QmpError:
            return
        raise AssertionError(f"a transaction with {bad} was done")

    def instant(self):
        chosen, names = self.plan()
        actions = [action for action, _ in chosen]
        if self.rng.randrange(4) == 0:
            self.refused(actions)
        answered = self.model.answered()
        self.q.transaction(*actions)
        begun = self.model.begun()
        return chosen, names, answered, begun

    def settle(self, chosen, names, answered, begun):
        """Export and read the views, and bring the model to their instant."""
        got = {}
        for disk, name in names.items():
            self.export(name, name, [])
            h = self.s.nbd(name)
            got[disk] = b"".join(h.pread(min(1 << 20, h.get_size() - at), at)
                                 for at in range(0, h.get_size(), 1 << 20))
            h.shutdown()
            self.unexport(name)
        self.model.advance(answered, begun, got)
        for _, act in chosen:
            if act:
                act(self.model)
        return got

    def export(self, name, node, bitmaps):
        self.q.cmd("block-export-add", type="nbd", id=name, name=name, bitmaps=bitmaps,
                   **{"node-name": node})

    def unexport(self, name):
        self.q.cmd("block-export-del", id=name, mode="hard")
        self.q.wait_event("BLOCK_EXPORT_DELETED")

    def keep(self, disk, name, holds):
        """Keep a view, exported with some bitmaps that do not record."""
        still = sorted(n for n, b in self.model.bitmaps[disk].items()
                       if not b.recording and not b.busy)
        chosen = self.rng.sample(still, self.rng.randrange(len(still) + 1))
        self.export(name, name, [{"node": disk, "name": b} for b in chosen])
        view = View(disk, name, holds, chosen)
        self.views.append(view)
        self.mind_busy()

    def mind_busy(self):
        for disk in DISKS:
            for name, b in self.model.bitmaps[disk].items():
                b.busy = any(v.disk == disk and name in v.bitmaps for v in self.views)

    # ---- what must hold ----

    def check_view(self, view):
        contexts = ["base:allocation"] + [dirty_context(b) for b in view.bitmaps]
        h = self.s.nbd(view.name, contexts)
        assert h.is_read_only()
        for _ in range(4):
            at = self.rng.randrange(len(view.holds))
            n = self.rng.randrange(1, min(300_000, len(view.holds) - at) + 1)
            assert h.pread(n, at) == view.holds[at:at + n], f"{view.name} has changed at {at}"
        for offset, length, flags in extents(h, "base:allocation"):
            if flags & (HOLE | ZERO):
                assert not any(view.holds[offset:offset + length]), \
                    f"{view.name}: data at {offset} is said to be {flags}"
        for name in view.bitmaps:
            want = self.model.bitmaps[view.disk][name].extents(len(view.holds))
            found = dirty_extents(h, name)
            assert found == want, f"{view.name}, bitmap {name}: {found}, {want} expected"
        h.shutdown()

    def check_bitmaps(self):
        """QMP shows the bitmaps as the model has them. The count is compared if the bitmap does not
        record."""
        for node in self.q.cmd("query-named-block-nodes"):
            disk = node["node-name"]
            if disk not in DISKS:
                continue
            told = {b["name"]: b for b in node.get("dirty-bitmaps", [])}
            assert set(told) == set(self.model.bitmaps[disk]), (disk, told)
            for name, b in self.model.bitmaps[disk].items():
                assert told[name]["recording"] == b.recording and \
                    told[name]["granularity"] == b.granularity and \
                    told[name]["busy"] == b.busy, (disk, told[name])
                if not b.recording:
                    assert told[name]["count"] == len(b.granules) * b.granularity, \
                        (disk, told[name], len(b.granules))

    def drop_view(self):
        view = self.views.pop(self.rng.randrange(len(self.views)))
        self.check_view(view)
        self.unexport(view.name)
        self.q.cmd("view-delete", name=view.name)
        self.mind_busy()

    def grow(self):
        """Make a disk larger. The new part is dirty in every bitmap that records."""
        disk = self.rng.choice(DISKS)
        size = len(self.model.images[disk]) + self.rng.randrange(1, 300) * SECTOR
        self.q.cmd("block_resize", size=size, **{"node-name": disk})
        self.model.grow(disk, size)

    def round(self):
        if self.grows and self.rng.randrange(8) == 0:
            self.grow()
        for g in self.guests:
            g.wait_for(self.rng.randrange(12), SOON)
        chosen, names, answered, begun = self.instant()
        holds = self.settle(chosen, names, answered, begun)
        for disk, name in names.items():
            if self.rng.randrange(2):
                self.keep(disk, name, holds[disk])
            else:
                self.q.cmd("view-delete", name=name)
        self.check_bitmaps()
        if self.views:
            self.check_view(self.rng.choice(self.views))
        while len(self.views) > 5:
            self.drop_view()


def model(*disks, grows):
    rng = random.Random(seed())
    with Server(*disks) as s:
        r = Run(s, rng, grows)
        with r.writing():
            for _ in range(ROUNDS):
                r.round()
        while r.views:
            r.drop_view()
        assert r.q.cmd("query-views") == []
        note(f"{sum(r.model.answered())} requests, {ROUNDS} instants")


@test
def files():
    with tmpdir() as d:
        for disk in DISKS:
            with open(f"{d}/{disk}", "wb") as f:
                f.truncate(SIZE)
        model("--disk", "vda", "file", f"{d}/vda", "--disk", "vdb", "file", f"{d}/vdb",
              grows=True)


@test
def memory():
    model("--disk", "vda", "memory", SIZE, "--disk", "vdb", "memory", SIZE, grows=False)


main()
