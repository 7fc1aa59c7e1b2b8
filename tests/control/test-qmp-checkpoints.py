#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Checkpoints by QMP: arguments and texts, what their bitmaps record, who may change them, transactions,
and what is there after a restart."""

import re

from qmp_backup import GRANULE, all_state, memory, write
from qmp_checks import IN_USE, bitmaps, fails
from qmp_exports import closing
from rig import dirty_context, dirty_extents, granules
from state_rig import ENDS, MIB, Stateful, wait_clock, write_behind
from tap import main, test

CREATE, DELETE, QUERY = "checkpoint-create", "checkpoint-delete", "query-checkpoints"
ADD, MERGE, REMOVE = "block-dirty-bitmap-add", "block-dirty-bitmap-merge", "block-dirty-bitmap-remove"
READONLY = "Bitmap '%s' is readonly and cannot be modified"


def checkpoints(q):
    """{name: {disk: what is told of it}}, in order."""
    return {c["name"]: {d["disk"]: d for d in c["disks"]} for c in q.cmd(QUERY)}


def recorded(s, q, disk, name):
    """The granules that are dirty in a checkpoint's bitmap."""
    q.cmd(ADD, node=disk, name="probe", disabled=True, persistent=False)
    q.cmd(MERGE, node=disk, target="probe", bitmaps=[name])
    with closing(s.nbd(disk, contexts=[dirty_context("probe")])) as h:
        found = granules(dirty_extents(h, "probe"))
    q.cmd(REMOVE, node=disk, name="probe")
    return found


@test
def arguments():
    with memory("vda", "vdb") as s:
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="v")
        q.cmd(CREATE, name="taken")
        q.cmd(ADD, node="vdb", name="b")
        before = all_state(q)
        # Each request also has the faults of the requests below it.
        fails(q, "Parameter 'name' is missing", CREATE, disks=["x"], granularity=-1)
        fails(q, "Invalid parameter type for 'disks', expected: array", CREATE, name="", disks="vda")
        fails(q, "Invalid parameter type for 'disks[1]', expected: string", CREATE, name="",
              disks=["vda", 1])
        fails(q, "Parameter 'granularity' expects uint32_t", CREATE, name="", disks=["x"],
              granularity=-1)
        fails(q, "Cannot find device='' nor node-name='x'", CREATE, name="", disks=["vda", "x"],
              granularity=0)
        fails(q, "Node 'v' is not a disk", CREATE, name="", disks=["v"], granularity=0)
        fails(q, "Disk 'vda' is named twice", CREATE, name="", disks=["vda", "vdb", "vda"],
              granularity=0)
        for bad in 0, 256, 513:
            fails(q, "Granularity must be power of 2 and at least 512", CREATE, name="",
                  granularity=bad)
        fails(q, "Checkpoint name cannot be empty", CREATE, name="", description="d" * 5000)
        fails(q, f"Checkpoint name too long: {'é' * 128}", CREATE, name="é" * 128,
              description="d" * 5000)
        fails(q, "Description of checkpoint 'taken' is too long", CREATE, name="taken",
              description="d" * 4097, disks=[])
        fails(q, "Checkpoint 'taken' has no disks", CREATE, name="taken", disks=[])
        fails(q, "Checkpoint already exists: taken", CREATE, name="taken")
        fails(q, "Bitmap already exists: b", CREATE, name="b")
        fails(q, "Checkpoint 'b' not found", DELETE, name="b")
        fails(q, "Parameter 'name' is missing", DELETE)
        fails(q, "Parameter 'x' is unexpected", QUERY, x=1)
        assert all_state(q) == before
        q.cmd(CREATE, name="b", disks=["vda"])  # the other disk's bitmap does not matter


