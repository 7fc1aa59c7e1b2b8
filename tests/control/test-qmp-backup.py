#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Backup sessions by QMP: how they begin, what clients read of them, and what they refuse."""

import nbd

from qmp_backup import (GRANULE, abort, all_state, begin, checkpoints, commit, dirty, ended, memory,
                        nothing_left, reader, session, write)
from qmp_checks import IN_USE, fails
from qmp_exports import closing, connect
from rig import MIB, extents
from state_rig import Stateful
from tap import main, test

BEGIN, RENEW, END = "backup-begin", "backup-renew", "backup-end"


@test
def a_full_one_and_then_an_incremental_one():
    for server in memory("vda", "vdb"), Stateful("vda", "vdb", size=4 * MIB):
        with server as s:
            q = s.qmp()
            write(s, "vda", 0, 1)
            first = begin(q, "b1", checkpoint="c1")
            assert [d["mode"] for d in first.values()] == ["full", "full"], first
            assert "reason" not in first["vda"] and first["vda"]["export"] == "b1/vda"
            assert first["vda"]["context"] == "qemu:dirty-bitmap:backup-vda"
            assert checkpoints(q) == []  # not before it is committed
            write(s, "vda", 1, 5, byte=b"y")
            assert dirty(first["vda"]) == list(range(64)) == dirty(first["vdb"])
            with reader(first["vda"]) as h:
                assert h.pread(1, GRANULE) == b"x" and h.pread(1, 5 * GRANULE) == b"\0"
                assert h.is_read_only()
            commit(q, "b1")
            assert ended(q, "b1") == ("commit", None)
            assert checkpoints(q) == ["c1"]
            nothing_left(q)

            second = begin(q, "b2", since="c1", checkpoint="c2")
            write(s, "vda", 7)
            assert [d["mode"] for d in second.values()] == ["incremental"] * 2, second
            assert dirty(second["vda"]) == [1, 5] and dirty(second["vdb"]) == []
            with reader(second["vda"]) as h:
                assert h.pread(1, GRANULE) == b"y" and h.pread(1, 7 * GRANULE) == b"\0"
            commit(q, "b2")
            third = begin(q, "b3", since="c2")
            assert dirty(third["vda"]) == [7]
            again = begin(q, "b4", since="c1")
            assert dirty(again["vda"]) == [1, 5, 7]
            abort(q, "b3")
            abort(q, "b4")
            nothing_left(q)


@test
def one_dirty_context_alone():
    with memory("vda") as s:
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vda", name="other")
        begin(q, "b1", disks=[{"disk": "vda", "export": "e x", "bitmap": "map"}])
        disk = session(q, "b1")["disks"][0]
        assert disk["uri"].startswith("nbd+unix:///e%20x?socket="), disk
        h = nbd.NBD()
        h.set_opt_mode(True)
        h.connect_unix(s.socket)
        names = []
        h.set_export_name("e x")
        h.add_meta_context("base:")
        h.add_meta_context("qemu:")
        h.opt_list_meta_context(names.append)
        h.opt_abort()
        assert sorted(names) == ["base:allocation", "qemu:dirty-bitmap:map"], names
        with reader(disk) as h:  # both contexts over the same length
            assert extents(h, disk["context"]) == [(0, 4 * MIB, 1)]
            assert extents(h, "base:allocation") == [(0, 4 * MIB, 3)]


@test
def several_at_once_from_different_bases():
    with Stateful("vda", "vdb", size=4 * MIB) as s:
        q = s.qmp()
        for number in range(3):
            q.cmd("checkpoint-create", name=f"c{number}")
            write(s, "vda", number)
        with s.qmp() as other:
            maps = [begin(monitor, f"s{number}", since=f"c{number}", checkpoint=f"n{number}")
                    for number, monitor in enumerate((q, other, q))]
        full = begin(q, "full", disks=[{"disk": "vda"}])
        write(s, "vda", 9)
        for number in range(3):
            assert dirty(maps[number]["vda"]) == list(range(number, 3))
            assert dirty(maps[number]["vdb"]) == []
        assert len(dirty(full["vda"])) == 64
        for number in 1, 0, 2:
            commit(q, f"s{number}")
        assert checkpoints(q) == ["c0", "c1", "c2", "n0", "n1", "n2"]
        assert dirty(begin(q, "last", since="n1")["vda"]) == [9]
        abort(q, "last")
        abort(q, "full")
        nothing_left(q)


