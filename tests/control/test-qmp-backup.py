#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Backup sessions by QMP: what clients read of them, how they end, what is left of them, and what they
refuse."""

import contextlib
import time

import nbd

from fleece import SOON, Server
from qmp_checks import IN_USE, bitmaps, everything, fails
from qmp_exports import closing, connect
from rig import KIB, MIB, dirty_context, dirty_extents, extents
from state_rig import Stateful
from tap import main, test

BEGIN, RENEW, END, QUERY = "backup-begin", "backup-renew", "backup-end", "query-backups"
GRANULE = 64 * KIB
ENDS = (Server.stop, Server.kill)


def memory(*names, size="4M", options=()):
    args = []
    for name in names:
        args += ["--disk", name, "memory", size]
    return Server(*args, *options)


def write(s, disk, *granules, byte=b"x", length=512):
    with closing(s.nbd(disk)) as h:
        for granule in granules:
            h.pwrite(byte * length, granule * GRANULE)


def begin(q, id, *, limit=None, **more):
    """Begin a session: {disk: what is answered of it}."""
    if limit is not None:
        more["scratch-limit"] = limit
    answer = q.cmd(BEGIN, id=id, **more)
    return {d["disk"]: d for d in answer}


def commit(q, id):
    q.cmd(END, id=id, result="commit")


def abort(q, id):
    q.cmd(END, id=id, result="abort")


def session(q, id):
    found = [s for s in q.cmd(QUERY) if s["id"] == id]
    assert len(found) == 1, (id, q.cmd(QUERY))
    return found[0]


def ended(q, id):
    """Wait for the end of a session: its result and reason."""
    while True:
        event = q.wait_event("BACKUP_ENDED")["data"]
        if event["id"] == id:
            return event["result"], event.get("reason")


@contextlib.contextmanager
def reader(disk):
    """A client of what backup-begin or query-backups told of a disk."""
    with closing(connect(disk["uri"], [disk["context"], "base:allocation"])) as h:
        yield h


def dirty(disk):
    """The granules that are dirty, as a client of the session sees it."""
    with reader(disk) as h:
        found = []
        for offset, length in dirty_extents(h, disk["context"].removeprefix(dirty_context(""))):
            found += range(offset // GRANULE, (offset + length) // GRANULE)
        assert disk["dirty-bytes"] == len(found) * GRANULE, disk
        return found


def all_state(q):
    """Equal results show that nothing has changed."""
    return everything(q) + [q.cmd("query-checkpoints"), q.cmd(QUERY)]


def checkpoints(q):
    return [c["name"] for c in q.cmd("query-checkpoints")]


def wait_down(q):
    """After the event of a session's end, its views are deleted. No event tells of that."""
    deadline = time.monotonic() + SOON
    while q.cmd("query-views") or q.cmd("query-block-exports"):
        assert time.monotonic() < deadline


def nothing_left(q):
    assert q.cmd("query-views") == [] and q.cmd("query-block-exports") == []
    for disk in q.cmd("query-block"):
        for b in disk["inserted"].get("dirty-bitmaps", []):
            assert not b["busy"], b


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
        for more in ("abort", {}), (BEGIN, {"id": "b1"}), (BEGIN, {"id": "b3", "checkpoint": "c3"}):
            try:
                q.transaction(*actions, more)
            except Exception:
                pass
            else:
                raise AssertionError(f"{more} has not failed")
            assert all_state(q) == before
        assert q.transaction(*actions) == {}
        assert dirty(session(q, "b1")["disks"][0]) == [3]
        assert len(session(q, "b2")["disks"]) == 2
        assert checkpoints(q) == ["c1", "c3"]
        commit(q, "b2")
        assert checkpoints(q) == ["c1", "c2", "c3"]


@test
def an_abort_leaves_all_as_if_it_had_never_been():
    with Stateful("vda", "vdb", size=4 * MIB) as s:
        q = s.qmp()
        q.cmd("checkpoint-create", name="c1")
        q.cmd("block-dirty-bitmap-add", node="vda", name="mine")
        write(s, "vda", 1, 2)
        before = everything(q) + q.cmd("query-checkpoints")
        got = begin(q, "b", since="c1", checkpoint="c2", discard=True)
        with reader(got["vda"]) as h:
            h.pread(4096, 0)
            abort(q, "b")
            assert ended(q, "b") == ("abort", None)
        assert everything(q) + q.cmd("query-checkpoints") == before
        write(s, "vda", 3)
        assert dirty(begin(q, "again", since="c1")["vda"]) == [1, 2, 3]
        abort(q, "again")
        s.again(Server.kill)
        q = s.qmp()
        assert checkpoints(q) == ["c1"]
        assert "c2" not in bitmaps(q)
        assert dirty(begin(q, "again", since="c1")["vda"]) == [1, 2, 3]


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
        for name in "c1", "c2":
            try:
                q.cmd("checkpoint-delete", name=name)
            except Exception:
                pass
            else:
                raise AssertionError(f"{name} was deleted")
        assert all_state(q) == before
        abort(q, "b")
        q.cmd("checkpoint-delete", name="c1")
        assert checkpoints(q) == []


