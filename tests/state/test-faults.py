#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The state folder fails while the server serves. Guests' writes succeed within a bounded time, QMP
answers meanwhile, the persistent bitmaps become inconsistent, an event says so with a reason, and a
transient bitmap goes on. With `--on-state-error break-guest-write` the write fails instead, and
the bitmap stays good. After a restart no bitmap is clean where the disk has changed."""

import contextlib
import errno
import glob
import mmap
import os
import shutil
import struct
import threading
import time

import nbd

from fleece import BUILD, SANITIZER, SOON, QmpError, Server, require_program, run, tmpdir
from tap import main, note, skip, test

from rig import KIB, MIB, dirty_context, dirty_extents, image

FAULTS = f"{BUILD}/tests/state/.libs/folder-faults.so"
SYNC, WRITE, OPEN, SPACE, NAMES = 1, 2, 4, 8, 16
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

    def start(self):
        self.server = Server("--state", self.state, *self.options, "--disk", "vda", "file",
                             f"{self.folder}/vda", dir=self.folder, **self.popen).start()
        return self.server

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

    def memory(self):
        """Where the server has its bits in memory."""
        with open(f"/proc/{self.server.process.pid}/maps") as f:
            names = {os.path.dirname(m.split()[-1]) for m in f if "/dev/shm/nbdfleece-" in m}
        names -= {n for n in names if n.endswith("/bits")}
        assert len(names) == 1, names
        return names.pop()

    def bitmaps(self):
        blocks = self.server.qmp().cmd("query-block")
        return {b["name"]: b for b in blocks[0]["inserted"].get("dirty-bitmaps", [])}

    def dirty(self, name):
        h = self.server.nbd("vda", [dirty_context(name)])
        found = {g for o, n in dirty_extents(h, name)
                 for g in range(o // GRANULE, (o + n) // GRANULE)}
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

    def kill(self):
        if self.server:
            self.server.kill()


@contextlib.contextmanager
def rig(*options, kind=None, fault=False):
    """(Rig, FileSystem or None, Fault or None), all begun."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tmpdir())
        system = stack.enter_context(FileSystem(folder, kind)) if kind else None
        state = f"{system.path if system else folder}/state"
        made = stack.enter_context(Fault(folder, state)) if fault else None
        r = Rig(folder, state, *options, **(made.popen if made else {}))
        stack.callback(r.kill)
        if made:
            stack.callback(made.release)  # before the server ends
        try:
            r.begin()
            yield r, system, made
        except BaseException:
            if r.server:
                note(r.server.log())
            raise


def folder_fails(kinds, error):
    with rig(fault=True) as (r, _, fault):
        fault.set(kinds, error)
        r.write_until_inconsistent()
        assert fault.hits() > 0
        fault.set(0)
        b = r.restart()
        assert b.get("inconsistent"), b
        # It begins anew when it is cleared.
        r.server.qmp().cmd("block-dirty-bitmap-clear", node="vda", name="b")
        r.guest = Guest(r.server)
        assert r.guest.write() == 0
        assert r.dirty("b") == r.guest.written
        b = r.restart()
        assert not b.get("inconsistent"), b
        r.server.stop()


@test
def an_fsync_that_fails():
    folder_fails(SYNC, errno.EIO)


@test
def a_write_that_fails():
    folder_fails(SYNC | WRITE, errno.EIO)


@test
def everything_fails():
    folder_fails(SYNC | WRITE | OPEN | SPACE | NAMES, errno.EIO)


@test
def nothing_comes_back():
    """The folder hangs, as NFS does. The end of the server is bounded, too."""
    with rig("--stop-timeout", "5", fault=True) as (r, _, fault):
        fault.set(SYNC | WRITE | OPEN | SPACE | NAMES)
        r.write_until_inconsistent()
        r.guest.h.shutdown()
        start = time.monotonic()
        r.server.process.terminate()
        r.server.process.wait(SOON)
        note(f"the end took {time.monotonic() - start:.1f} s")
        fault.release()
        assert r.restart().get("inconsistent")


@test
def a_command_while_nothing_comes_back():
    """A command that has to be durable waits; other monitors, and guests, do not."""
    with rig(fault=True) as (r, _, fault):
        fault.set(SYNC | WRITE | OPEN | SPACE | NAMES)
        waits = r.server.qmp()
        waits.write({"execute": "block-dirty-bitmap-add", "id": 1,
                     "arguments": {"node": "vda", "name": "c", "persistent": True}})
        assert r.server.qmp().cmd("query-version")
        assert r.guest.write() == 0
        assert r.guest.slowest < PATIENCE, r.guest.slowest
        fault.release()
        waits.socket.settimeout(SOON)
        reply = waits.reply(1)
        note(str(reply))


