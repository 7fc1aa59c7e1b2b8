# SPDX-License-Identifier: BSD-3-Clause
"""Rounds of the model tests: guests write to two disks, while transactions over both disks make
views and change bitmaps. What each view holds, what each bitmap of a view's export says and what
QMP tells must be what the model says."""

import contextlib
import random

from expected import Bitmap, Call
from fleece import SOON, QmpError
from guests import SECTOR, Guest, share_out

from rig import HOLE, ZERO, dirty_context, dirty_extents, extents, read_all

DISKS = "vda", "vdb"
SIZE = (2 << 20) + 3 * SECTOR  # no multiple of anything bigger
GUESTS = 3
GRANULARITIES = 512, 4096, 32768, 65536


class View:
    """A view, exported, and what it must hold for ever."""

    def __init__(self, disk, name, holds, bitmaps):
        self.disk, self.name, self.holds, self.bitmaps = disk, name, holds, bitmaps


class Run:
    """One server, its guests, and the model of it all.

    grows      disks that can be resized
    persists   bitmaps can be persistent
    sent       is called before each request of a guest"""

    def __init__(self, server, rng, model, grows=(), persists=False, sent=lambda: None):
        self.s, self.rng, self.q, self.model = server, rng, server.qmp(), model
        self.grows, self.persists, self.sent = grows, persists, sent
        self.ending = False  # whether somebody has ended the server
        self.guests, self.views = [], []

    @contextlib.contextmanager
    def writing(self):
        handles = [{d: self.s.nbd(d) for d in DISKS} for _ in range(GUESTS)]
        runs = share_out(self.model.bitmaps.sizes, GUESTS, self.rng)
        self.guests = [Guest(f"guest {i}", handles[i], runs[i], random.Random(self.rng.random()),
                             self.model.images, self.sent)
                       for i in range(GUESTS)]
        self.model.begin(self.guests)
        for g in self.guests:
            g.start()
        try:
            yield
        finally:
            for g in self.guests:
                g.end(SOON)
        for g in self.guests:
            if g.error and not (g.gone and self.ending):
                raise g.error

    # ---- one instant ----

    def name(self, prefix):
        """A name that no bitmap and no view of this model has had."""
        return f"{prefix}-{next(self.model.numbers)}"

    def random_add(self, disk, mine):
        rng, name = self.rng, self.name("b")
        b = Bitmap(rng.choice(GRANULARITIES), rng.randrange(3) > 0, self.model.bitmaps.sizes[disk],
                   self.persists and rng.randrange(4) > 0)
        mine[name] = b
        data = {"node": disk, "name": name, "disabled": not b.recording,
                "granularity": b.granularity}
        if self.persists:
            data["persistent"] = b.persistent
        return ("block-dirty-bitmap-add", data), \
            lambda every: every[disk].update({name: b.blank()})

    def random_merge(self, disk, name, bitmaps):
        other, sizes = self.rng.choice(DISKS), self.model.bitmaps.sizes
        sources = sorted(n for n, b in bitmaps[other].items()
                         if not (b.busy or b.inconsistent) and (other, n) != (disk, name))
        if not sources or sizes[disk] != sizes[other]:
            return None
        source = self.rng.choice(sources)
        return ("block-dirty-bitmap-merge",
                {"node": disk, "target": name, "bitmaps": [{"node": other, "name": source}]}), \
            lambda every: every[disk][name].merge(every[other][source])

    def random_action(self, bitmaps):
        """A bitmap action that is valid after those before it, or None: ((type, data), f). f(every)
        does the action to Bitmaps; its effect on the set of names is noted in `bitmaps` at once."""
        rng = self.rng
        disk = rng.choice(DISKS)
        mine = bitmaps[disk]
        free = sorted(n for n, b in mine.items() if not b.busy)
        kind = rng.choice(("add", "add", "remove", "clear", "enable", "disable", "merge", "merge",
                           *(("set-persistence", "set-persistence") if self.persists else ())))
        if kind == "add" or not free:
            return self.random_add(disk, mine) if len(mine) < 5 else None
        name = rng.choice(free)
        if mine[name].inconsistent:
            kind = rng.choice(("remove", "clear"))
        if kind == "merge":
            return self.random_merge(disk, name, bitmaps)
        data, persistent = {"node": disk, "name": name}, rng.randrange(3) > 0
        if kind == "set-persistence":
            data["persistent"] = persistent
        if kind == "remove":
            mine.pop(name)
        return (f"block-dirty-bitmap-{kind}", data), {
            "remove": lambda every: every[disk].pop(name),
            "clear": lambda every: every[disk][name].clear(),
            "enable": lambda every: setattr(every[disk][name], "recording", True),
            "disable": lambda every: setattr(every[disk][name], "recording", False),
            "set-persistence": lambda every: setattr(every[disk][name], "persistent", persistent),
        }[kind]

    def plan(self):
        """Random actions, and views of both disks somewhere among them."""
        staged = {d: dict(self.model.bitmaps[d]) for d in DISKS}
        chosen = [self.random_action(staged) for _ in range(self.rng.randrange(6))]
        chosen = [c for c in chosen if c]
        names = {d: self.name(d) for d in DISKS}
        for disk in DISKS:
            chosen.insert(self.rng.randrange(len(chosen) + 1),
                          (("view-create", {"disk": disk, "name": names[disk]}), None))
        return chosen, names

    def refused(self, actions):
        """A transaction whose last action cannot be done does nothing at all."""
        bad = [("abort", {}, ""),
               ("block-dirty-bitmap-clear", {"node": "vda", "name": "nobody"}, "not found"),
               ("view-create", {"disk": "nodisk", "name": "never"}, "")]
        touched = {data.get("name") for _, data in actions}
        for disk, name, b in self.model.bitmaps.each():
            if b.inconsistent and name not in touched:
                kind = self.rng.choice(("enable", "disable"))
                bad.append((f"block-dirty-bitmap-{kind}", {"node": disk, "name": name},
                            "is inconsistent and cannot be used"))
        kind, data, why = self.rng.choice(bad)
        try:
            self.q.transaction(*actions, (kind, data))
        except QmpError as error:
            assert self.ending or why in error.desc, error
            return
        raise AssertionError(f"a transaction with {kind} {data} was done")

    def instant(self):
        """A transaction; returns the names of its views."""
        chosen, names = self.plan()
        actions = [action for action, _ in chosen]
        if self.rng.randrange(4) == 0:
            self.refused(actions)
        call = self.call(actions, [act for _, act in chosen if act])
        self.q.transaction(*actions)
        call.begun = self.model.begun()
        return names

    def call(self, what, acts):
        """A command that changes something is about to be sent."""
        self.model.call = Call(what, acts, self.model.answered())
        self.model.history.append(self.model.call)
        return self.model.call

    def settle(self, names):
        """Export the views, read them, and bring the model to their instant."""
        got = {}
        for disk, name in names.items():
            self.export(name, name, [])
            got[disk] = self.read(name)
            self.unexport(name)
        self.model.settle(got)
        return got

    def read(self, export):
        h = self.s.nbd(export)
        data = read_all(h)
        h.shutdown()
        return data

    def export(self, name, node, bitmaps):
        self.q.cmd("block-export-add", type="nbd", id=name, name=name, bitmaps=bitmaps,
                   **{"node-name": node})

    def unexport(self, name):
        self.q.cmd("block-export-del", id=name, mode="hard")
        self.q.wait_event("BLOCK_EXPORT_DELETED")

    def keep(self, disk, name, holds):
        """Keep a view exported, with some of the bitmaps that do not record."""
        still = sorted(n for n, b in self.model.bitmaps[disk].items()
                       if not (b.recording or b.busy or b.inconsistent))
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
        """QMP tells of bitmaps what the model has; their counts only if they do not record."""
        for node in self.q.cmd("query-named-block-nodes"):
            disk = node["node-name"]
            if disk not in DISKS:
                continue
            told = {b["name"]: b for b in node.get("dirty-bitmaps", [])}
            assert set(told) == set(self.model.bitmaps[disk]), (disk, told)
            for name, b in self.model.bitmaps[disk].items():
                assert told[name]["recording"] == b.records() and \
                    told[name]["granularity"] == b.granularity and \
                    told[name]["persistent"] == b.persistent and \
                    told[name].get("inconsistent", False) == b.inconsistent and \
                    told[name]["busy"] == b.busy, (disk, told[name])
                if not (b.recording or b.inconsistent):
                    assert told[name]["count"] == len(b.granules) * b.granularity, \
                        (disk, told[name], len(b.granules))

    def drop_view(self):
        view = self.views.pop(self.rng.randrange(len(self.views)))
        self.check_view(view)
        self.unexport(view.name)
        self.q.cmd("view-delete", name=view.name)
        self.mind_busy()

    def resize(self, disk, size):
        """The new part of a disk is dirty in every bitmap that records."""
        call = self.call(f"{disk} gets {size} bytes", [lambda every: every.resize(disk, size)])
        self.q.cmd("block_resize", size=size, **{"node-name": disk})
        call.begun = self.model.begun()
        self.model.resized(disk, size)

    def round(self):
        if self.grows and self.rng.randrange(8) == 0:
            disk = self.rng.choice(self.grows)
            self.resize(disk, self.model.bitmaps.sizes[disk] +
                        self.rng.randrange(1, 300) * SECTOR)
        for g in self.guests:
            g.wait_for(self.rng.randrange(12), SOON)
        names = self.instant()
        holds = self.settle(names)
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