@test
def a_base_of_its_own_for_each_disk():
    with memory("vda", "vdb", "vdc") as s:
        q = s.qmp()
        q.cmd("checkpoint-create", name="c1")
        for disk in "vda", "vdb", "vdc":
            write(s, disk, 1)
        q.cmd("checkpoint-create", name="c2", disks=["vda", "vdb"])
        for disk in "vda", "vdb", "vdc":
            write(s, disk, 2)
        got = begin(q, "b", since="c2", disks=[{"disk": "vda", "since": "c1"}, {"disk": "vdb"},
                                               {"disk": "vdc"}])
        assert dirty(got["vda"]) == [1, 2] and dirty(got["vdb"]) == [2]
        assert got["vdc"]["mode"] == "full" and len(dirty(got["vdc"])) == 64
        assert "vdc" in got["vdc"]["reason"] and "c2" in got["vdc"]["reason"], got
        disks = session(q, "b")["disks"]
        assert [d["since"] for d in disks] == ["c1", "c2", "c2"]


@test
def in_one_transaction():
    with memory("vda", "vdb") as s:
        q = s.qmp()
        q.cmd("checkpoint-create", name="c1")
        write(s, "vda", 3)
        before = all_state(q)
        actions = [(BEGIN, {"id": "b1", "since": "c1", "disks": [{"disk": "vda"}]}),
                   (BEGIN, {"id": "b2", "checkpoint": "c2"}),
                   ("checkpoint-create", {"name": "c3", "disks": ["vdb"]}),
                   ("view-create", {"disk": "vda", "name": "v"})]
        for more, text in (
                (("abort", {}), "Transaction aborted using Abort action"),
                ((BEGIN, {"id": "b1"}), "Backup session id 'b1' is already in use"),
                ((BEGIN, {"id": "b3", "checkpoint": "c3"}), "Checkpoint already exists: c3")):
            fails(q, text, "transaction",
                  actions=[{"type": kind, "data": data} for kind, data in (*actions, more)])
            assert all_state(q) == before
        assert q.transaction(*actions) == {}
        assert dirty(session(q, "b1")["disks"][0]) == [3]
        assert len(session(q, "b2")["disks"]) == 2
        assert checkpoints(q) == ["c1", "c3"]
        commit(q, "b2")
        assert checkpoints(q) == ["c1", "c2", "c3"]


@test
def arguments():
    with memory("vda", "vdb") as s:
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="v")
        begin(q, "taken", checkpoint="pending")
        commit(q, "taken")
        begin(q, "taken", checkpoint="more")
        before = all_state(q)
        one = [{"disk": "vda"}]
        fails(q, "Parameter 'id' is missing", BEGIN)
        fails(q, "Parameter 'mode' does not accept value 'x'", BEGIN, id="b", mode="x")
        fails(q, "Parameter 'disks[0].disk' is missing", BEGIN, id="b", disks=[{}])
        fails(q, "Parameter 'lease' expects uint32_t", BEGIN, id="b", lease=-1)
        fails(q, "Parameter 'x' is unexpected", BEGIN, id="b", x=1)
        fails(q, "Cannot find device='' nor node-name='x'", BEGIN, id="1", disks=[{"disk": "x"}])
        fails(q, "Node 'v' is not a disk", BEGIN, id="1", disks=[{"disk": "v"}])
        fails(q, "Disk 'vda' is named twice", BEGIN, id="1", disks=one * 2)
        fails(q, "Backup session '1' has no disks", BEGIN, id="1", disks=[])
        for bad in "", "1", "a/b", "é":
            fails(q, f"Invalid backup session id '{bad}'", BEGIN, id=bad)
        long = "n" * 256
        fails(q, f"Backup session id too long: '{long}'", BEGIN, id=long)
        fails(q, "Backup session id 'taken' is already in use", BEGIN, id="taken", since="x")
        fails(q, "Bitmap name cannot be empty", BEGIN, id="b", disks=[{"disk": "vda", "bitmap": ""}])
        fails(q, f"Bitmap name too long: {long * 4}", BEGIN, id="b",
              disks=[{"disk": "vda", "bitmap": long * 4}])
        fails(q, "NBD server already has export named 'vda'", BEGIN, id="b",
              disks=[{"disk": "vda", "export": "vda"}])
        fails(q, "NBD server already has export named 'e'", BEGIN, id="b",
              disks=[{"disk": "vda", "export": "e"}, {"disk": "vdb", "export": "e"}])
        fails(q, "Checkpoint already exists: pending", BEGIN, id="b", checkpoint="pending")
        fails(q, "Checkpoint already exists: more", BEGIN, id="b", checkpoint="more")
        fails(q, "Backup session 'x' not found", END, id="x", result="commit")
        fails(q, "Backup session 'x' not found", RENEW, id="x")
        fails(q, "Parameter 'result' does not accept value 'x'", END, id="taken", result="x")
        assert all_state(q) == before
        begin(q, "n" * 255)


