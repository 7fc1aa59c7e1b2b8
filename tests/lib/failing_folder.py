# SPDX-License-Identifier: BSD-3-Clause
"""A server whose state folder fails, and a guest that knows what it has written: a file system of its
own for the folder, and calls on its files that fail or hang.

    with rig(fault=True) as (r, _, fault):
        fault.set(SYNC, errno.EIO)
        r.write_until_inconsistent()
        assert r.restart().get("inconsistent")
"""

import contextlib
import errno
import glob
import mmap
import os
import re
import shutil
import struct
import threading
import time

import nbd

from fleece import BUILD, SANITIZER, SOON, QmpError, Server, require_program, run, tmpdir
from tap import note, skip

from rig import KIB, MIB, dirty_context, dirty_extents, granules, image

FAULTS = f"{BUILD}/tests/state/.libs/folder-faults.so"
SYNC, WRITE, OPEN, SPACE, NAMES, READ = 1, 2, 4, 8, 16, 32
ALL = SYNC | WRITE | OPEN | SPACE | NAMES | READ
REGION = 4 * MIB
SIZE = 64 * REGION
GRANULE = 64 * KIB
# A write waits at most 5 seconds for the folder; the rest is for a busy machine.
PATIENCE = 30
BLOCK = b"x" * 4096


def need_root():
    if os.geteuid() != 0:
        skip("only root can mount")
    for program in "mount", "umount":
        require_program(program)


class FileSystem:
    """A file system of its own at `path`: ext4 in a file, or tmpfs."""

    def __init__(self, folder, kind="ext4", size=64 * MIB):
        need_root()
        self.path, self.kind, self.size = f"{folder}/mnt", kind, size
        self.backing = f"{folder}/backing"
        os.mkdir(self.path)
        if kind == "ext4":
            os.environ["PATH"] += os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
            image(self.backing, 0)
            os.truncate(self.backing, size)
            run(require_program("mke2fs"), "-q", "-F", "-t", "ext4", "-m", "0", self.backing)
        self.mount()

    def mount(self):
        what = (["-o", "loop", self.backing] if self.kind == "ext4" else
                ["-t", "tmpfs", "-o", f"size={self.size}", "none"])
        done = run("mount", *what, self.path, check=False)
        if done.returncode != 0:
            skip(f"nothing can be mounted here: {done.stderr.strip()}")

    def unmount(self, *options):
        run("umount", *options, self.path)

    def abort(self):
        """As after an I/O error in its journal: read-only from now on."""
        done = run("mount", "-o", "remount,abort", self.path, check=False)
        note(f"remount,abort: {done.returncode} {done.stderr.strip()}")

    def fill(self):
        with open(f"{self.path}/ballast", "wb", buffering=0) as f:
            length = MIB
            while length:
                try:
                    f.write(bytes(length))
                except OSError as e:
                    assert e.errno == errno.ENOSPC, e
                    length //= 2

    def __enter__(self):
        return self

    def __exit__(self, *_):
        run("umount", "-l", self.path, check=False)


class Fault:
    """Calls on the files of a folder that fail: folder-faults.c."""

    def __init__(self, folder, state):
        if SANITIZER != "no":
            skip("a sanitizer's runtime has to be loaded first")
        if not os.path.exists(FAULTS):
            skip("folder-faults.so is not built")
        self.control = f"{folder}/control"
        image(self.control, 4096)
        with open(self.control, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), 4096)
        self._hang, self._release = os.pipe()
        self.popen = {"pass_fds": [self._hang], "env": {
            "LD_PRELOAD": FAULTS, "FLEECE_FAULTS_FOLDER": os.path.realpath(state),
            "FLEECE_FAULTS_CONTROL": self.control, "FLEECE_FAULTS_HANG": str(self._hang)}}

    def set(self, kinds, error=0):
        """error 0: calls hang until release()."""
        self._map[4:8] = struct.pack("=i", error)
        self._map[0:4] = struct.pack("=I", kinds)

    def hits(self):
        return struct.unpack("=I", self._map[8:12])[0]

    def release(self):
        """Let calls that hang go on; none fails or hangs from now on."""
        self.set(0)
        if self._release is not None:
            os.close(self._release)
            self._release = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()
        os.close(self._hang)


