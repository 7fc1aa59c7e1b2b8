#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The memory of a persistent bitmap: the pages in which bits were set, and nothing that grows with
the disk. That is so when it was just added, when a client has read all of it, and after each kind of
start."""

from fleece import SANITIZER, Server, process_status
from state_rig import Stateful
from tap import main, note, skip, test

import memory_folder
from rig import GIB, KIB, MIB

TIB = 1 << 40
SMALL, LARGE = GIB, 15 * TIB  # ext4 has files of less than 16 TiB; the bits of LARGE are 30 MiB
TOUCHED = 8
# Page tables, and what the kernel maps around a page that was asked for.
SLACK = 2 * MIB


class Measured(Stateful):
    """A server, and what memory it uses at each stage: its own, the most it has had, and what it has
    in files in memory."""

    def __init__(self, size):
        super().__init__("vda", size=size)
        self.size, self.stages = size, {}

    def stage(self, name):
        status = process_status(self.pid)
        self.stages[name] = {
            "resident": int(status["VmRSS"].split()[0]) * KIB,
            "most": int(status["VmHWM"].split()[0]) * KIB,
            "in files": memory_folder.allocated(self.memory)}

    def lose_power(self):
        """The image is older than the next boot, so it is ours."""
        self.kill()
        memory_folder.forget(self.memory)

    def measure(self):
        self.stop()
        self.memory = memory_folder.path_of(self.state)
        self.start()
        self.stage("before")
        with self.qmp() as q:
            q.cmd("block-dirty-bitmap-add", node="vda", name="b")
        for n in range(TOUCHED):
            self.write("vda", n * (self.size // TOUCHED), 512)
        self.stage("touched")
        for name, end in (None, None), ("stopped", Server.stop), ("killed", Server.kill), (
                "power lost", Measured.lose_power):
            if end:
                self.again(end)
                self.stage(name)
            dirty = self.dirty("vda", "b")
            assert len(dirty) >= TOUCHED, dirty
            self.stage(f"{name or 'touched'}, read")
        return self.stages


@test
def nothing_grows_with_the_disk():
    if SANITIZER != "no":
        skip("a sanitizer's own memory would be measured")
    with Measured(SMALL) as small:
        few = small.measure()
    with Measured(LARGE) as large:
        many = large.measure()
    wrong = []
    for name in many:
        more = {what: many[name][what] - few[name][what] for what in many[name]}
        text = ", ".join(f"{what} {many[name][what] // KIB} KiB ({more[what] // KIB:+})"
                         for what in more)
        note(f"{name}: {text}")
        if max(more.values()) > SLACK or more["in files"] > SLACK // 8:
            wrong.append(name)
    assert not wrong, f"a disk of 15 TiB takes more than one of 1 GiB: {', '.join(wrong)}"


main()
