# SPDX-License-Identifier: BSD-3-Clause
"""The scenarios with a state folder, whose calls fail like all others. Their bitmaps are persistent.
After the end the server is started again, and once more after kill -9. No call fails then: each
bitmap is still there, and has all that was changed, or is inconsistent and says why."""

import os

from ending import EndRun
from fleece import SOON
from scenario import BLOCKS, Run, WRITE


class StateRun(Run):
    """Run with a state folder."""

    on_state_error = "keep-guest"
    durability = "power"
    # Each of b0, and b1 on both disks, has a file in the folder and one in memory. What failed at the
    # start may have been made up for since: a thread, and what it uses.
    spare_descriptors = Run.spare_descriptors + 6 + 1
    spare_threads = 1

    def __init__(self, folder, fault, *more):
        super().__init__(folder, fault, *more)
        self.may_lose = fault is not None and fault.is_visible
        self.comes_once = fault is not None and not fault.forever
        self.lost = set()  # (disk, name) of bitmaps that are inconsistent

    def options(self):
        return ("--state", os.path.join(self.folder, "state"), "--on-state-error",
                self.on_state_error, "--durability", self.durability, *super().options())

    def start(self):
        if super().start():
            return True
        # What a start leaves behind that has failed is no obstacle to the next one.
        self.control.disarm()
        self.server.start()
        self.server.stop()
        return False

    def good_bitmaps(self, disk):
        """Those that are not inconsistent. The others say why."""
        nodes = {n["node-name"]: n for n in self.ask("query-named-block-nodes")}
        found = {b["name"]: b for b in nodes[disk].get("dirty-bitmaps", [])}
        names = super().good_bitmaps(disk)
        for name in names:
            b = found[name]
            assert b["persistent"], b
            if b.get("inconsistent"):
                assert self.may_lose, b
                assert b["inconsistent-reason"] and "inconsistent" in self.server.log(), b
                self.lost.add((disk, name))
            else:
                assert (disk, name) not in self.lost, f"{b}: was inconsistent before"
        return [name for name in names if (disk, name) not in self.lost]

    def verify_views(self):
        super().verify_views()
        what = self.control.what()
        if self.comes_once and any(f" {folder}" in what for folder in self.folders()):
            # Guests and views do not notice it.
            assert not self.nbd_errors and not self.closed, f"{what}: {self.nbd_errors}"
            assert not any(v["broken"] for v in self.ask("query-views")), what

    def folders(self):
        """Where the files are that keep bitmaps."""
        return f"{self.folder}/state", "/dev/shm/nbdfleece-", "/var/tmp/nbdfleece-"

    def finish(self):
        super().finish()
        self.begin_again()
        for disk in self.images:
            c = self.client(disk)
            self.do(c, (WRITE, 40, 2, 0xc1)).close()
        self.server.kill()
        self.begin_again()
        self.server.stop()

    def begin_again(self):
        """Start it, and judge all disks. Nothing fails."""
        self.control.disarm()
        self.fault = None
        self.clients.clear()
        self.server.start()
        self.monitor()
        nodes = {n["node-name"]: n for n in self.ask("query-named-block-nodes")}
        for disk, image in self.images.items():
            if nodes[disk]["state-recovery"] != "exact":
                assert self.may_lose, nodes[disk]
                for b in image.bitmaps.values():
                    b.tried |= set(range(BLOCKS[disk]))
            self.verify_disk(disk)
        self.q.close()
        self.q = None


class BreakRun(StateRun):
    """A guest's write fails rather than that a bitmap becomes inconsistent."""

    on_state_error = "break-guest-write"

    def __init__(self, *args):
        super().__init__(*args)
        self.may_lose = False


class ProcessRun(StateRun):
    """Without a journal."""

    durability = "process"


class StateEndRun(StateRun, EndRun):
    """Run that fails at its end, with a state folder."""

    def wait(self):
        """An end that could not write the folder has failed, and says so."""
        self.server.process.wait(SOON)
        is_noted = "how it is left cannot be noted" not in self.server.log()
        assert is_noted or self.may_lose
        self.server.wait(0 if is_noted else 1)

    def finish(self):
        self.is_ending = False
        super().finish()
