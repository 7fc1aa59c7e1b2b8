# SPDX-License-Identifier: BSD-3-Clause
"""Servers with a state folder that are stopped, killed and started again.

    with Stateful("vda", "vdb") as s:      # two files of 1 MiB
        s.add("vda", "b")
        s.write("vda", 65536, 512)
        s.again(Server.kill)
        assert s.dirty("vda", "b") == [(65536, 65536)]
"""

import os

from fleece import Server
from qmp_checks import bitmaps
from rig import dirty_extents

MIB = 1 << 20
ENDS = Server.stop, Server.kill


class Stateful(Server):
    """A Server with --state DIR and disks. A disk is a name: then it is a file of `size` bytes; or a list
    of words, such as ["vdb", "memory", "1M"]. `options` come before the disks."""

    def __init__(self, *disks, options=(), size=MIB, **kwargs):
        super().__init__(**kwargs)
        self.state = self.path("state")
        self.options = list(options)
        self.disks = [[d, "file", self.image(d)] if isinstance(d, str) else list(d) for d in disks]
        for disk in self.disks:
            if disk[1] == "file" and not os.path.exists(self.image(disk[0])):
                with open(self.image(disk[0]), "wb") as f:
                    f.truncate(size)
        self.set_args()

    def set_args(self):
        """After a change of `options` or `disks`."""
        self.args = ["--state", self.state, *self.options]
        for disk in self.disks:
            self.args += ["--disk", *disk]

    def image(self, disk):
        return self.path(f"{disk}.raw")

    def again(self, end=Server.stop):
        """End it, and start it again."""
        end(self)
        self.set_args()
        self.start()
        return self

    def fails_to_start(self):
        """What it says."""
        before = len(self.log())
        try:
            self.start()
        except RuntimeError:
            return self.log()[before:]
        raise AssertionError("the server has started")

    def add(self, disk, name, **arguments):
        """Add a bitmap."""
        with self.qmp() as q:
            q.cmd("block-dirty-bitmap-add", node=disk, name=name, **arguments)

    def write(self, disk, offset, length, byte=b"x"):
        """As a guest."""
        h = self.nbd(disk)
        h.pwrite(byte * length, offset)
        h.shutdown()

    def dirty(self, disk, bitmap):
        """[(offset, length)] as NBD clients see it."""
        h = self.nbd(disk, contexts=[f"qemu:dirty-bitmap:{bitmap}"])
        try:
            return dirty_extents(h, bitmap)
        finally:
            h.shutdown()

    def bitmap(self, disk, name):
        """As QMP shows it; None: it is not there."""
        with self.qmp() as q:
            return bitmaps(q, disk).get(name)

    def recovery(self, disk):
        with self.qmp() as q:
            return {n["node-name"]: n for n in q.cmd("query-named-block-nodes")}[disk]["state-recovery"]

    def reason(self, disk, name):
        """Why a bitmap, which must be inconsistent, is."""
        b = self.bitmap(disk, name)
        assert b["inconsistent"] and not b["recording"], b
        return b["inconsistent-reason"]


def write_behind(path, offset, data):
    """Write to an image as somebody who is not the server."""
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def wait_clock(path):
    """Return when the file system's clock has left the mtime of a file so far behind that a write of
    somebody else cannot be taken for one that the server had under way. No event tells of time: files
    are written until one is late enough."""
    other = path + ".clock"
    since = os.stat(path).st_mtime_ns
    while True:
        with open(other, "w") as f:
            f.write("x")
        if os.stat(other).st_mtime_ns > since + 200_000_000:
            os.unlink(other)
            return
