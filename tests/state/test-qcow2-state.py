#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Dirty bitmaps of qcow2 images in a state folder: they survive a stop and a crash, exactly, also where the
server has written tables after the guest's last write; and somebody else's change is found."""

import contextlib
import os
import time

import nbd

import qcow2_images as images
from fleece import SOON, Server, run
from qmp_checks import fails
from rig import KIB, MIB
from state_rig import ENDS, Stateful, wait_clock
from tap import main, test

SIZE = 16 * MIB


@contextlib.contextmanager
def served(*options, backing=False, keys=()):
    """A server with a disk vda, and its image in `image_path`."""
    images.require_qemu()
    s = Stateful()
    s.image_path = s.path("vm.qcow2")
    if backing:
        images.overlay(s.image_path, SIZE)
    else:
        images.create(s.image_path, SIZE, *options)
    s.disks = [["vda", "qcow2", s.image_path, *keys]]
    s.set_args()
    with s:
        yield s


def wait_tables(s):
    """Return when the server has written the tables for what the guest has written, by itself: the file has data
    at the disk's byte 0 in the tables that are in it."""
    deadline = time.monotonic() + SOON
    while time.monotonic() < deadline:
        r = run("qemu-img", "map", "-U", "-f", "qcow2", "--output=json", s.image_path, timeout=SOON)
        if '"start": 0, "length": 65536, "depth": 0, "present": true, "zero": false' in r.stdout:
            return
    raise AssertionError(f"no table has been written: {r.stdout}")


@test
def bitmaps_survive_a_stop_and_a_crash():
    for backing in False, True:
        for end in ENDS:
            with served(backing=backing) as s:
                s.add("vda", "b")
                s.write("vda", MIB, 512)
                s.again(end)
                assert s.dirty("vda", "b") == [(MIB, 64 * KIB)], s.log()
                s.write("vda", 9 * MIB, 3 * 64 * KIB)
                s.again(end)
                assert s.dirty("vda", "b") == [(MIB, 64 * KIB), (9 * MIB, 3 * 64 * KIB)], s.log()
                s.stop()
                images.check(s.image_path, leaks=True)


@test
def what_nobody_writes_to_stays_as_it_is():
    # The server has changed nothing, and dies: then nobody has.
    with served() as s:
        s.add("vda", "b")
        s.write("vda", 0, 64 * KIB)
        s.again()
        before = os.stat(s.image_path)
        h = s.nbd("vda")
        h.pread(64 * KIB, 0)
        h.flush()
        s.again(Server.kill)
        after = os.stat(s.image_path)
        assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
        assert s.dirty("vda", "b") == [(0, 64 * KIB)], s.log()


@test
def tables_that_are_written_later_are_nobody_elses_change():
    for backing in False, True:
        with served(backing=backing) as s:
            s.add("vda", "b")
            s.write("vda", 0, 64 * KIB)
            wait_tables(s)
            s.again(Server.kill)
            assert s.dirty("vda", "b") == [(0, 64 * KIB)], s.log()


@test
def a_flush_long_after_the_write_is_nobody_elses_change():
    with served() as s:
        s.add("vda", "b")
        s.write("vda", 0, 64 * KIB)
        wait_tables(s)
        wait_clock(s.image_path)
        h = s.nbd("vda")
        h.flush()
        s.again(Server.kill)
        assert s.dirty("vda", "b") == [(0, 64 * KIB)], s.log()


@test
def what_was_flushed_is_there_after_a_crash():
    # With FUA, then by a flush. By itself the server writes tables ten times a second at most: of ten times
    # one would be lost.
    with served(backing=True) as s:
        for i in range(10):
            h = s.nbd("vda")
            at = i * MIB + 4096
            h.pwrite(b"f" * 1000, at, nbd.CMD_FLAG_FUA)
            s.again(Server.kill)
            h = s.nbd("vda")
            assert h.pread(1000, at) == b"f" * 1000, i
            h.pwrite(b"g" * 1000, at + 200_000)
            h.flush()
            s.again(Server.kill)
            h = s.nbd("vda")
            assert h.pread(1000, at + 200_000) == b"g" * 1000, i


def foreign_write(path, *options):
    run("qemu-io", "-f", "qcow2", *options, "-c", "write -P 7 0 64k", path)