@test
def what_is_shown():
    with memory("vda", "vdb") as s:
        q = s.qmp()
        assert q.cmd(QUERY) == []
        assert q.cmd(CREATE, name="mon") == {}
        q.cmd(CREATE, name="tue", disks=["vdb"], description="é \"quoted\"", granularity=4096)
        write(s, "vdb", 3)
        mon, tue = q.cmd(QUERY)
        shape = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
        assert shape.fullmatch(mon["time"]) and shape.fullmatch(tue["time"])
        assert mon["time"] <= tue["time"]
        assert {k: v for k, v in mon.items() if k != "time"} == {"name": "mon", "disks": [
            {"disk": "vda", "bitmap": "mon", "valid": True, "granularity": GRANULE, "dirty-bytes": 0},
            {"disk": "vdb", "bitmap": "mon", "valid": True, "granularity": GRANULE,
             "dirty-bytes": GRANULE}]}
        assert {k: v for k, v in tue.items() if k != "time"} == {
            "name": "tue", "parent": "mon", "description": "é \"quoted\"", "disks": [
                {"disk": "vdb", "bitmap": "tue", "valid": True, "granularity": 4096,
                 "dirty-bytes": 4096}]}
        assert bitmaps(q, "vdb")["tue"] == {
            "name": "tue", "count": 4096, "granularity": 4096, "recording": True, "busy": False,
            "persistent": False, "inconsistent": False, "checkpoint": "tue"}
        assert "tue" not in bitmaps(q)
        longest = "é" * 127 + "x"
        q.cmd(CREATE, name=longest)
        assert list(checkpoints(q)) == ["mon", "tue", longest]
        assert q.cmd(QUERY)[2]["parent"] == "tue"


@test
def each_records_on_its_own():
    """Also the one in the middle is deleted without harm to the others, and gives its parent to the
    next one."""
    with memory("vda") as s:
        q = s.qmp()
        for i, name in enumerate(("one", "two", "three")):
            q.cmd(CREATE, name=name)
            write(s, "vda", i)
        assert recorded(s, q, "vda", "one") == [0, 1, 2]
        assert recorded(s, q, "vda", "two") == [1, 2]
        assert recorded(s, q, "vda", "three") == [2]
        q.cmd(DELETE, name="two")
        told = q.wait_event("CHECKPOINT_DELETED")
        assert told["data"] == {"name": "two", "reason": "checkpoint-delete"}
        write(s, "vda", 7)
        assert recorded(s, q, "vda", "one") == [0, 1, 2, 7]
        assert recorded(s, q, "vda", "three") == [2, 7]
        assert list(bitmaps(q)) == ["one", "three"]
        assert q.cmd(QUERY)[1]["parent"] == "one"
        fails(q, "Checkpoint 'two' not found", DELETE, name="two")
        q.cmd(CREATE, name="two")
        assert recorded(s, q, "vda", "two") == []
        assert list(checkpoints(q)) == ["one", "three", "two"]


@test
def its_bitmaps_are_readonly():
    with memory("vda", "vdb") as s:
        q = s.qmp()
        q.cmd(CREATE, name="c")
        q.cmd(ADD, node="vdb", name="mine")
        write(s, "vda", 5)
        before = all_state(q)
        for command in (REMOVE, "block-dirty-bitmap-clear", "block-dirty-bitmap-enable",
                        "block-dirty-bitmap-disable", "block-dirty-bitmap-populate"):
            fails(q, READONLY % "c", command, node="vda", name="c")
        fails(q, READONLY % "c", "block-dirty-bitmap-set-persistence", node="vda", name="c",
              persistent=False)
        fails(q, READONLY % "c", MERGE, node="vdb", target="c", bitmaps=["mine"])
        fails(q, "Bitmap already exists: c", ADD, node="vda", name="c")
        assert all_state(q) == before
        # To read it is allowed, also from another disk's.
        q.cmd(MERGE, node="vdb", target="mine", bitmaps=[{"node": "vda", "name": "c"}, "c"])
        assert bitmaps(q, "vdb")["mine"]["count"] == GRANULE