class Guest:
    """Writes a block at a time, each into a region of its own, and knows where it wrote."""

    def __init__(self, server):
        self.h = server.nbd("vda")
        self.written = set()
        self.slowest = 0.0
        self._region = 0

    def write(self):
        """Returns 0 or an errno."""
        offset = self._region * REGION + 8 * GRANULE
        self._region = (self._region + 1) % (SIZE // REGION)
        start = time.monotonic()
        try:
            self.h.pwrite(BLOCK, offset)
        except nbd.Error as e:
            return e.errnum
        finally:
            self.slowest = max(self.slowest, time.monotonic() - start)
        self.written.add(offset // GRANULE)
        return 0


class Rig:
    """A server whose state folder is `state`, with a disk `vda`, a persistent bitmap `b` and a
    transient one `t`."""

    def __init__(self, folder, state, *options, **popen):
        self.folder, self.state, self.options, self.popen = folder, state, options, popen
        if not os.path.exists(f"{folder}/vda"):
            image(f"{folder}/vda", 0)
            os.truncate(f"{folder}/vda", SIZE)
        self.server = None
        self.memory = None  # the folder in memory

    def start(self):
        self.server = Server("--state", self.state, *self.options, "--disk", "vda", "file",
                             f"{self.folder}/vda", dir=self.folder, **self.popen).start()
        self.memory = os.path.dirname(self.mapped("/live"))
        return self.server

    def forget(self):
        """As a restart of the machine does. No server runs."""
        shutil.rmtree(self.memory)

    def begin(self):
        """The first start: both bitmaps are added, and the guest has written."""
        self.start()
        self.q = self.server.qmp()
        for name, persistent in ("b", True), ("t", False):
            self.q.cmd("block-dirty-bitmap-add", node="vda", name=name, granularity=GRANULE,
                       persistent=persistent)
        self.guest = Guest(self.server)
        for _ in range(3):
            assert self.guest.write() == 0
        return self

    def bitmaps(self):
        blocks = self.server.qmp().cmd("query-block")
        return {b["name"]: b for b in blocks[0]["inserted"].get("dirty-bitmaps", [])}

    def dirty(self, name):
        h = self.server.nbd("vda", [dirty_context(name)])
        found = set(granules(dirty_extents(h, name), GRANULE))
        h.shutdown()
        return found

    def write_until_inconsistent(self):
        """The guest writes, successfully, until the event has come; then some more. A monitor of
        its own answers each time, also while a write waits."""
        other, ended = self.server.qmp(), threading.Event()
        longest = [0.0]

        def ask():
            while not ended.is_set():
                start = time.monotonic()
                other.cmd("query-block")
                longest[0] = max(longest[0], time.monotonic() - start)

        asker = threading.Thread(target=ask)
        asker.start()
        try:
            deadline = time.monotonic() + SOON
            event = None
            while not event:
                assert time.monotonic() < deadline, "no bitmap became inconsistent"
                assert self.guest.write() == 0
                event = self.event()
            for _ in range(5):
                assert self.guest.write() == 0
        finally:
            ended.set()
            asker.join(SOON)
        assert self.guest.slowest < PATIENCE, self.guest.slowest
        assert longest[0] < PATIENCE, longest
        note(f"{event['data']}; slowest write {self.guest.slowest:.1f} s, "
             f"slowest reply to a command {longest[0]:.1f} s")
        assert event["data"]["node"] == "vda" and event["data"]["name"] == "b", event
        assert event["data"]["reason"], event
        self.check_inconsistent()
        assert self.dirty("t") == self.guest.written
        self.refused()

    def event(self):
        events = [e for e in self.q.events() if e["event"] == "BITMAP_INCONSISTENT"]
        assert len(events) <= 1, events
        return events[0] if events else None

    def check_inconsistent(self):
        b = self.bitmaps()["b"]
        assert b["inconsistent"] and b["inconsistent-reason"], b
        assert "inconsistent" in self.server.log(), self.server.log()

    def refused(self):
        try:
            self.q.cmd("block-dirty-bitmap-enable", node="vda", name="b")
        except QmpError as e:
            assert e.desc.startswith("Bitmap 'b' is inconsistent and cannot be used"), e
        else:
            raise AssertionError("an inconsistent bitmap was enabled")

    def restart(self):
        """Start again, on a folder that works, and judge."""
        self.server.kill()
        self.start()
        return self.judge()

    def judge(self):
        """No bitmap may be clean where the guest has written. Returns b."""
        found = self.bitmaps()
        assert set(found) == {"b"}, found
        b = found["b"]
        if b.get("inconsistent"):
            note(f"after a restart: {b['inconsistent-reason']}")
        else:
            missing = self.guest.written - self.dirty("b")
            assert not missing, f"changed, but clean: {missing}"
        return b

    def mapped(self, name):
        """The path of the file that the server has mapped and whose path ends so."""
        with open(f"/proc/{self.server.pid}/maps") as f:
            paths = {line.split(maxsplit=5)[-1].rstrip("\n") for line in f}
        found = [p for p in paths if re.search(name + "$", p)]
        assert len(found) == 1, (name, paths)
        return found[0]

    def widened(self):
        """How many clean granules are dirty, all of them within the regions that were written."""
        more = self.dirty("b") - self.guest.written
        regions = {g * GRANULE // REGION for g in self.guest.written}
        assert all(g * GRANULE // REGION in regions for g in more), more
        return len(more)

    def end(self):
        if self.server:
            self.server.kill()
        if self.memory and self.memory.startswith("/dev/shm/nbdfleece-"):
            shutil.rmtree(self.memory, ignore_errors=True)


@contextlib.contextmanager
def rig(*options, kind=None, fault=False):
    """(Rig, FileSystem or None, Fault or None), all begun."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tmpdir())
        system = stack.enter_context(FileSystem(folder, kind)) if kind else None
        state = f"{system.path if system else folder}/state"
        made = stack.enter_context(Fault(folder, state)) if fault else None
        r = Rig(folder, state, *options, **(made.popen if made else {}))
        stack.callback(r.end)
        if made:
            stack.callback(made.release)  # before the server ends
        try:
            r.begin()
            yield r, system, made
        except BaseException:
            if r.server:
                note(r.server.log())
            raise


def one(r, pattern):
    """The only file of that name in the state folder."""
    return only(glob.glob(f"{r.state}/{pattern}"))


def kept(r, pattern):
    """The only file of that name in memory."""
    return only(glob.glob(f"{r.memory}/{pattern}"))


def only(files):
    assert len(files) == 1, files
    return files[0]
