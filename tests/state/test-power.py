#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The power of a machine is cut at random moments. In it the server runs with two disks, a block
device and a file, and bitmaps of both; clients write, and transactions change the bitmaps. The
machine's disks keep what was flushed, and of the rest some sectors at random (powerguest.py). After
each new boot:

- each block that differs from what the disk held when a bitmap was made or cleared is dirty in it,
  and so is each write that was acknowledged;
- each command that was acknowledged has happened, and the one that was under way has happened
  wholly or not at all;
- no bitmap is inconsistent, since nothing has failed, and nobody else has written."""

import contextlib
import os
import random
import threading

from fleece import SOON, tmpdir
from powerguest import Machinery, have_power_guest
from recorded import Model, found_in
from tap import main, note, test
from writers import Clock, Trigger, Writer

from rig import MIB, dirty_context, dirty_extents, seed

LONG = bool(os.environ.get("FLEECE_LONG"))
ROUNDS = 40 if LONG else 4
SIZES = {"raw": 1024 * MIB, "file": 64 * MIB}
PLUGIN = "/lib/nbdkit-file-plugin.so"


def connect(guest, disk, contexts=()):
    import nbd
    h = nbd.NBD()
    for context in contexts:
        h.add_meta_context(context)
    h.connect_uri(guest.uri(disk))
    return h


class Life:
    """The machine, and what must be on it."""

    def __init__(self, folder, rng):
        self.rng = rng
        self.clock = Clock()
        self.model = Model(self.clock, SIZES)
        self.writes, self.commands = [], 0
        self.q = None
        self.machine = Machinery(folder, rng, SIZES["raw"])

    def start(self, guest):
        guest.run("mkdir -p /dev/shm /state /files; mount -t tmpfs none /dev/shm; "
                  "mount -t ext4 /dev/vda /state; mount -t ext4 /dev/vdb /files")
        guest.run(f"[ -e /files/image ] || {{ truncate -s {SIZES['file']} /files/image; sync; }}")
        # What is written reaches the disk soon without a flush, or not before one.
        if self.rng.randrange(3) > 0:
            guest.run("for f in writeback expire; do echo 5 >/proc/sys/vm/dirty_${f}_centisecs; "
                      "done")
        return guest.serve("--state", "/state/state", "--disk", "raw", PLUGIN, "/dev/vdc",
                           "--disk", "file", PLUGIN, "/files/image")

    def die_early(self, guest):
        """The power is cut while the server starts."""
        timer = threading.Timer(self.rng.random(), guest.cut)  # a moment that nothing else chooses
        timer.start()
        with contextlib.suppress(EOFError):
            self.start(guest)
        timer.join()

    def look(self, guest):
        """Judge what is there after a boot; returns (dirty bytes, bytes that writes have
        touched)."""
        self.q = guest.qmp()

        def dirty(disk, bitmap):
            h = connect(guest, disk, [dirty_context(bitmap)])
            pieces = dirty_extents(h, bitmap)
            h.shutdown()
            return pieces

        def read(disk, offset, length):
            return handles[disk].pread(length, offset)

        blocks = self.q.cmd("query-block")
        sizes = {b["device"]: b["inserted"]["image"]["virtual-size"] for b in blocks}
        handles = {disk: connect(guest, disk) for disk in SIZES}
        sums = self.model.check(found_in(blocks, dirty), sizes, self.writes, read, exact=False)
        for h in handles.values():
            h.shutdown()
        self.writes = []
        return sums

    def command(self):
        size = self.model.state.sizes["file"]
        if self.rng.randrange(10) == 0 and size < SIZES["file"] + 16 * MIB:
            data = {"node-name": "file", "size": size + self.rng.choice((512, MIB))}
            call = self.model.begin([("block-resize", data)])
            self.q.cmd("block_resize", **data)
        else:
            actions = self.model.random_actions(self.rng)
            if not actions:
                return
            call = self.model.begin(actions)
            self.q.transaction(*actions)
        self.model.done(call)
        self.commands += 1

    def hot(self, disk):
        """Some parts of a disk."""
        parts = []
        for _ in range(3):
            begin = self.rng.randrange(0, SIZES[disk] - MIB, 4096)
            parts.append((begin, begin + self.rng.choice((16384, MIB))))
        return parts

    def work(self, guest):
        trigger = Trigger(self.rng.randrange(100, 1500), guest.cut)
        with contextlib.ExitStack() as stack:
            writers = []
            try:
                # A command is durable also where no write has come yet.
                self.command()
                writers = [Writer(self.clock, disk, guest.uri(disk),
                                  random.Random(self.rng.random()), trigger, hot=self.hot(disk))
                           for disk in ("raw", "raw", "file")]
                for writer in writers:
                    stack.enter_context(writer)
                while True:
                    self.command()
            except (EOFError, ConnectionError):
                pass
            for writer in writers:
                writer.join(SOON)
                assert not writer.is_alive(), "a writer is stuck"
        for writer in writers:
            self.writes += writer.writes


@test
def power_cuts():
    have_power_guest()
    rng = random.Random(seed())
    dirty = written = writes = 0
    with tmpdir() as folder:
        life = Life(folder, rng)
        for n in range(ROUNDS + 1):
            if n > 0 and rng.randrange(6) == 0:
                with life.machine.boot() as guest:
                    life.die_early(guest)
            with life.machine.boot() as guest:
                log = life.start(guest)
                note(f"boot {n + 1}: {log.strip()}")
                sums = life.look(guest)
                dirty, written = dirty + sums[0], written + sums[1]
                if n < ROUNDS:
                    life.work(guest)
                    writes += len(life.writes)
    note(f"{ROUNDS} power cuts, {writes} writes, {life.commands} transactions, 0 wrong; "
         f"{dirty} bytes dirty, {written} touched by writes"
         + (f": {dirty / written:.2f} times as many" if written else ""))


main()