@test
def exports_of_its_bitmaps():
    """A live export does not show them. One that is named for an export is busy, and is not deleted."""
    with memory("vda") as s:
        q = s.qmp()
        q.cmd(ADD, node="vda", name="b")
        q.cmd(CREATE, name="c")
        h = s.nbd("vda", contexts=["qemu:dirty-bitmap:b", "qemu:dirty-bitmap:c"])
        assert h.can_meta_context("qemu:dirty-bitmap:b")
        assert not h.can_meta_context("qemu:dirty-bitmap:c")
        h.shutdown()
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": s.path("nbd")}})
        q.cmd("block-export-add", type="nbd", id="e", **{"node-name": "vda"}, writable=True,
              bitmaps=["c"])
        before = all_state(q)
        fails(q, IN_USE % "c", DELETE, name="c")
        assert all_state(q) == before
        q.cmd("block-export-del", id="e")
        q.wait_event("BLOCK_EXPORT_DELETED")
        q.cmd(DELETE, name="c")
        assert q.cmd(QUERY) == [] and list(bitmaps(q)) == ["b"]


@test
def transactions():
    """With other actions, at one instant; one that fails leaves nothing."""
    with memory("vda", "vdb") as s:
        q = s.qmp()
        q.cmd(ADD, node="vda", name="old")
        before = all_state(q)
        two = [(CREATE, {"name": "x"}), (CREATE, {"name": "y", "disks": ["vdb"]})]
        for bad, text in (
                ([("abort", {})], "Transaction aborted using Abort action"),
                ([(CREATE, {"name": "x"})], "Checkpoint already exists: x"),
                ([(ADD, {"node": "vdb", "name": "y"})], "Bitmap already exists: y"),
                ([(REMOVE, {"node": "vdb", "name": "y"})], READONLY % "y"),
                ([(REMOVE, {"node": "vda", "name": "old"}), (CREATE, {"name": "old"})],
                 "Bitmap already exists: old")):
            actions = [{"type": t, "data": d} for t, d in two + bad]
            fails(q, text, "transaction", actions=actions)
            assert all_state(q) == before
        actions = [{"type": t, "data": d} for t, d in two + [
            ("view-create", {"disk": "vda", "name": "v"}),
            (MERGE, {"node": "vda", "target": "old", "bitmaps": ["x"]})]]
        q.cmd("transaction", actions=actions)
        assert list(checkpoints(q)) == ["x", "y"]
        assert list(checkpoints(q)["y"]) == ["vdb"]
        # It does not stand in its own way later.
        q.cmd(DELETE, name="x")
        q.cmd(CREATE, name="x")


@test
def growth_is_dirty():
    with Stateful("vda") as s:
        q = s.qmp()
        q.cmd(CREATE, name="c")
        q.cmd("block_resize", **{"node-name": "vda"}, size=2 * MIB)
        assert checkpoints(q)["c"]["vda"]["dirty-bytes"] == MIB


@test
def populate():
    with memory("vda") as s:
        q = s.qmp()
        q.cmd(ADD, node="vda", name="b", disabled=True)
        write(s, "vda", 3, 9)
        q.cmd("block-dirty-bitmap-populate", node="vda", name="b")
        # A memory disk keeps pages of 32 KiB.
        assert recorded(s, q, "vda", "b") == [3, 9]
        fails(q, "Dirty bitmap 'x' not found", "block-dirty-bitmap-populate", node="vda", name="x")
        fails(q, "Node 'x' not found", "block-dirty-bitmap-populate", node="x", name="b")
        q.cmd("block-dirty-bitmap-clear", node="vda", name="b")
        q.transaction(("block-dirty-bitmap-populate", {"node": "vda", "name": "b"}),
                      (CREATE, {"name": "c"}))
        assert recorded(s, q, "vda", "b") == [3, 9]


