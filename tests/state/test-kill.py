#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server is killed with -9 at random moments, while clients write and read views, transactions
change the bitmaps of three disks and make views, and disks grow and shrink. After each restart,
each bitmap is exactly what its writes made of it: each write that was acknowledged is in it, and
nothing that nobody has written; and the command that was under way has happened wholly or not at
all. Until the end, a view has no write that was sent after it was made, and does not change."""

import collections
import contextlib
import os
import random
import signal
import subprocess

import nbd

import qcow2_images as images
from fleece import SANITIZER, SOON, QmpError, Server, die_with_parent, fleecectl, tmpdir
from qmp_checks import once_gone
from recorded import Model, found_in
from tap import main, note, test
from writers import Clock, Trigger, ViewReader, Writer

from rig import KIB, MIB, dirty_context, dirty_extents, image, seed

# Bitmaps can be merged into those of a disk of the same size: vdb and vdc often have the same.
SIZES = {"vda": 24 * MIB, "vdb": 3 * MIB + 512, "vdc": 3 * MIB + 512}
GROWTH = 0, 512, 64 * KIB, 2 * MIB  # a disk is larger by one of these
GRANULARITIES = 512, 4 * KIB, 64 * KIB, 256 * KIB
PAUSES = "vdc"  # its writers leave for a while, so that it can shrink
LONG = bool(os.environ.get("FLEECE_LONG"))
ROUNDS = 400 if LONG else 30 if SANITIZER == "no" else 10


class Views:
    """Exported views of the disks, with bitmaps that do not record, and a reader of each."""

    def __init__(self, server, q, model, rng):
        self.server, self.q, self.model, self.rng = server, q, model, rng
        self.open, self.reads, self._number = {}, 0, 0  # name -> (disk, bitmaps, reader)

    def busy(self):
        return {(disk, b) for disk, bitmaps, _ in self.open.values() for b in bitmaps}

    def disks(self):
        return {disk for disk, _, _ in self.open.values()}

    def create(self, actions):
        """A view, at the instant of other actions."""
        self._number += 1
        name, disk = f"v{self._number}", self.rng.choice(("vda", "vda", "vdb", "vdb", PAUSES))
        actions.insert(self.rng.randrange(len(actions) + 1),
                       ("view-create", {"disk": disk, "name": name}))
        call = self.model.begin(actions)
        self.q.transaction(*actions)
        made = self.model.done(call)
        still = sorted(n for n, b in self.model.state.bitmaps[disk].items()
                       if not b.recording and (disk, n) not in self.model.busy)
        bitmaps = self.rng.sample(still, min(len(still), self.rng.randrange(3)))
        self.q.cmd("block-export-add", type="nbd", id=name, name=name,
                   bitmaps=[{"node": disk, "name": b} for b in bitmaps], **{"node-name": name})
        reader = ViewReader(self.server.uri(name), made, random.Random(self.rng.random()), bitmaps)
        self.open[name] = disk, bitmaps, reader
        self.model.busy = self.busy()
        reader.start()

    def _end(self, name):
        reader = self.open.pop(name)[2]
        reader.end()
        self.reads += reader.reads

    def delete(self):
        name = self.rng.choice(sorted(self.open))
        self._end(name)
        self.q.cmd("block-export-del", id=name, mode="hard")
        self.q.wait_event("BLOCK_EXPORT_DELETED")
        self.q.cmd("view-delete", name=name)
        self.model.busy = self.busy()

    def end_all(self):
        for name in sorted(self.open):
            self._end(name)


class Life:
    """A state folder and its disks, and one server after the other."""

    def __init__(self, folder, rng, *options, plugin="file"):
        self.folder, self.rng, self.options, self.plugin = folder, rng, options, plugin
        self.clock = Clock()
        self.model = Model(self.clock, SIZES, GRANULARITIES)
        self.writes, self.ending = [], False
        self.server, self.q, self.views, self.writers = None, None, None, {}
        self.trigger, self.signal = None, None
        self.counts = collections.Counter()
        for disk, size in SIZES.items():
            self.new_image(disk, size)

    def new_image(self, disk, size):
        """A qcow2 image of vda is over a file that has bytes, which are 0 as in all new disks."""
        path = f"{self.folder}/{disk}"
        if self.plugin == "file":
            image(path, size)
        elif disk == "vda":
            with open(path + ".base", "wb") as f:
                f.write(bytes(size))
            fleecectl("image", "create", path, "--backing", path + ".base", "--backing-format", "raw")
        else:
            fleecectl("image", "create", path, str(size), "--cluster-size", "4096")

    def new_server(self):
        disks = [word for d in SIZES for word in ("--disk", d, self.plugin, f"{self.folder}/{d}")]
        return Server("--state", f"{self.folder}/state", *self.options, *disks, dir=self.folder)

    def read(self, disk, offset, length):
        if self.plugin == "file":
            with open(f"{self.folder}/{disk}", "rb") as f:
                f.seek(offset)
                return f.read(length)
        h = self.server.nbd(disk)
        try:
            return h.pread(length, offset)
        finally:
            h.shutdown()

    def check_images(self):
        """No end may leave an error in a qcow2 image."""
        for disk in SIZES if self.plugin == "qcow2" else ():
            images.check(f"{self.folder}/{disk}", leaks=True)

    # ---- what a new server has found ----

    def look(self):
        """Judge it."""
        def dirty(disk, bitmap):
            h = self.server.nbd(disk, [dirty_context(bitmap)])
            pieces = dirty_extents(h, bitmap)
            h.shutdown()
            return pieces

        self.q = self.server.qmp()
        assert self.q.cmd("query-views") == []
        blocks = self.q.cmd("query-block")
        sizes = {b["device"]: b["inserted"]["image"]["virtual-size"] for b in blocks}
        found = found_in(blocks, dirty)
        assert set(found) == set(SIZES), found
        for disk, size in sizes.items():
            assert self.plugin != "file" or os.path.getsize(f"{self.folder}/{disk}") == size, disk
        self.model.check(found, sizes, self.writes, self.read, exact=True)
        self.writes = []
        self.counts["bitmaps"] += sum(map(len, found.values()))

    # ---- commands ----

    def lacks_views(self):
        return self.counts["reads"] == 0 and not self.views.open

    def change(self):
        """A random command or transaction on bitmaps."""
        actions = self.model.random_actions(self.rng)
        if not actions:
            return
        if len(self.views.open) < 3 and (self.lacks_views() or self.rng.randrange(4) == 0):
            self.views.create(actions)
            return
        call = self.model.begin(actions)
        if len(actions) == 1:
            self.q.cmd(actions[0][0], **actions[0][1])
        else:
            self.q.transaction(*actions)
        self.model.done(call)

    def resize(self):
        disk = self.rng.choice((*SIZES, PAUSES, PAUSES))
        data = {"node-name": disk, "size": SIZES[disk] + self.rng.choice(GROWTH)}
        shrinks = data["size"] < self.model.state.sizes[disk]
        if shrinks and self.plugin != "file":
            return
        if shrinks and disk in self.views.disks():
            return
        if shrinks and disk in self.writers:
            if disk != PAUSES:
                return
            self.stop_writing(disk)
        call = self.model.begin([("block-resize", data)])
        once_gone(lambda: self.q.cmd("block_resize", **data))
        self.model.done(call)
        self.counts["shrunk"] += shrinks
        if self.writers and disk not in self.writers:
            self.start_writing(disk)

    def command(self):
        self.counts["commands"] += 1
        if self.rng.randrange(6) == 0:
            self.resize()
        elif self.views.open and self.rng.randrange(6) == 0:
            self.views.delete()
        else:
            self.change()

    # ---- one server's life ----

    def start_writing(self, disk):
        self.writers[disk] = [Writer(self.clock, disk, self.server.uri(disk),
                                     random.Random(self.rng.random()), self.trigger,
                                     depth=2, most=2000)
                              for _ in range(2 if disk == "vda" else 1)]
        for writer in self.writers[disk]:
            writer.start()

    def stop_writing(self, disk):
        for writer in self.writers.pop(disk):
            writer.end()
            self.writes += writer.writes
            if writer.error:
                raise writer.error

    def work(self):
        """Write and command until the server is gone."""
        self.views = Views(self.server, self.q, self.model, self.rng)
        self.trigger = Trigger(None, self.end)
        try:
            while (not any(self.model.state.bitmaps.values()) or self.lacks_views()
                   or self.rng.randrange(3)):
                self.command()
            for disk in SIZES:
                self.start_writing(disk)
            for _ in range(self.rng.randrange(10)):
                self.command()
            self.trigger.pull(self.rng.randrange(1, 150))
            while True:
                self.command()
                writing = any(w.is_alive() for mine in self.writers.values() for w in mine)
                if not writing and not self.ending:
                    self.end()
        except (EOFError, ConnectionError, QmpError, nbd.Error):
            # A server that ends in order may refuse a command. Then it has not happened; but the
            # model need not know that.
            if not self.ending:
                raise
        finally:
            for disk in list(self.writers):
                self.stop_writing(disk)
            self.views.end_all()
        self.counts["writes"] += len(self.writes)
        self.counts["reads"] += self.views.reads

    def end(self):
        """End the server, while all others are at work: mostly by -9."""
        self.ending = True
        self.signal = signal.SIGTERM if self.rng.randrange(8) == 0 else signal.SIGKILL
        os.kill(self.server.pid, self.signal)

    def die_early(self):
        """A server that is killed while it starts."""
        server = self.new_server()
        starter = subprocess.Popen(server.command(), stdin=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            starter.wait(self.rng.random() / 20)  # a moment that nothing else chooses
        starter.kill()
        starter.wait()

    def next(self, last):
        """The next server: what it finds, and, if it is not the last one, what it does."""
        while self.rng.randrange(5) == 0:
            self.die_early()
        self.ending = False
        self.server = self.new_server().start()
        try:
            self.look()
            if last:
                return
            self.work()
            code = self.server.process.wait(SOON)
            assert code == (0 if self.signal == signal.SIGTERM else -signal.SIGKILL), code
        finally:
            self.server.kill()


def live(rounds, *options, plugin="file"):
    """So many servers, one after the other, on one folder."""
    rng = random.Random(seed())
    with tmpdir() as folder:
        life = Life(folder, rng, *options, plugin=plugin)
        for n in range(rounds + 1):
            try:
                life.next(last=n == rounds)
                life.check_images()
            except BaseException:
                note(f"round {n}:\n{life.server.log()}")
                raise
    counts = life.counts
    assert counts["bitmaps"] > 0
    note(f"{rounds} rounds: {counts['writes']} writes, {counts['commands']} commands, "
         f"{counts['reads']} reads of views, {counts['shrunk']} disks made smaller; "
         f"{counts['bitmaps']} bitmaps, 0 wrong")
    return counts


@test
def killed_with_power():
    assert live(ROUNDS)["reads"] > 0  # each server has a view, until one has been read


@test
def killed_over_qcow2_images():
    images.require_qemu()
    live(ROUNDS // 2, plugin="qcow2")


@test
def killed_with_process():
    live(ROUNDS // 3, "--durability", "process")


main()