@test
def a_session_ends_once():
    with memory("vda") as s:
        q = s.qmp()
        for result, text in ("commit", "committed already"), ("abort", "aborted already"):
            begin(q, "b", checkpoint=result)
            q.cmd(END, id="b", result=result)
            for again in "commit", "abort":
                fails(q, f"Backup session 'b' was {text}", END, id="b", result=again)
            fails(q, f"Backup session 'b' was {text}", RENEW, id="b")
        assert checkpoints(q) == ["commit"]
        assert [x["state"] for x in q.cmd(QUERY)] == ["aborted"]


@test
def a_lease_ends_a_session_that_nobody_uses():
    with memory("vda") as s:
        q = s.qmp()
        reason = "its lease of 1 s has ended"
        began = time.monotonic()
        got = begin(q, "b", checkpoint="c", lease=1)
        with reader(got["vda"]):
            assert "lease-left" not in session(q, "b") and session(q, "b")["disks"][0]["clients"] == 1
            for clock in "clock1", "clock2":  # others tell that two seconds have passed
                begin(q, clock, lease=1)
                assert ended(q, clock) == ("abort", reason)
            assert time.monotonic() - began >= 2
            assert session(q, "b")["state"] == "active"
        left = time.monotonic()
        assert ended(q, "b") == ("abort", reason)
        assert time.monotonic() - left >= 0.9
        assert checkpoints(q) == [] and session(q, "b")["reason"] == reason
        fails(q, f"Backup session 'b' was aborted: {reason}", END, id="b", result="commit")
        wait_down(q)
        nothing_left(q)


@test
def a_lease_runs_since_the_last_client_left():
    with memory("vda") as s:
        q = s.qmp()
        with reader(begin(q, "b", lease=1000)["vda"]):
            begin(q, "clock", lease=2)
            assert ended(q, "clock")[0] == "abort"  # two seconds later
            leaves = time.monotonic()
        while session(q, "b")["disks"][0]["clients"] > 0:
            assert time.monotonic() < leaves + SOON
        left = session(q, "b")["lease-left"]
        assert 1000 - (time.monotonic() - leaves) <= left <= 1000, left


@test
def a_lease_begins_anew():
    with memory("vda") as s:
        q = s.qmp()
        assert begin(q, "default") and session(q, "default")["lease"] == 3600
        begin(q, "none", lease=0)
        assert session(q, "none")["lease"] == 0 and "lease-left" not in session(q, "none")
        begin(q, "b", lease=3600)
        q.cmd(RENEW, id="b", lease=1)
        assert ended(q, "b")[0] == "abort"
        begin(q, "c", lease=1)
        q.cmd(RENEW, id="c", lease=0)
        begin(q, "clock", lease=2)
        assert ended(q, "clock") == ("abort", "its lease of 2 s has ended")
        assert session(q, "c")["state"] == "active"
        q.cmd(RENEW, id="c", lease=7200)
        assert session(q, "c")["lease"] == 7200 and session(q, "c")["lease-left"] > 7000
        commit(q, "c")


