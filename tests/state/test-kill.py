#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server is killed with -9 at random moments, while clients write and transactions change the
bitmaps of two disks. After each restart, each bitmap is exactly what its writes made of it: each
write that was acknowledged is in it, and nothing that nobody has written; and the command that was
under way has happened wholly or not at all."""

import contextlib
import os
import random
import signal
import subprocess

from fleece import SANITIZER, SOON, QmpError, Server, die_with_parent, tmpdir
from tap import main, note, test
from writers import Clock, Model, Trigger, Writer, found_in

from rig import MIB, dirty_context, dirty_extents, image, seed

SIZES = {"vda": 24 * MIB, "vdb": 3 * MIB + 512}
LONG = bool(os.environ.get("FLEECE_LONG"))
ROUNDS = 400 if LONG else 30 if SANITIZER == "no" else 10


class Life:
    """A state folder and its disks, and one server after the other."""

    def __init__(self, folder, rng, *options):
        self.folder, self.rng, self.options = folder, rng, options
        self.clock = Clock()
        self.model = Model(self.clock, SIZES)
        self.writes, self.ending = [], False
        for disk, size in SIZES.items():
            image(f"{folder}/{disk}", size)

    def server(self):
        disks = [word for d in SIZES for word in ("--disk", d, "file", f"{self.folder}/{d}")]
        return Server("--state", f"{self.folder}/state", *self.options, *disks, dir=self.folder)

    def read(self, disk, offset, length):
        with open(f"{self.folder}/{disk}", "rb") as f:
            f.seek(offset)
            return f.read(length)

    def look(self, server, exact=True):
        """Judge what a new server has found."""
        def dirty(disk, bitmap):
            h = server.nbd(disk, [dirty_context(bitmap)])
            pieces = dirty_extents(h, bitmap)
            h.shutdown()
            return pieces

        blocks = server.qmp().cmd("query-block")
        sizes = {b["device"]: b["inserted"]["image"]["virtual-size"] for b in blocks}
        found = found_in(blocks, dirty)
        assert set(found) == set(SIZES), found
        self.model.check(found, sizes, self.writes, self.read, exact)
        self.writes = []
        return sum(map(len, found.values()))

    def command(self, q):
        """One random command or transaction."""
        disk = self.rng.choice(sorted(SIZES))
        size = self.model.state.sizes[disk]
        if self.rng.randrange(12) == 0 and size < SIZES[disk] + 8 * MIB:
            data = {"node-name": disk, "size": size + self.rng.choice((512, 65536, MIB))}
            call = self.model.begin([("block-resize", data)])
            q.cmd("block_resize", **data)
        else:
            actions = self.model.random_actions(self.rng)
            if not actions:
                return
            call = self.model.begin(actions)
            if len(actions) == 1:
                q.cmd(actions[0][0], **actions[0][1])
            else:
                q.transaction(*actions)
        self.model.done(call)

    def work(self, server, trigger):
        """Write and command until the server is gone."""
        q = server.qmp()
        while not any(self.model.state.bitmaps.values()):
            self.command(q)
        with contextlib.ExitStack() as stack:
            writers = [Writer(self.clock, disk, server.uri(disk),
                              random.Random(self.rng.random()), trigger)
                       for disk in ("vda", "vda", "vdb")]
            for writer in writers:
                stack.enter_context(writer)
            try:
                while True:
                    self.command(q)
            except (EOFError, ConnectionError):
                pass
            except QmpError:
                # A server that ends in order may refuse a command. Then it has not happened; but the
                # model need not know that.
                assert self.ending
            finally:
                for writer in writers:
                    writer.end()
        for writer in writers:
            self.writes += writer.writes


    def end(self, server):
        """End a server, while all writers are at work: mostly by -9."""
        self.ending = True
        orderly = self.rng.randrange(8) == 0
        os.kill(server.pid, signal.SIGTERM if orderly else signal.SIGKILL)

    def die_early(self):
        """A server that is killed while it starts."""
        server = self.server()
        starter = subprocess.Popen(server.command(), stdin=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            starter.wait(self.rng.random() / 20)  # a moment that nothing else chooses
        starter.kill()
        starter.wait()


def live(rounds, *options):
    """So many servers, one after the other, on one folder."""
    rng = random.Random(seed())
    bitmaps = writes = 0
    with tmpdir() as folder:
        life = Life(folder, rng, *options)
        for n in range(rounds + 1):
            while rng.randrange(5) == 0:
                life.die_early()
            server = life.server().start()
            try:
                bitmaps += life.look(server)
                if n == rounds:
                    break
                life.ending = False
                life.work(server, Trigger(rng.randrange(1, 600), lambda: life.end(server)))
                writes += len(life.writes)
                server.process.wait(SOON)
            except BaseException:
                note(f"round {n}:\n{server.log()}")
                raise
            finally:
                server.kill()
    assert bitmaps > 0
    note(f"{rounds} rounds, {writes} writes, {bitmaps} bitmaps, 0 wrong")


@test
def killed_with_power():
    live(ROUNDS)


@test
def killed_with_process():
    live(ROUNDS // 3, "--durability", "process")


main()
