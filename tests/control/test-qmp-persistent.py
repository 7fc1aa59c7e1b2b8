#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Persistent bitmaps by QMP: who is persistent, transactions that are durable when they are answered,
and what an inconsistent bitmap still can do."""

import glob
import os

from fleece import Server
from qmp_checks import bitmaps, everything, fails
from state_rig import ENDS, MIB, Stateful, write_behind
from tap import main, test

ADD = "block-dirty-bitmap-add"
SET = "block-dirty-bitmap-set-persistence"
NO_STORE = "Can't store persistent bitmaps to %s: Operation not supported"
INCONSISTENT = "Bitmap '%s' is inconsistent and cannot be used: %s"


@test
def without_a_store():
    with Server("--disk", "vda", "memory", "1M") as s:
        q = s.qmp()
        fails(q, NO_STORE % "vda", ADD, node="vda", name="b", persistent=True)
        q.cmd(ADD, node="vda", name="b")
        assert bitmaps(q)["b"]["persistent"] is False
        fails(q, NO_STORE % "vda", SET, node="vda", name="b", persistent=True)
        q.cmd(SET, node="vda", name="b", persistent=False)
        assert bitmaps(q)["b"]["persistent"] is False
        assert "state-recovery" not in q.cmd("query-block")[0]["inserted"]


@test
def arguments_of_set_persistence():
    with Stateful("vda", "vdb") as s:
        q = s.qmp()
        q.cmd(ADD, node="vda", name="b")
        before = everything(q)
        fails(q, "Parameter 'persistent' is missing", SET, node="vda", name="b")
        fails(q, "Invalid parameter type for 'persistent', expected: boolean", SET, node="vda", name="b",
              persistent=1)
        fails(q, "Node 'x' not found", SET, node="x", name="b", persistent=True)
        fails(q, "Dirty bitmap 'x' not found", SET, node="vda", name="x", persistent=True)
        fails(q, "Dirty bitmap 'b' not found", SET, node="vdb", name="b", persistent=False)
        assert everything(q) == before


@test
def defaults():
    with Stateful("vda") as s:
        q = s.qmp()
        q.cmd(ADD, node="vda", name="default")
        q.cmd(ADD, node="vda", name="yes", persistent=True)
        q.cmd(ADD, node="vda", name="no", persistent=False)
        assert {n: b["persistent"] for n, b in bitmaps(q).items()} == {
            "default": True, "yes": True, "no": False}
        q.cmd("view-create", disk="vda", name="v")
        fails(q, "Node 'v' is a view: bitmaps belong to disks", ADD, node="v", name="b")


@test
def persistence_both_ways():
    """The bits stay as they are, also those that are set meanwhile; what a bitmap is when the server
    ends counts."""
    for end in ENDS:
        with Stateful("vda") as s:
            q = s.qmp()
            q.cmd(ADD, node="vda", name="comes", persistent=False)
            q.cmd(ADD, node="vda", name="goes")
            s.write("vda", 0, 1)
            q.cmd(SET, node="vda", name="comes", persistent=True)
            q.cmd(SET, node="vda", name="goes", persistent=False)
            s.write("vda", 131072, 1)
            both = [(0, 65536), (131072, 65536)]
            assert s.dirty("vda", "comes") == s.dirty("vda", "goes") == both
            q.cmd(SET, node="vda", name="comes", persistent=True)  # no change
            s.again(end)
            assert s.dirty("vda", "comes") == both
            assert s.bitmap("vda", "goes") is None


@test
def transactions_over_disks():
    """What was answered has happened, on all disks, whenever the server dies."""
    for end in ENDS:
        with Stateful("vda", "vdb") as s:
            q = s.qmp()
            for disk in "vda", "vdb":
                q.cmd(ADD, node=disk, name="old")
                s.write(disk, 0, 1)
            q.transaction(*[(t, d) for disk in ("vda", "vdb") for t, d in (
                ("block-dirty-bitmap-disable", {"node": disk, "name": "old"}),
                (ADD, {"node": disk, "name": "new"}),
                ("view-create", {"disk": disk, "name": f"{disk}-view"}))])
            for disk in "vda", "vdb":
                s.write(disk, 131072, 1)
            s.again(end)
            for disk in "vda", "vdb":
                assert s.dirty(disk, "old") == [(0, 65536)]
                assert s.dirty(disk, "new") == [(131072, 65536)]
                assert not s.bitmap(disk, "old")["recording"]
            q = s.qmp()
            assert q.cmd("query-views") == []
            q.transaction(
                ("block-dirty-bitmap-merge", {"node": "vda", "target": "new",
                                              "bitmaps": [{"node": "vdb", "name": "old"}]}),
                ("block-dirty-bitmap-remove", {"node": "vda", "name": "old"}),
                ("block-dirty-bitmap-clear", {"node": "vdb", "name": "new"}),
                (SET, {"node": "vdb", "name": "old", "persistent": False}))
            s.again(end)
            assert s.dirty("vda", "new") == [(0, 65536), (131072, 65536)]
            assert s.dirty("vdb", "new") == []
            assert s.bitmap("vda", "old") is None and s.bitmap("vdb", "old") is None


@test
def a_transaction_that_fails_leaves_nothing():
    with Stateful("vda", "vdb") as s:
        q = s.qmp()
        q.cmd(ADD, node="vda", name="b")
        s.write("vda", 0, 1)
        before = everything(q)
        fails(q, "Dirty bitmap 'none' not found", "transaction", actions=[
            {"type": "block-dirty-bitmap-clear", "data": {"node": "vda", "name": "b"}},
            {"type": ADD, "data": {"node": "vdb", "name": "c"}},
            {"type": SET, "data": {"node": "vda", "name": "b", "persistent": False}},
            {"type": "block-dirty-bitmap-remove", "data": {"node": "vdb", "name": "none"}}])
        assert everything(q) == before
        s.again(Server.kill)
        assert s.dirty("vda", "b") == [(0, 65536)]
        assert s.bitmap("vdb", "c") is None
        assert sorted(os.listdir(f"{s.state}/bits")) != []


def inconsistent(s):
    """Make bitmap b of vda inconsistent by a write behind the server's back: the reason."""
    q = s.qmp()
    q.cmd(ADD, node="vda", name="b")
    s.stop()
    write_behind(s.image("vda"), 0, b"foreign")
    s.start()
    return s.reason("vda", "b")


