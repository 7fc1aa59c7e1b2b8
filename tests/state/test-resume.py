#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Backup sessions that outlive their server: killed, or ended in order, it has them back exactly, or says
why not."""

import contextlib
import glob
import os
import random
import shutil
import threading

import nbd

from fleece import Server, wait_removed
from qmp_checks import bitmaps, fails
from qmp_exports import closing, connect
from rig import dirty_context, dirty_extents
from state_rig import MIB, Stateful, wait_clock, write_behind
from tap import main, test

GRANULE = 65536
SIZE = 4 * MIB
ENDS = (Server.kill, Server.stop)


def begin(q, id, **more):
    return {d["disk"]: d for d in q.cmd("backup-begin", id=id, **more)}


def end(q, id, result="commit"):
    q.cmd("backup-end", id=id, result=result)


def sessions(q):
    return {s["id"]: s for s in q.cmd("query-backups")}


def disks(q, id):
    """Of a session that lives: as backup-begin had told of them."""
    s = sessions(q)[id]
    assert s["state"] == "active", s
    return {d["disk"]: d for d in s["disks"]}


def content(disk):
    with closing(connect(disk["uri"], [disk["context"]])) as h:
        return h.pread(h.get_size(), 0)


def dirty(disk):
    with closing(connect(disk["uri"], [disk["context"]])) as h:
        name = disk["context"].removeprefix(dirty_context(""))
        return [g for offset, length in dirty_extents(h, name)
                for g in range(offset // GRANULE, (offset + length) // GRANULE)]


def image(s, disk):
    with open(s.image(disk), "rb") as f:
        return f.read()


def scratch_files(s):
    return glob.glob(os.path.join(s.state, ".nbdfleece-scratch-*"))


def memory_files(s):
    """Files of views in /dev/shm, of this server's state folder: those that name its scratch."""
    found = []
    for path in glob.glob("/dev/shm/nbdfleece-*/views/*"):
        with contextlib.suppress(OSError), open(path, "rb") as f:
            if s.state.encode() in f.read(4096):
                found.append(path)
    return found


def nothing_left(s):
    """Wait until no view has files: a thread removes them."""
    folders = {os.path.dirname(path) for path in memory_files(s)}
    wait_removed(lambda: scratch_files(s) + memory_files(s), [s.state, *folders])


def fill(s, disk, byte):
    for at in range(0, SIZE, MIB):
        s.write(disk, at, MIB, byte)


def aborted(q, id):
    s = sessions(q)[id]
    assert s["state"] == "aborted", s
    assert q.cmd("query-views") == [] and q.cmd("query-block-exports") == []
    return s["reason"]


@test
def sessions_go_on():
    with Stateful("vda", "vdb", size=SIZE) as s:
        q = s.qmp()
        fill(s, "vda", b"a")
        begin(q, "zero", checkpoint="c0")
        end(q, "zero")
        s.write("vda", GRANULE, 1, b"b")
        begin(q, "one", since="c0", checkpoint="c1")
        want = {d: image(s, d) for d in ("vda", "vdb")}
        s.write("vda", 0, 3 * GRANULE, b"c")
        s.write("vdb", 5 * GRANULE, 100, b"c")
        begin(q, "two", disks=[{"disk": "vda", "export": "e", "bitmap": "b"}], discard=True,
              lease=1000)
        later = image(s, "vda")
        s.write("vda", 0, 20 * GRANULE, b"d")
        for how in (*ENDS, Server.kill):
            s.again(how)
            q = s.qmp()
            assert [x["resumed"] for x in q.cmd("query-backups")] == [False, True, True]
            got = disks(q, "one")
            assert got["vda"]["mode"] == "incremental" and dirty(got["vda"]) == [1]
            assert got["vda"]["dirty-bytes"] == GRANULE and dirty(got["vdb"]) == []
            assert {d: content(got[d]) for d in want} == want
            two = disks(q, "two")["vda"]
            assert (two["export"], two["context"]) == ("e", dirty_context("b"))
            assert content(two) == later and dirty(two) == list(range(64))
            s.write("vda", 40 * GRANULE, GRANULE, b"e")
            assert bitmaps(q)["c0"]["busy"]
        with closing(connect(two["uri"])) as h:
            h.trim(MIB, 0)
        end(q, "one")
        end(q, "two", "abort")
        assert q.cmd("query-views") == []
        nothing_left(s)
        assert [c["name"] for c in q.cmd("query-checkpoints")] == ["c0", "c1"]
        got = begin(q, "three", since="c1")
        assert dirty(got["vda"]) == [*range(20), 40]
        assert content(got["vda"]) == image(s, "vda")