@test
def break_guest_write():
    with rig("--on-state-error", "break-guest-write", fault=True) as (r, _, fault):
        fault.set(SYNC | WRITE, errno.EIO)
        assert r.guest.write() == errno.EIO
        b = r.bitmaps()["b"]
        assert not b.get("inconsistent"), b
        assert r.event() is None
        # The folder works again, and so do writes, without a restart.
        fault.set(0)
        deadline = time.monotonic() + SOON
        while error := r.guest.write():
            assert error == errno.EIO and time.monotonic() < deadline, error
        assert r.guest.written <= r.dirty("b")
        b = r.restart()
        assert not b.get("inconsistent"), b


@test
def killed_while_the_first_write_waits():
    """Nobody has changed the image then, and the bitmap says so."""
    with rig(fault=True) as (r, _, fault):
        r.guest.h.shutdown()
        r.server.stop()
        fault.set(0)
        r.start()
        fault.set(SYNC)
        waiting = r.server.nbd("vda")
        waiting.aio_pwrite(BLOCK, 0)
        while not fault.hits():
            waiting.poll(10)
        r.server.kill()
        fault.set(0)
        b = r.restart()
        assert not b.get("inconsistent"), b
        assert r.dirty("b") == r.guest.written


@test
def a_catalogue_that_is_damaged():
    """Without it nobody knows which bitmaps there were: the server does not start as if there had
    been none."""
    damage = {"gone": os.unlink, "empty": lambda path: os.truncate(path, 0),
              "cut": lambda path: os.truncate(path, 4096), "flipped": lambda path: flip(path, 3)}
    for what, harm in damage.items():
        with rig() as (r, _, _):
            r.guest.h.shutdown()
            r.server.stop()
            for other in glob.glob(f"{r.state}/catalogue.db-*"):
                os.unlink(other)
            harm(f"{r.state}/catalogue.db")
            refused = run(*r.server.command(), check=False)
            note(f"{what}: {refused.stderr.strip()}")
            assert refused.returncode == 1 and "catalogue" in refused.stderr, (what, refused)