@test
def they_survive():
    for end in ENDS:
        with Stateful("vda", "vdb") as s:
            q = s.qmp()
            q.cmd(CREATE, name="one", description="first")
            write(s, "vda", 1)
            q.cmd(CREATE, name="two", disks=["vdb"])
            q.cmd(CREATE, name="gone")
            write(s, "vdb", 2)
            q.cmd(DELETE, name="gone")
            before = q.cmd(QUERY)
            s.again(end)
            q = s.qmp()
            assert q.cmd(QUERY) == before, (before, q.cmd(QUERY))
            assert bitmaps(q)["one"]["persistent"] and bitmaps(q)["one"]["checkpoint"] == "one"
            fails(q, READONLY % "one", REMOVE, node="vda", name="one")
            fails(q, "Checkpoint already exists: two", CREATE, name="two", disks=["vda"])
            write(s, "vda", 3)
            assert recorded(s, q, "vda", "one") == [1, 3]
            assert recorded(s, q, "vdb", "one") == recorded(s, q, "vdb", "two") == [2]
            q.cmd(DELETE, name="one")
            s.again(end)
            assert list(checkpoints(s.qmp())) == ["two"]
            assert bitmaps(s.qmp()) == {}


@test
def disks_that_are_not_served():
    """A checkpoint keeps its part of them. When it is deleted, their bitmaps go as soon as they are served
    again."""
    for end in ENDS:
        with Stateful("vda", "vdb", "vdc") as s:
            q = s.qmp()
            q.cmd(CREATE, name="kept", disks=["vda", "vdb"])
            q.cmd(CREATE, name="deleted")
            q.cmd(CREATE, name="far", disks=["vdb", "vdc"])
            write(s, "vdb", 4)
            all_disks = s.disks
            s.disks = all_disks[:1]
            s.again(end)
            q = s.qmp()
            away = {"disk": "vdb", "bitmap": "kept", "valid": False, "reason": "the disk is not served"}
            assert checkpoints(q)["kept"]["vdb"] == away
            q.cmd(DELETE, name="deleted")
            q.cmd(DELETE, name="far")
            assert list(checkpoints(q)) == ["kept"] and list(bitmaps(q)) == ["kept"]
            s.disks = all_disks[:2]
            s.again(end)
            s.disks = all_disks
            s.again(end)
            q = s.qmp()
            assert list(checkpoints(q)) == ["kept"]
            assert {d: list(bitmaps(q, d)) for d in ("vda", "vdb", "vdc")} == {
                "vda": ["kept"], "vdb": ["kept"], "vdc": []}
            assert recorded(s, q, "vdb", "kept") == [4]
            for name in "far", "deleted":
                q.cmd(CREATE, name=name)


@test
def what_is_inconsistent_is_no_base():
    """Somebody writes to one image behind the server's back. The other disk's part stays good, and the
    checkpoint can be deleted."""
    with Stateful("vda", "vdb") as s:
        s.qmp().cmd(CREATE, name="c")
        write(s, "vdb", 2)
        s.stop()
        wait_clock(s.image("vda"))
        write_behind(s.image("vda"), 0, b"y")
        s.set_args()
        s.start()
        q = s.qmp()
        parts = checkpoints(q)["c"]
        reason = bitmaps(q)["c"]["inconsistent-reason"]
        assert parts["vda"] == {"disk": "vda", "bitmap": "c", "valid": False, "granularity": GRANULE,
                                "reason": f"its bitmap is inconsistent: {reason}"}
        assert parts["vdb"]["valid"] and recorded(s, q, "vdb", "c") == [2]
        fails(q, READONLY % "c", "block-dirty-bitmap-clear", node="vda", name="c")
        begun = q.cmd("backup-begin", id="b", since="c")
        assert [(d["mode"], d.get("reason")) for d in begun] == [
            ("full", parts["vda"]["reason"]), ("incremental", None)], begun
        q.cmd("backup-end", id="b", result="abort")
        fails(q, "disk vda: no backup since checkpoint 'c' is possible: " + parts["vda"]["reason"],
              "backup-begin", id="b", since="c", mode="strict")
        q.cmd(DELETE, name="c")
        assert q.cmd(QUERY) == [] and bitmaps(q) == bitmaps(q, "vdb") == {}


main()