@test
def the_lease_of_the_command_line():
    with memory("vda", options=("--backup-lease", "1")) as s:
        q = s.qmp()
        begin(q, "own", lease=0)
        begin(q, "b")
        assert ended(q, "b") == ("abort", "its lease of 1 s has ended")
        assert session(q, "own")["state"] == "active"
    with memory("vda", options=("--backup-lease", "0")) as s:
        q = s.qmp()
        begin(q, "b")
        assert session(q, "b")["lease"] == 0


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
def too_little_scratch_ends_the_session_alone():
    with Stateful("vda", "vdb", size=4 * MIB) as s:
        q = s.qmp()
        q.cmd("checkpoint-create", name="c1")
        write(s, "vda", *range(32), length=GRANULE)
        write(s, "vdb", *range(32), length=GRANULE)
        begin(q, "b", since="c1", checkpoint="c2", limit=MIB)
        assert session(q, "b")["scratch-limit"] == MIB
        write(s, "vda", *range(8), length=GRANULE, byte=b"y")
        write(s, "vdb", *range(20), length=GRANULE, byte=b"y")
        low = q.wait_event("SCRATCH_LOW")["data"]
        assert low["limit"] == MIB and low["used"] >= 9 * MIB // 10, low
        result, reason = ended(q, "b")
        assert result == "abort" and reason.startswith("its view of disk vdb is broken: "), reason
        fails(q, f"Backup session 'b' was aborted: {reason}", END, id="b", result="commit")
        got = begin(q, "next", since="c1")
        assert dirty(got["vda"]) == list(range(32)) == dirty(got["vdb"])
        with reader(got["vdb"]) as h:
            assert h.pread(1, 19 * GRANULE) == b"y"
        assert checkpoints(q) == ["c1"]


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


@test
def a_restart():
    for end in ENDS:
        with Stateful("vda", "vdb", size=4 * MIB) as s:
            q = s.qmp()
            begin(q, "done", checkpoint="c1")
            commit(q, "done")
            write(s, "vda", 1)
            begin(q, "open", since="c1", checkpoint="c2")
            write(s, "vda", 2)
            s.again(end)
            q = s.qmp()
            assert [(x["id"], x["state"], x["resumed"]) for x in q.cmd(QUERY)] == [
                ("done", "committed", False), ("open", "active", True)]
            assert checkpoints(q) == ["c1"] and set(bitmaps(q)) == {"c1", "c2"}
            fails(q, "Backup session 'done' was committed already", END, id="done", result="commit")
            assert dirty(session(q, "open")["disks"][0]) == [1]
            commit(q, "open")
            assert checkpoints(q) == ["c1", "c2"]
            nothing_left(q)
            assert dirty(begin(q, "open", since="c1")["vda"]) == [1, 2]
            assert [v["name"] for v in q.cmd("query-views")] == ["open/vda", "open/vdb"]


@test
def a_listener_of_its_own():
    with memory("vda") as s:
        q = s.qmp()
        path = s.path("own")
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": path}})
        got = begin(q, "b", checkpoint="c", disks=[{"disk": "vda", "export": "vda"}])
        assert got["vda"]["uri"] == f"nbd+unix:///vda?socket={path}"
        write(s, "vda", 0)
        with reader(got["vda"]) as h:
            assert h.pread(1, 0) == b"\0"
            q.cmd("nbd-server-stop")
        assert ended(q, "b") == ("abort", "the NBD server was stopped")
        assert checkpoints(q) == []
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": path}})
        begin(q, "c")
        commit(q, "c")


@test
def an_export_with_the_name_of_a_disk_over_a_restart():
    with Stateful("vda", size=4 * MIB) as s:
        q = s.qmp()
        address = {"type": "unix", "data": {"path": s.path("own")}}
        q.cmd("nbd-server-start", addr=address)
        begin(q, "b", disks=[{"disk": "vda", "export": "vda"}])
        write(s, "vda", 0)
        s.again()
        q = s.qmp()
        assert session(q, "b")["state"] == "active"
        assert "uri" not in session(q, "b")["disks"][0]  # that would be the disk
        q.cmd("nbd-server-start", addr=address)
        with reader(session(q, "b")["disks"][0]) as h:
            assert h.pread(1, 0) == b"\0"


@test
def a_view_that_somebody_else_exports_goes_later():
    with memory("vda") as s:
        q = s.qmp()
        begin(q, "b")
        q.cmd("block-export-add", type="nbd", id="mine", name="mine", **{"node-name": "b/vda"})
        commit(q, "b")
        assert [v["name"] for v in q.cmd("query-views")] == ["b/vda"]
        fails(q, "Backup session id 'b' is already in use", BEGIN, id="b")
        q.cmd("block-export-del", id="mine")
        q.wait_event("BLOCK_EXPORT_DELETED")
        wait_down(q)
        begin(q, "b")


@test
def the_last_64_are_listed():
    with Stateful("vda") as s:
        q = s.qmp()
        for number in range(70):
            begin(q, f"b{number}")
            abort(q, f"b{number}")
        expected = [f"b{number}" for number in range(6, 70)]
        assert [x["id"] for x in q.cmd(QUERY)] == expected
        s.again()
        assert [x["id"] for x in s.qmp().cmd(QUERY)] == expected


main()