@test
def an_abort_of_one_that_went_on():
    for how in ENDS:
        with Stateful("vda", size=SIZE) as s:
            q = s.qmp()
            begin(q, "b", checkpoint="c")
            s.again(how)
            q = s.qmp()
            end(q, "b", "abort")
            assert q.cmd("query-checkpoints") == [] and bitmaps(q) == {}
            s.again()
            reason = sessions(s.qmp())["b"]
            assert reason["state"] == "aborted" and not reason["resumed"], reason


@test
def views_of_users_end_with_the_server():
    for how in ENDS:
        with Stateful("vda", size=SIZE) as s:
            q = s.qmp()
            fill(s, "vda", b"a")
            q.cmd("view-create", disk="vda", name="old")
            begin(q, "b")
            s.write("vda", 0, 10, b"b")
            q.cmd("view-create", disk="vda", name="new")
            s.write("vda", 0, 1000, b"c")
            s.again(how)
            q = s.qmp()
            assert [v["name"] for v in q.cmd("query-views")] == ["b/vda"]
            assert content(disks(q, "b")["vda"]) == b"a" * SIZE


@test
def nobody_else_may_have_written():
    for how in ENDS:
        with Stateful("vda", "vdb", size=SIZE) as s:
            q = s.qmp()
            begin(q, "both", checkpoint="c")
            begin(q, "vdb", disks=[{"disk": "vdb"}])
            s.write("vda", 0, 10)
            how(s)
            wait_clock(s.image("vda"))
            write_behind(s.image("vda"), 0, b"x")
            s.start()
            q = s.qmp()
            assert sessions(q)["vdb"]["state"] == "active"
            reason = sessions(q)["both"]["reason"]
            assert reason.startswith("its view of disk vda is gone: ") and "changed" in reason
            fails(q, f"Backup session 'both' was aborted: {reason}", "backup-end", id="both",
                  result="commit")
            assert q.cmd("query-checkpoints") == []
            assert [v["name"] for v in q.cmd("query-views")] == ["vdb/vdb"]


@test
def after_a_power_loss_it_is_aborted():
    with Stateful("vda", size=SIZE) as s:
        q = s.qmp()
        begin(q, "b", checkpoint="c")
        s.write("vda", 0, 10)
        paths = memory_files(s)
        assert paths and scratch_files(s)
        s.kill()
        folder = os.path.dirname(os.path.dirname(paths[0]))
        for path in glob.glob(f"{folder}/*/*") + glob.glob(f"{folder}/*"):
            if os.path.isfile(path):
                os.unlink(path)
        s.start()
        q = s.qmp()
        reason = aborted(q, "b")
        assert reason == "its view of disk vda is gone: what the server had in /dev/shm is gone"
        nothing_left(s)
        assert q.cmd("query-checkpoints") == []


@test
def a_disk_that_is_not_served():
    with Stateful("vda", "vdb", size=SIZE) as s:
        q = s.qmp()
        begin(q, "b")
        s.write("vdb", 0, 10)
        s.kill()
        served, s.disks = s.disks, s.disks[:1]
        s.set_args()
        s.start()
        q = s.qmp()
        assert aborted(q, "b") == "its disk vdb is not served"
        nothing_left(s)
        s.disks = served
        s.again()
        assert aborted(s.qmp(), "b") == "its disk vdb is not served"


