#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The model test over stops, kills and restarts: the rounds of test-model.py, on servers with a
state folder, one after the other. Each is stopped or killed at a random moment. The next one may
keep its bitmaps in another way (--durability), and before it starts somebody else may have written
to an image.

After each start, images hold each request that was answered, and persistent bitmaps are exactly
what the model has: no matter whether the server was stopped or killed, since the machine has not
lost its power. What was not answered has happened or not: commands wholly or not at all. Transient
bitmaps, views and exports are gone. If an image is not the one that the last server has left, its
bitmaps are inconsistent, until they are cleared."""

import collections
import os
import random
import time

import nbd

from expected import Found, Model
from fleece import SANITIZER, QmpError, tmpdir
from guests import SECTOR
from qmp_checks import once_gone
from rounds import DISKS, SIZE, Run
from state_rig import Stateful, write_behind
from tap import main, note, test
from writers import Trigger

from rig import content, dirty_context, dirty_extents, seed

LONG = bool(os.environ.get("FLEECE_LONG"))
LIVES = 300 if LONG else 20 if SANITIZER == "no" else 6
SIZES = SIZE - 700 * SECTOR, SIZE, SIZE + 64 * SECTOR  # bitmaps of disks of one size can be merged


class Lives:
    """Servers, one after the other, on one state folder."""

    def __init__(self, folder, rng, *plugins):
        self.rng, self.plugins = rng, dict(zip(DISKS, plugins))
        self.files = [d for d, plugin in self.plugins.items() if plugin == "file"]
        self.model = Model({d: bytearray(SIZE) for d in DISKS})
        self.s = Stateful(*[d if plugin == "file" else (d, plugin, str(SIZE))
                            for d, plugin in self.plugins.items()], size=SIZE, dir=folder)
        self.lost = set()  # disks whose images are not what the last server has left
        self.counts = collections.Counter()

    # ---- between two servers ----

    def between(self):
        """What images hold after the end of a server, and what is done to them before the next one
        starts."""
        self.model.died({d: content(self.s.image(d)) for d in self.files})
        self.lost = set(DISKS) - set(self.files)
        for disk in self.lost:
            self.model.images[disk] = bytearray(SIZE)
        if self.rng.randrange(5) == 0:
            self.write_behind(self.rng.choice(self.files))
        self.s.options = ["--durability", self.rng.choice(("power", "process"))]
        self.s.set_args()

    def write_behind(self, disk):
        image = self.model.images[disk]
        at = self.rng.randrange(len(image) // SECTOR) * SECTOR
        image[at:at + SECTOR] = self.rng.randbytes(SECTOR)
        write_behind(self.s.image(disk), at, image[at:at + SECTOR])
        # Somebody who writes within two ticks after the server is not noticed.
        now = time.time_ns()
        os.utime(self.s.image(disk), ns=(now, now + 10**9))
        self.lost.add(disk)
        self.counts["foreign writes"] += 1

    # ---- what a server has found ----

    def found(self, q):
        found = {}
        for block in q.cmd("query-block"):
            disk = block["device"]
            found[disk] = {b["name"]: self.found_bitmap(disk, b)
                           for b in block["inserted"].get("dirty-bitmaps", [])}
        assert set(found) == set(DISKS), found
        return found

    def found_bitmap(self, disk, b):
        granules = set()
        if not b.get("inconsistent"):
            h = self.s.nbd(disk, [dirty_context(b["name"])])
            for offset, length in dirty_extents(h, b["name"]):
                end = offset + length + b["granularity"] - 1
                granules.update(range(offset // b["granularity"], end // b["granularity"]))
            h.shutdown()
        self.counts["bitmaps"] += 1
        return Found(b["granularity"], b["recording"], b["persistent"],
                     b.get("inconsistent", False), b["busy"], granules)

    def look(self, run):
        assert run.q.cmd("query-views") == []
        assert {e["id"] for e in run.q.cmd("query-block-exports")} <= set(DISKS)
        for disk in DISKS:
            self.model.check_image(disk, run.read(disk))
        self.model.restarted(self.found(run.q), self.lost)
        run.check_bitmaps()

    # ---- one server ----

    def resize(self, run):
        """While no guest is connected, a disk can shrink, too."""
        disk, size = self.rng.choice(self.files), self.rng.choice(SIZES)
        once_gone(lambda: run.resize(disk, size))
        self.counts["resizes"] += 1
        run.check_bitmaps()

    def end(self):
        """End the server, while guests and a command are at work."""
        self.run.ending = True
        if self.rng.randrange(3):
            self.s.process.kill()
            self.code = -9
        else:
            self.s.process.terminate()
            self.code = 0

    def work(self, run, trigger):
        try:
            with run.writing():
                for _ in range(self.rng.randrange(6)):
                    run.round()
                trigger.pull(self.rng.randrange(1, 400))
                while True:
                    run.round()
        except (EOFError, ConnectionError, nbd.Error, QmpError) as error:
            if not run.ending:
                raise
            self.model.history.append(repr(error))
            call = self.model.call
            if isinstance(error, QmpError) and call and not call.is_answered():
                self.model.call = None  # it was refused: it has not happened

    def live(self, last):
        trigger = Trigger(None, self.end)
        run = self.run = Run(self.s, self.rng, self.model, self.files, True, trigger.sent)
        self.look(run)
        while self.rng.randrange(3) == 0:
            self.resize(run)
        if not last:
            self.work(run, trigger)
            self.counts["requests"] += sum(self.model.begun())
            self.s.wait(self.code)
            self.counts["killed" if self.code else "stopped"] += 1
            self.between()


def lives(*plugins):
    with tmpdir() as folder:
        servers = Lives(folder, random.Random(seed()), *plugins)
        for n in range(LIVES + 1):
            servers.s.start()
            with servers.s:
                servers.live(last=n == LIVES)
        note(", ".join(f"{count} {what}" for what, count in sorted(servers.counts.items())))


@test
def files():
    lives("file", "file")


@test
def one_is_forgotten():
    """An image that does not outlive its server never has good bitmaps after a restart."""
    lives("file", "memory")


main()