@test
def all_commands_refuse_an_inconsistent_bitmap():
    with Stateful("vda") as s:
        text = INCONSISTENT % ("b", inconsistent(s))
        q = s.qmp()
        q.cmd(ADD, node="vda", name="good")
        b = {"node": "vda", "name": "b"}
        for command in "enable", "disable":
            fails(q, text, f"block-dirty-bitmap-{command}", **b)
        fails(q, text, SET, persistent=False, **b)
        fails(q, text, SET, persistent=True, **b)
        merge = "block-dirty-bitmap-merge"
        fails(q, text, merge, node="vda", target="b", bitmaps=["good"])
        fails(q, text, merge, node="vda", target="good", bitmaps=["b"])
        fails(q, text, merge, node="vda", target="good", bitmaps=[b])
        fails(q, text, "x-debug-block-dirty-bitmap-sha256", **b)
        add = {"type": "nbd", "id": "e", "node-name": "vda", "name": "e"}
        fails(q, text, "block-export-add", **add, writable=True, bitmaps=["b"])
        fails(q, text, "block-export-add", **add, bitmaps=[b])
        fails(q, f"Bitmap already exists: b", ADD, **b)
        fails(q, text, "transaction", actions=[
            {"type": "block-dirty-bitmap-clear", "data": {"node": "vda", "name": "good"}},
            {"type": "block-dirty-bitmap-disable", "data": b}])
        q.cmd("block_resize", device="vda", size=2 * MIB)
        assert s.reason("vda", "b")
        q.cmd("block-dirty-bitmap-remove", **b)
        s.again()
        assert s.bitmap("vda", "b") is None and s.bitmap("vda", "good")


@test
def cleared_in_a_transaction():
    """A clear makes it good for the actions after it."""
    with Stateful("vda") as s:
        inconsistent(s)
        q = s.qmp()
        b = {"node": "vda", "name": "b"}
        q.transaction(("block-dirty-bitmap-clear", b), ("block-dirty-bitmap-disable", b))
        s.write("vda", 0, 1)
        assert s.bitmap("vda", "b")["recording"] is False
        q.cmd("block-dirty-bitmap-enable", **b)
        s.write("vda", 65536, 1)
        s.again(Server.kill)
        assert s.dirty("vda", "b") == [(65536, 65536)]


@test
def a_bitmap_that_breaks():
    """Somebody cuts the file of its bits in memory short while the server runs: an event and the log
    say so, and guests go on."""
    with Stateful("vda") as s:
        q = s.qmp()
        q.cmd(ADD, node="vda", name="b")
        q.cmd(ADD, node="vda", name="memory", persistent=False)
        file, = os.listdir(f"{s.state}/bits")
        path, = glob.glob(f"/dev/shm/nbdfleece-*/bits/{file}")
        os.truncate(path, 0)
        s.write("vda", 65536, 1)
        event = q.wait_event("BITMAP_INCONSISTENT")
        reason = event["data"].pop("reason")
        assert event["data"] == {"node": "vda", "name": "b"} and reason, event
        assert event["timestamp"]["seconds"] > 0
        assert s.reason("vda", "b") == reason
        assert f"bitmap b of disk vda is inconsistent: {reason}\n" in s.log(), s.log()
        assert s.dirty("vda", "memory") == [(65536, 65536)]
        s.write("vda", 131072, 1)
        s.again()
        s.reason("vda", "b")
        q = s.qmp()
        q.cmd("block-dirty-bitmap-clear", node="vda", name="b")
        s.write("vda", 65536, 1)
        s.again(Server.kill)
        assert s.dirty("vda", "b") == [(65536, 65536)]


main()