@test
def a_start_that_fails_leaves_them():
    with Stateful("vda", "vdb", size=SIZE) as s:
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vdb", name="good")
        fill(s, "vda", b"a")
        begin(q, "b")
        s.write("vda", 0, 10, b"b")
        s.kill()
        served, s.disks = s.disks, [s.disks[0], ["vdx", "file", s.image("vdb")]]
        s.set_args()
        assert "adopt" in s.fails_to_start()
        s.disks = served
        s.set_args()
        s.start()
        assert content(disks(s.qmp(), "b")["vda"]) == b"a" * SIZE


@test
def a_start_with_the_wrong_images_leaves_them():
    with Stateful("vda", "vdb", size=SIZE) as s:
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vdb", name="good")
        fill(s, "vda", b"a")
        begin(q, "b")
        s.write("vda", 0, 10, b"b")
        s.kill()
        shutil.copyfile(s.image("vda"), s.path("other"))
        served, s.disks = s.disks, [["vda", "file", s.path("other")], ["vdx", "file", s.image("vdb")]]
        s.set_args()
        assert "adopt" in s.fails_to_start()
        s.disks = served
        s.set_args()
        s.start()
        assert content(disks(s.qmp(), "b")["vda"]) == b"a" * SIZE


@test
def a_start_that_fails_late_leaves_them():
    """The folder has had it, and the session goes on, when the control socket cannot be made."""
    with Stateful("vda", size=SIZE) as s:
        q = s.qmp()
        fill(s, "vda", b"a")
        begin(q, "b")
        s.write("vda", 0, 10, b"b")
        s.kill()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(s.path("qmp"))
        os.mkdir(s.path("qmp"))
        said = s.fails_to_start()
        assert "session b: goes on" in said and "control socket" in said, said
        os.rmdir(s.path("qmp"))
        s.start()
        assert content(disks(s.qmp(), "b")["vda"]) == b"a" * SIZE


class Guests:
    """Clients that write blocks here and there until the server goes."""

    def __init__(self, s, disks):
        self.threads = [threading.Thread(target=self.run, args=(s, d, i))
                        for i, d in enumerate(disks * 2)]
        for t in self.threads:
            t.start()

    def run(self, s, disk, seed):
        r = random.Random(seed)
        with contextlib.suppress(nbd.Error):
            h = s.nbd(disk)
            while True:
                length = r.choice((512, 4096, 20000))
                offset = r.randrange(0, SIZE - length)
                if r.random() < 0.2:
                    h.trim(length, offset)
                else:
                    h.pwrite(bytes([r.randrange(1, 256)]) * length, offset)

    def join(self):
        for t in self.threads:
            t.join()


@test
def killed_while_guests_write():
    for seed in range(4):
        r = random.Random(seed)
        with Stateful("vda", "vdb", size=SIZE) as s:
            q = s.qmp()
            for d in ("vda", "vdb"):
                fill(s, d, bytes([seed + 1]))
            begin(q, "a", checkpoint="ca")
            want = {"a": {d: image(s, d) for d in ("vda", "vdb")}}
            for i in range(3):
                guests = Guests(s, ["vda", "vdb"])
                while sum(d["scratch-bytes"] for d in disks(q, "a").values()) < r.randrange(MIB):
                    pass
                s.kill()
                guests.join()
                s.start()
                q = s.qmp()
                for id in want:
                    got = disks(q, id)
                    assert {d: content(got[d]) for d in got} == want[id], (seed, i, id)
                begin(q, f"b{i}")
                want[f"b{i}"] = {d: image(s, d) for d in ("vda", "vdb")}
            for id in want:
                end(q, id)
            nothing_left(s)


main()
