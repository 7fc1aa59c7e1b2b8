#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The state folder fails while the server serves. Guests' writes succeed within a bounded time, QMP
answers meanwhile, the persistent bitmaps become inconsistent, an event says so with a reason, and a
transient bitmap goes on. With `--on-state-error break-guest-write` the write fails instead, and
the bitmap stays good. After a restart no bitmap is clean where the disk has changed."""

import errno
import os
import select
import time

from failing_folder import (ALL, BLOCK, GRANULE, PATIENCE, REGION, SIZE, SYNC, WRITE, Guest, one, rig)
from fleece import SOON, QmpError, Server, require_program, run
from tap import main, note, test


def has_replied(monitor):
    """Takes what has come so far. Was anything no event?"""
    while select.select([monitor.socket], [], [], 0)[0]:
        if "event" not in monitor.read():
            return True
    return False


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
    folder_fails(ALL, errno.EIO)


@test
def nothing_comes_back():
    """The folder hangs, as NFS does. The end of the server is bounded, too."""
    with rig("--stop-timeout", "5", fault=True) as (r, _, fault):
        fault.set(ALL)
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
    """A command that has to be durable waits; other monitors, and guests, do not. It is done when the
    folder answers, and what it has answered then is kept."""
    with rig(fault=True) as (r, _, fault):
        fault.set(ALL)
        waits = r.server.qmp()
        waits.write({"execute": "block-dirty-bitmap-add", "id": 1,
                     "arguments": {"node": "vda", "name": "c", "granularity": GRANULE}})
        assert r.server.qmp().cmd("query-version")
        assert r.guest.write() == 0
        assert r.guest.slowest < PATIENCE, r.guest.slowest
        # That write could not be noted.
        assert r.bitmaps()["b"]["inconsistent"]
        assert "c" not in r.bitmaps()
        assert not has_replied(waits), "the command was answered before the folder was"
        fault.release()
        waits.socket.settimeout(SOON)
        assert waits.reply(1) == {"return": {}, "id": 1}
        # The journal had failed before the bitmap could rely on it.
        c = r.bitmaps()["c"]
        assert c["persistent"] and c["inconsistent"] and c["inconsistent-reason"], c
        r.q.cmd("block-dirty-bitmap-clear", node="vda", name="c")
        before = set(r.guest.written)
        assert r.guest.write() == 0
        assert r.dirty("c") == r.guest.written - before
        r.server.kill()
        r.start()
        assert r.bitmaps()["b"]["inconsistent"]
        assert r.dirty("c") == r.guest.written - before


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
    """What counts is in memory, so the bits are exact. Without it they count as after a power loss."""
    for lazily, forgotten in (False, False), (True, False), (False, True):
        with rig(kind="ext4") as (r, system, _):
            if lazily:
                system.unmount("-l")
            assert r.guest.write() == 0
            r.server.kill()
            if not lazily:
                system.unmount()
            if forgotten:
                r.forget()
            system.mount()
            b = r.restart()
            assert not b.get("inconsistent"), b
            assert bool(r.widened()) == forgotten


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
        os.truncate(r.mapped("/bits/[^/]*"), 0)
        r.write_until_inconsistent()
        assert r.restart().get("inconsistent")


@test
def a_bit_file_that_is_cut_short():
    """Memory has the bits: a stop puts them into a new file."""
    with rig() as (r, _, _):
        os.truncate(one(r, "bits/*"), 4096)
        assert r.guest.write() == 0
        r.guest.h.shutdown()
        r.server.stop()
        r.start()
        assert not r.judge().get("inconsistent")
        assert r.dirty("b") == r.guest.written


@test
def lines_in_memory_that_are_cut_short():
    """With them goes the knowledge of who wrote last, which the next server needs only if this one
    dies: then it counts as a power loss."""
    for end, is_lost in (Server.kill, True), (Server.stop, False):
        with rig() as (r, _, _):
            os.truncate(r.mapped("/live"), 0)
            assert r.guest.write() == 0
            h = r.server.nbd("vda")  # a line of its own
            h.pwrite(BLOCK, 0)
            r.guest.written.add(0)
            assert not r.bitmaps()["b"].get("inconsistent")
            assert r.dirty("b") == r.guest.written
            assert r.event() is None
            h.shutdown()
            r.guest.h.shutdown()
            end(r.server)
            r.start()
            b = r.judge()
            assert not b.get("inconsistent"), b
            assert bool(r.widened()) == is_lost


main()