@test
def a_full_disk():
    """All that a bitmap needs was reserved before, so nothing happens to those that there are."""
    with rig(kind="ext4") as (r, system, _):
        system.fill()
        for _ in range(SIZE // REGION):
            assert r.guest.write() == 0
        assert not r.bitmaps()["b"].get("inconsistent")
        before = r.bitmaps()
        try:
            r.q.cmd("block-dirty-bitmap-add", node="vda", name="c", granularity=512,
                    persistent=True)
        except QmpError as e:
            note(str(e))
            assert "space" in e.desc, e
        else:
            raise AssertionError("a bitmap was added on a full disk")
        assert r.bitmaps() == before
        assert r.guest.write() == 0
        # A start has to write, and says why it cannot.
        r.server.kill()
        refused = run(*r.server.command(), check=False)
        assert refused.returncode == 1 and "full" in refused.stderr, refused
        os.unlink(f"{system.path}/ballast")
        b = r.restart()
        assert not b.get("inconsistent"), b
        assert r.dirty("b") == r.guest.written


@test
def a_file_system_that_stops_writing():
    """ext4 after an error: read-only, and each sync fails."""
    with rig(kind="ext4") as (r, system, _):
        system.abort()
        r.write_until_inconsistent()
        r.server.kill()
        system.unmount()
        system.mount()
        assert r.restart().get("inconsistent")


@test
def unmounted_and_mounted_again():
    """The memory folder has all bits, whatever became of the file system."""
    for lazily in False, True:
        with rig(kind="ext4") as (r, system, _):
            if lazily:
                system.unmount("-l")
            assert r.guest.write() == 0
            r.server.kill()
            if not lazily:
                system.unmount()
            system.mount()
            b = r.restart()
            assert not b.get("inconsistent"), b
            assert r.dirty("b") == r.guest.written


@test
def a_frozen_folder():
    """As while a snapshot of its file system is made: writes to regions that are open, and questions,
    do not wait for it; a write to another region waits as long as the server's patience."""
    with rig(kind="ext4") as (r, system, _):
        assert r.guest.write() == 0
        h = r.server.nbd("vda")
        run(require_program("fsfreeze"), "-f", system.path)
        try:
            for k in range(200):
                for region in range(4):
                    offset = region * REGION + k % 60 * GRANULE
                    h.pwrite(BLOCK, offset)
                    r.guest.written.add(offset // GRANULE)
                assert r.q.cmd("query-block")
            assert not r.bitmaps()["b"].get("inconsistent")
            assert r.dirty("b") == r.guest.written
            r.write_until_inconsistent()
        finally:
            run("fsfreeze", "-u", system.path)
        assert r.restart().get("inconsistent")


@test
def a_folder_that_was_frozen():
    with rig(kind="ext4") as (r, system, _):
        assert r.guest.write() == 0
        h = r.server.nbd("vda")
        run(require_program("fsfreeze"), "-f", system.path)
        try:
            for k in range(60):
                h.pwrite(BLOCK, REGION + k * GRANULE)
                r.guest.written.add(REGION // GRANULE + k)
        finally:
            run("fsfreeze", "-u", system.path)
        for _ in range(5):
            assert r.guest.write() == 0
        b = r.restart()
        assert not b.get("inconsistent"), b
        assert r.dirty("b") == r.guest.written


@test
def bits_in_memory_that_are_cut_short():
    """The kernel sends SIGBUS for a mapped page that its file does not have any more."""
    with rig() as (r, _, _):
        os.truncate(one(f"{r.memory()}/bits/*"), 0)
        r.write_until_inconsistent()
        assert r.restart().get("inconsistent")


@test
def a_bit_file_that_is_cut_short():
    """Memory has the bits: a stop puts them into a new file."""
    with rig() as (r, _, _):
        os.truncate(one(f"{r.state}/bits/*"), 4096)
        assert r.guest.write() == 0
        r.guest.h.shutdown()
        r.server.stop()
        r.start()
        assert not r.judge().get("inconsistent")
        assert r.dirty("b") == r.guest.written


@test
def the_lines_are_cut_short():
    """With them goes the knowledge of who wrote last: a death counts as a power loss."""
    with rig() as (r, _, _):
        os.truncate(f"{r.memory()}/live", 0)
        assert r.guest.write() == 0
        h = r.server.nbd("vda")  # a line of its own
        h.pwrite(BLOCK, 0)
        r.guest.written.add(0)
        assert r.server.qmp().cmd("query-version")
        r.restart()


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


def one(pattern):
    files = glob.glob(pattern)
    assert len(files) == 1, files
    return files[0]


# What happens to the folder while no server runs: {what: (function, must a bitmap be inconsistent
# after a process's death, and where the memory is gone as after a power loss?)}.
DAMAGE = {
    "the journal is gone": (lambda r: os.unlink(f"{r.state}/intent"), False, True),
    "the journal is empty": (lambda r: os.truncate(f"{r.state}/intent", 0), False, True),
    "the journal is cut": (lambda r: os.truncate(f"{r.state}/intent", 1000), False, True),
    "a bit of the journal flips": (lambda r: flip(f"{r.state}/intent", 100), False, True),
    "the bits are gone": (lambda r: os.unlink(one(f"{r.state}/bits/*")), True, True),
    "the bits are cut": (lambda r: os.truncate(one(f"{r.state}/bits/*"), 4096), True, True),
    "a bit in the head of the bits flips": (lambda r: flip(one(f"{r.state}/bits/*"), 20), True, True),
    "the lease is gone": (lambda r: os.unlink(f"{r.state}/live"), False, True),
    "nothing": (lambda r: None, False, False),
}


def damaged(memory_goes):
    wrong = []
    for what, (damage, after_death, after_power) in DAMAGE.items():
        with rig() as (r, _, _):
            memory = r.memory()
            r.server.kill()
            damage(r)
            if memory_goes:
                shutil.rmtree(memory)
            r.start()
            b = r.judge()
            if (after_power if memory_goes else after_death) and not b.get("inconsistent"):
                wrong.append(f"{what}: not inconsistent")
    assert not wrong, wrong


@test
def damage_after_a_process_died():
    damaged(False)


@test
def damage_after_a_power_loss():
    damaged(True)


@test
def bits_that_were_changed_after_a_clean_stop():
    with rig() as (r, _, _):
        r.guest.h.shutdown()
        r.server.stop()
        # The guest's first block is in it.
        path = one(f"{r.state}/bits/*")
        with open(path, "r+b") as f:
            f.seek(4096)
            f.write(bytes(512))
        r.start()
        assert r.judge().get("inconsistent")


@test
def a_folder_of_another_time():
    """The folder is restored from a copy that was made earlier, while the disk went on."""
    with rig() as (r, _, _):
        r.guest.h.shutdown()
        r.server.stop()
        shutil.copytree(r.state, f"{r.folder}/earlier")
        r.start()
        r.guest.h = r.server.nbd("vda")
        for _ in range(3):
            assert r.guest.write() == 0
        r.guest.h.shutdown()
        r.server.stop()
        shutil.rmtree(r.state)
        os.rename(f"{r.folder}/earlier", r.state)
        r.start()
        assert r.judge().get("inconsistent")


main()