@test
def what_cannot_be_since():
    with Stateful("vda", "vdb", size=4 * MIB) as s:
        q = s.qmp()
        q.cmd("checkpoint-create", name="half", disks=["vda"])
        begin(q, "open", checkpoint="pending")
        before = all_state(q)
        for since, disk in ("none", "vda"), ("pending", "vda"), ("half", "vdb"):
            got = begin(q, "b", since=since)
            assert got[disk]["mode"] == "full" and len(dirty(got[disk])) == 64
            reason = got[disk]["reason"]
            assert since in reason, reason
            abort(q, "b")
            fails(q, f"disk {disk}: no backup since checkpoint '{since}' is possible: {reason}",
                  BEGIN, id="b", since=since, checkpoint="new", mode="strict")
        assert begin(q, "b", since="half", mode="strict", disks=[{"disk": "vda"}])
        abort(q, "b")
        after = all_state(q)
        assert after[:-1] == before[:-1]


@test
def its_own_are_for_others_to_leave_alone():
    with memory("vda") as s:
        q = s.qmp()
        q.cmd("checkpoint-create", name="c1")
        begin(q, "b", since="c1", checkpoint="c2")
        before = all_state(q)
        fails(q, "Export 'b/vda' belongs to backup session 'b'", "block-export-del", id="b/vda")
        fails(q, "Export 'b/vda' belongs to backup session 'b'", "block-export-del", id="b/vda",
              mode="hard")
        fails(q, "Node b/vda is in use", "view-delete", name="b/vda")
        for command in "clear", "remove", "enable", "disable":
            fails(q, IN_USE % "c1", f"block-dirty-bitmap-{command}", node="vda", name="c1")
        q.cmd("block-dirty-bitmap-add", node="vda", name="x")
        fails(q, IN_USE % "c1", "block-dirty-bitmap-merge", node="vda", target="c1", bitmaps=["x"])
        q.cmd("block-dirty-bitmap-remove", node="vda", name="x")
        fails(q, IN_USE % "c1", "checkpoint-delete", name="c1")
        fails(q, "Checkpoint 'c2' belongs to backup session 'b', which has not ended",
              "checkpoint-delete", name="c2")
        assert all_state(q) == before
        abort(q, "b")
        q.cmd("checkpoint-delete", name="c1")
        assert checkpoints(q) == []


@test
def what_was_read_may_be_trimmed():
    with memory("vda") as s:
        q = s.qmp()
        write(s, "vda", *range(64), length=GRANULE)
        with closing(connect(begin(q, "no")["vda"]["uri"])) as h:
            assert not h.can_trim()
        abort(q, "no")
        got = begin(q, "b", discard=True)
        write(s, "vda", *range(16), length=GRANULE, byte=b"y")
        assert session(q, "b")["scratch-used"] == 16 * GRANULE
        with reader(got["vda"]) as h:
            assert h.can_trim()
            assert h.pread(8 * GRANULE, 0) == b"x" * (8 * GRANULE)
            h.trim(8 * GRANULE, 0)
            assert session(q, "b")["scratch-used"] == 8 * GRANULE
            h.trim(4 * GRANULE, 16 * GRANULE)
            write(s, "vda", *range(16, 20), length=GRANULE, byte=b"y")
            assert session(q, "b")["scratch-used"] == 8 * GRANULE
            assert session(q, "b")["disks"][0]["scratch-bytes"] == 8 * GRANULE


@test
def growth_is_for_the_next_one():
    with Stateful("vda", size=4 * MIB) as s:
        q = s.qmp()
        got = begin(q, "b", checkpoint="c1")
        q.cmd("block_resize", device="vda", size=5 * MIB)
        with reader(got["vda"]) as h:
            assert h.get_size() == 4 * MIB
        assert len(dirty(got["vda"])) == 64 and session(q, "b")["disks"][0]["size"] == 4 * MIB
        fails(q, "disk vda: cannot shrink while it has views", "block_resize", device="vda",
              size=MIB)
        commit(q, "b")
        got = begin(q, "b", since="c1")
        assert got["vda"]["size"] == 5 * MIB and dirty(got["vda"]) == list(range(64, 80))


main()