@test
def somebody_elses_change_is_found():
    with served() as s:
        s.add("vda", "b")
        s.write("vda", 0, 64 * KIB)
        s.stop()
        foreign_write(s.image_path)
        s.start()
        assert "changed while it was not served" in s.reason("vda", "b")


@test
def a_change_of_the_data_file_is_found():
    images.require_qemu()
    s = Stateful()
    path = s.path("vm.qcow2")
    images.create(path, SIZE, f"data_file={s.path('vm.data')}")
    s.disks = [["vda", "qcow2", path]]
    s.set_args()
    with s:
        s.add("vda", "b")
        s.write("vda", 0, 64 * KIB)
        s.again()
        assert s.dirty("vda", "b") == [(0, 64 * KIB)], s.log()
        s.stop()
        with open(s.path("vm.data"), "r+b") as f:
            f.write(b"other")
        s.start()
        assert "changed while it was not served" in s.reason("vda", "b")


@test
def another_backing_file_is_another_disk():
    for end in ENDS:
        with served(backing=True) as s:
            s.add("vda", "b")
            s.write("vda", 0, 64 * KIB)
            s.again(end)
            assert s.dirty("vda", "b") == [(0, 64 * KIB)], s.log()
            end(s)
            other = s.path("other.raw")
            with open(other, "wb") as f:
                f.truncate(SIZE)
            s.disks = [["vda", "qcow2", s.image_path, f"backing={other}", "backing-format=raw"]]
            s.set_args()
            s.start()
            b = s.bitmap("vda", "b")
            assert b is None or b["inconsistent"], b


@test
def a_change_of_a_backing_file_is_found():
    for end in ENDS:
        with served() as s:
            s.stop()
            base = s.path("bottom.raw")
            with open(base, "wb") as f:
                f.truncate(SIZE)
            run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", base, s.image_path)
            s.start()
            s.add("vda", "b")
            s.write("vda", 0, 64 * KIB)
            h = s.nbd("vda")
            h.pread(MIB, 2 * MIB)
            s.again(end)
            assert s.dirty("vda", "b") == [(0, 64 * KIB)], s.log()
            end(s)
            time_of_our_last = os.stat(s.image_path).st_mtime_ns
            with open(base, "r+b") as f:
                f.write(b"somebody else's")
            os.utime(base, ns=(time_of_our_last, time_of_our_last + 60 * 10**9))
            s.start()
            assert "changed" in s.reason("vda", "b")


@test
def an_image_that_is_only_read_changes_for_nobody():
    with served() as s:
        s.add("vda", "b")
        s.write("vda", 0, 64 * KIB)
        s.stop()
        s.options = ["-r"]
        s.set_args()
        before = os.stat(s.image_path)
        s.start()
        assert s.dirty("vda", "b") == [(0, 64 * KIB)], s.log()
        s.stop()
        after = os.stat(s.image_path)
        assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
        s.options = []
        s.set_args()
        s.start()
        assert s.dirty("vda", "b") == [(0, 64 * KIB)], s.log()


@test
def raw_and_qcow2_are_not_the_same_image():
    with served() as s:
        s.add("vda", "b")
        s.write("vda", 0, 64 * KIB)
        s.stop()
        s.disks = [["vda", "file", s.image_path]]
        s.set_args()
        s.start()
        b = s.bitmap("vda", "b")
        assert b is None or b["inconsistent"], b


@test
def it_grows_and_does_not_shrink():
    for end in ENDS:
        with served() as s:
            s.add("vda", "b")
            with s.qmp() as q:
                q.cmd("block_resize", size=SIZE + MIB, **{"node-name": "vda"})
                fails(q, f"disk vda: qcow2: {s.image_path}: resize to {MIB} bytes: a qcow2 image cannot "
                      "become smaller here", "block_resize", size=MIB, **{"node-name": "vda"})
            s.write("vda", SIZE + 512 * KIB, 512)
            h = s.nbd("vda")
            h.flush()
            h.shutdown()
            s.again(end)
            assert s.dirty("vda", "b") == [(SIZE, MIB)], s.log()
            h = s.nbd("vda")
            assert h.get_size() == SIZE + MIB
            assert h.pread(512, SIZE + 512 * KIB) == b"x" * 512


main()
