#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""transaction: all arguments are checked before any effect, actions are done in order, and an
action that fails at any position leaves nothing changed."""

import os

from fleece import Server, tmpdir
from qmp_checks import IN_USE, bitmaps, everything, fails, nodes
from tap import main, test

DISKS = ("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "2M",
         "--disk", "vdc", "memory", "1M")


def action(kind, **data):
    return {"type": kind, "data": {k.replace("_", "-"): v for k, v in data.items()}}


def bitmap(verb, **data):
    return action(f"block-dirty-bitmap-{verb}", **data)


def ready(q):
    """Make something to change on every disk."""
    for disk in "vda", "vdb", "vdc":
        q.cmd("block-dirty-bitmap-add", node=disk, name="on")
        q.cmd("block-dirty-bitmap-add", node=disk, name="off", disabled=True)
        q.cmd("block-dirty-bitmap-add", node=disk, name="busy", disabled=True)
        q.cmd("block-export-add", type="nbd", id=f"e-{disk}", name=f"e-{disk}", bitmaps=["busy"],
              **{"node-name": disk})
    q.cmd("view-create", disk="vda", name="old")


# One action of each kind. They succeed alone, and in this order.
GOOD = [
    bitmap("add", node="vda", name="new"),
    bitmap("add", node="vdb", name="new", granularity=512, disabled=True),
    bitmap("clear", node="vda", name="on"),
    bitmap("disable", node="vdb", name="on"),
    bitmap("enable", node="vdc", name="off"),
    bitmap("merge", node="vda", target="new", bitmaps=["on", {"node": "vdc", "name": "on"}]),
    action("view-create", disk="vda", name="v-a"),
    action("view-create", disk="vdb", name="v-b", on_cbw_error="break-guest-write"),
    bitmap("remove", node="vdc", name="on"),
]

# Every way in which an action fails when it is run, and the text of the error.
BAD = [
    (action("abort"), "Transaction aborted using Abort action"),
    (bitmap("add", node="x", name="b"), "Cannot find device='x' nor node-name='x'"),
    (bitmap("add", node="vda", name=""), "Bitmap name cannot be empty"),
    (bitmap("add", node="vda", name="b", granularity=3),
     "Granularity must be power of 2 and at least 512"),
    (bitmap("add", node="vda", name="b", persistent=True),
     "Can't store persistent bitmaps to vda: Operation not supported"),
    (bitmap("add", node="vdc", name="off"), "Bitmap already exists: off"),
    (bitmap("add", node="vda", name="n" * 1024), f"Bitmap name too long: {'n' * 1024}"),
    (bitmap("add", node="old", name="b"), "Node 'old' is a view: bitmaps belong to disks"),
] + [
    (bitmap(verb, node=node, name=name), text)
    for verb in ("remove", "clear", "enable", "disable")
    for node, name, text in (("x", "on", "Node 'x' not found"),
                             ("vda", "none", "Dirty bitmap 'none' not found"),
                             ("old", "on", "Dirty bitmap 'on' not found"),
                             ("vdb", "busy", IN_USE % "busy"))
] + [
    (bitmap("merge", node="x", target="on", bitmaps=[]), "Node 'x' not found"),
    (bitmap("merge", node="vdb", target="none", bitmaps=[]), "Dirty bitmap 'none' not found"),
    (bitmap("merge", node="vdb", target="off", bitmaps=["on", "none"]),
     "Dirty bitmap 'none' not found"),
    (bitmap("merge", node="vdb", target="off", bitmaps=[{"node": "x", "name": "on"}]),
     "Node 'x' not found"),
    (bitmap("merge", node="vdb", target="off", bitmaps=["on", {"node": "vda", "name": "off"}]),
     "Bitmaps are of different sizes (destination size is 2097152, source size is 1048576) and "
     "can't be merged"),
    (bitmap("merge", node="vdb", target="busy", bitmaps=["on"]), IN_USE % "busy"),
    (bitmap("merge", node="vdb", target="on", bitmaps=["busy"]), IN_USE % "busy"),
    (action("view-create", disk="x", name="v"), "Node 'x' not found"),
    (action("view-create", disk="old", name="v"), "Node 'old' is not a disk"),
    (action("view-create", disk="vda", name="vda"), "Duplicate nodes with node-name='vda'"),
    (action("view-create", disk="vda", name="old"), "Duplicate nodes with node-name='old'"),
    (action("view-create", disk="vda", name="1"), "Invalid node-name: '1'"),
    (action("view-create", disk="vda", name=""), "Invalid node-name: ''"),
    (action("view-create", disk="vda", name="a/b"), "Invalid node-name: 'a/b'"),
    (action("view-create", disk="vda", name="v" * 256), "Node name too long"),
]

# Actions that fail because of an action of GOOD before them.
BAD_AFTER_GOOD = [
    (bitmap("add", node="vda", name="new"), "Bitmap already exists: new"),
    (bitmap("add", node="vdc", name="on"), "Bitmap already exists: on"),
    (bitmap("clear", node="vdc", name="on"), IN_USE % "on"),
    (bitmap("remove", node="vdc", name="on"), IN_USE % "on"),
    (bitmap("enable", node="vdc", name="on"), IN_USE % "on"),
    (bitmap("disable", node="vdc", name="on"), IN_USE % "on"),
    (bitmap("merge", node="vdc", target="on", bitmaps=["off"]), IN_USE % "on"),
    (bitmap("merge", node="vdc", target="off", bitmaps=["on"]), IN_USE % "on"),
    (bitmap("merge", node="vda", target="new", bitmaps=[{"node": "vdc", "name": "on"}]),
     IN_USE % "on"),
    (action("view-create", disk="vdc", name="v-a"), "Duplicate nodes with node-name='v-a'"),
]


@test
def a_transaction_that_fails_anywhere_changes_nothing():
    with Server(*DISKS) as s:
        q = s.qmp()
        ready(q)
        h = s.nbd("vda")
        h.pwrite(b"x" * 70000, 0)
        before = everything(q)
        for bad, text in BAD:
            for position in range(len(GOOD) + 1):
                fails(q, text, "transaction", actions=GOOD[:position] + [bad] + GOOD[position:])
                if position in (0, 4, len(GOOD)):
                    assert everything(q) == before, (bad, position)
            assert everything(q) == before, bad
        for bad, text in BAD_AFTER_GOOD:
            fails(q, text, "transaction", actions=GOOD + [bad])
            assert everything(q) == before, bad
        # Nothing of the failed transactions is left in the way of guests, either.
        h.pwrite(b"y" * 70000, 1 << 19)
        assert bitmaps(q)["on"]["count"] == 2 * 2 * 65536
        q.cmd("transaction", actions=GOOD)
        assert [v["name"] for v in q.cmd("query-views")] == ["old", "v-a", "v-b"]
        h.shutdown()


@test
def failed_transactions_leave_no_scratch_files():
    with tmpdir() as d, Server(*DISKS, "--scratch", d) as s:
        q = s.qmp()

        def deleted_files():
            links = []
            for fd in os.listdir(f"/proc/{s.pid}/fd"):
                link = os.readlink(f"/proc/{s.pid}/fd/{fd}")
                if link.startswith(d):
                    links.append(link)
            return links

        for _ in range(20):
            fails(q, "Transaction aborted using Abort action", "transaction", actions=[
                action("view-create", disk="vda", name="v0"),
                action("view-create", disk="vda", name="v1"),
                action("view-create", disk="vdb", name="v2"), action("abort")])
        assert deleted_files() == [] and os.listdir(d) == []
        assert q.cmd("query-views") == []


@test
def actions_see_what_those_before_them_did():
    with Server(*DISKS) as s:
        q = s.qmp()
        h = s.nbd("vda")
        q.cmd("block-dirty-bitmap-add", node="vda", name="b0")
        h.pwrite(b"x", 65536 * 2)
        q.cmd("transaction", actions=[
            bitmap("add", node="vda", name="all", disabled=True),
            bitmap("merge", node="vda", target="all", bitmaps=["b0"]),
            bitmap("clear", node="vda", name="b0"),
            bitmap("add", node="vda", name="after"),
            bitmap("merge", node="vda", target="after", bitmaps=["b0"]),
            bitmap("enable", node="vda", name="all"),
            bitmap("disable", node="vda", name="all"),
            bitmap("add", node="vda", name="gone"),
            bitmap("remove", node="vda", name="gone"),
        ])
        shown = bitmaps(q)
        assert {k: (v["count"], v["recording"]) for k, v in shown.items()} == {
            "b0": (0, True), "all": (65536, False), "after": (0, True)}, shown
        h.pwrite(b"x", 0)
        assert bitmaps(q)["all"]["count"] == 65536 and bitmaps(q)["after"]["count"] == 65536
        h.shutdown()


@test
def views_of_several_disks_at_one_instant():
    with Server(*DISKS) as s:
        q = s.qmp()
        handles = {disk: s.nbd(disk) for disk in ("vda", "vdb")}
        for h in handles.values():
            h.pwrite(b"old" * 100, 0)
        q.cmd("transaction", actions=[action("view-create", disk="vda", name="va"),
                                      action("view-create", disk="vdb", name="vb"),
                                      bitmap("add", node="vda", name="since"),
                                      bitmap("add", node="vdb", name="since")])
        for h in handles.values():
            h.pwrite(b"new" * 100, 0)
        views = q.cmd("query-views")
        assert [v["disk"] for v in views] == ["vda", "vdb"]
        assert views[0]["instant"] == views[1]["instant"], views
        for name, disk in ("va", "vda"), ("vb", "vdb"):
            q.cmd("block-export-add", type="nbd", id=name, **{"node-name": name})
            view = s.nbd(name)
            assert view.pread(300, 0) == b"old" * 100
            view.shutdown()
            assert bitmaps(q, disk)["since"]["count"] == 65536
        for h in handles.values():
            h.shutdown()


@test
def arguments_are_checked_before_any_effect():
    with Server(*DISKS) as s:
        q = s.qmp()
        ready(q)
        before = everything(q)
        add = bitmap("add", node="vda", name="t")
        data = add["data"]
        for actions, text in [
            (1, "Invalid parameter type for 'actions', expected: array"),
            (["x"], "Invalid parameter type for 'actions[0]', expected: object"),
            ([add, {}], "Parameter 'actions[1].type' is missing"),
            ([add, {"type": 1}], "Invalid parameter type for 'actions[1].type', expected: string"),
            ([add, {"type": "x", "data": {}}], "Parameter 'type' does not accept value 'x'"),
            ([add, {"type": "block-export-add", "data": {}}],
             "Parameter 'type' does not accept value 'block-export-add'"),
            ([add, {"type": "abort"}], "Parameter 'actions[1].data' is missing"),
            ([add, {"type": "abort", "data": []}],
             "Invalid parameter type for 'actions[1].data', expected: object"),
            ([add, {"type": "abort", "data": {"x": 1}}],
             "Parameter 'actions[1].data.x' is unexpected"),
            ([add, {**add, "x": 1}], "Parameter 'actions[1].x' is unexpected"),
            ([add, {**add, "data": {"name": "b"}}], "Parameter 'actions[1].data.node' is missing"),
            ([add, {**add, "data": {**data, "node": None}}],
             "Invalid parameter type for 'actions[1].data.node', expected: string"),
            ([add, {**add, "data": {**data, "granularity": -1}}],
             "Parameter 'granularity' expects uint32_t"),
            ([add, action("view-create", disk="vda", name="v", on_cbw_error="x")],
             "Parameter 'on-cbw-error' does not accept value 'x'"),
            ([add, action("view-create", disk="vda", name="v", scratch_limit=-1)],
             "Parameter 'actions[1].data.scratch-limit' expects uint64"),
            ([bitmap("merge", node="vda", target="on", bitmaps=[{"node": "vda"}])],
             "Parameter 'actions[0].data.bitmaps[0].name' is missing"),
        ]:
            fails(q, text, "transaction", actions=actions)
            assert everything(q) == before, actions
        fails(q, "Parameter 'actions' is missing", "transaction")
        fails(q, "Parameter 'x' is unexpected", "transaction", actions=[add], x=1)
        assert everything(q) == before


@test
def properties():
    with Server(*DISKS) as s:
        q = s.qmp()
        add = bitmap("add", node="vda", name="t")
        grouped = {"completion-mode": "grouped"}
        fails(q, "Parameter 'completion-mode' does not accept value 'x'", "transaction",
              actions=[add], properties={"completion-mode": "x"})
        fails(q, "Parameter 'properties.x' is unexpected", "transaction", actions=[add],
              properties={"x": 1})
        fails(q, "Invalid parameter type for 'properties', expected: object", "transaction",
              actions=[add], properties=[])
        for one in [add, bitmap("clear", node="x", name="x"), action("abort"),
                    action("view-create", disk="vda", name="v")]:
            fails(q, f"Action '{one['type']}' does not support transaction property "
                  "completion-mode = grouped", "transaction", actions=[one, add],
                  properties=grouped)
        assert bitmaps(q) == {}
        assert q.cmd("transaction", actions=[], properties=grouped) == {}
        assert q.cmd("transaction", actions=[]) == {}
        assert q.cmd("transaction", actions=[add], properties={}) == {}
        q.cmd("transaction", actions=[bitmap("remove", node="vda", name="t")],
              properties={"completion-mode": "individual"})
        assert bitmaps(q) == {}


@test
def a_long_transaction():
    with Server(*DISKS) as s:
        q = s.qmp()
        q.cmd("transaction", actions=[bitmap("add", node="vda", name=f"b{i}", granularity=1 << 20)
                                      for i in range(500)])
        assert len(bitmaps(q)) == 500
        fails(q, "Bitmap already exists: b499", "transaction", actions=[
            bitmap("add", node="vda", name=f"b{i}") for i in range(500, 600)] +
            [bitmap("add", node="vda", name="b499")])
        assert len(bitmaps(q)) == 500
        q.cmd("transaction", actions=[bitmap("remove", node="vda", name=f"b{i}")
                                      for i in range(500)])
        assert "dirty-bitmaps" not in nodes(q)["vda"]


main()
