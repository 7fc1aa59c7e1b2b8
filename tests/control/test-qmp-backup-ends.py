#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Backup sessions by QMP: how they end, by a command, a lease, a lack of scratch or with the NBD server, and
what is left of them, also after a restart."""

import time

from fleece import Server
from qmp_backup import (GRANULE, abort, begin, checkpoints, commit, dirty, ended, memory,
                        nothing_left, reader, session, wait_clients_gone, wait_down, write)
from qmp_checks import bitmaps, everything, fails
from rig import MIB
from state_rig import ENDS, Stateful
from tap import main, test

BEGIN, RENEW, END, QUERY = "backup-begin", "backup-renew", "backup-end", "query-backups"


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
        wait_clients_gone(q)
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
        begin(q, "c", lease=3)
        q.cmd(RENEW, id="c", lease=0)
        begin(q, "clock", lease=4)
        assert ended(q, "clock") == ("abort", "its lease of 4 s has ended")
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
