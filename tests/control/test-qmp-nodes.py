#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server, nodes and views: what the queries show, block_resize, view-create, view-delete, and
the events of views."""

import glob
import os
import re
import time

import nbd

import fleece
from fleece import QmpError, Server, tmpdir
from qmp_checks import everything, fails, nodes, once_gone
from tap import main, test

DISKS = ("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "2M")

# QEMU 10.2's BlockDeviceInfo: every member that is not optional, with its type.
BLOCK_DEVICE_INFO = {
    "file": str, "node-name": str, "ro": bool, "drv": str, "backing_file_depth": int,
    "active": bool, "encrypted": bool, "detect_zeroes": str, "bps": int, "bps_rd": int,
    "bps_wr": int, "iops": int, "iops_rd": int, "iops_wr": int, "write_threshold": int,
    "image": dict, "cache": dict,
}  # Without `children`, which is newer than 10.0: it makes qmpbackup crash or go wrong.
DISK_INFO = {**BLOCK_DEVICE_INFO, "plugin": str}  # ours: the plugin that serves the disk


def check_types(obj, types):
    assert set(obj) == set(types), set(obj) ^ set(types)
    for name, kind in types.items():
        assert type(obj[name]) is kind, (name, obj[name])


def file_of(folder, name, size):
    path = os.path.join(folder, name)
    with open(path, "wb") as f:
        f.write(b"data" * 4096)
        f.truncate(size)
    return path


@test
def commands_about_the_server():
    with Server(*DISKS) as s:
        q = s.qmp()
        assert q.cmd("query-name") == {}
        assert q.cmd("query-status") == {"running": True, "status": "running"}
        assert set(q.cmd("query-version")) == {"qemu", "package"}
        commands = q.cmd("query-commands")
        assert all(set(c) == {"name"} for c in commands)
        names = [c["name"] for c in commands]
        assert len(names) == len(set(names))
        for name in ("qmp_capabilities", "quit", "transaction", "query-block", "view-create",
                     "block-dirty-bitmap-add", "x-debug-block-dirty-bitmap-sha256"):
            assert name in names
        for name in names:  # no command takes an argument that it does not know
            if name not in ("qmp_capabilities", "quit"):
                try:
                    q.cmd(name, **{"__no-such-argument": 1})
                except QmpError as e:
                    assert e.cls == "GenericError", e
                    assert e.desc.startswith("Parameter '"), e
                else:
                    raise AssertionError(f"{name} took an argument that it cannot know")


@test
def the_manual_has_every_command_argument_and_event():
    with open(os.path.join(fleece.SOURCE, "man", "nbdfleece-qmp.pod")) as f:
        manual = f.read()
    with Server(*DISKS) as s:
        for command in s.qmp().cmd("query-commands"):
            assert f"\n=head2 {command['name']}\n" in manual, command
    arguments, events = set(), set()
    for path in glob.glob(os.path.join(fleece.SOURCE, "server", "control", "*.c")):
        with open(path) as f:
            text = f.read()
        arguments |= set(re.findall(r'\bARG(?:_OPT)?\("([^"]+)"', text))
        events |= set(re.findall(r'\[EVENT_\w+\] = \{"(\w+)"', text))
    assert len(arguments) > 25 and len(events) >= 4
    for name in arguments:
        assert f"C<{name}>" in manual or f'"{name}":' in manual, name
    for name in events:
        assert f"=item B<{name}> C<" in manual, name


@test
def nodes_are_shown_as_qemu_shows_them():
    with tmpdir() as d:
        path = file_of(d, "disk.raw", 1 << 20)
        with Server("--disk", "vda", "file", path, "--disk", "vdb", "memory", "2M") as s:
            q = s.qmp()
            q.cmd("view-create", disk="vda", name="view")
            assert list(nodes(q)) == ["vda", "vdb", "view"]
            for name, node in nodes(q).items():
                check_types(node, BLOCK_DEVICE_INFO if name == "view" else DISK_INFO)
                assert node["node-name"] == name and node["active"] and not node["encrypted"]
                assert node["ro"] == (name == "view")
                assert node["cache"] == {"writeback": True, "direct": False, "no-flush": False}
                assert node["detect_zeroes"] == "off"
            vda, vdb, view = nodes(q).values()
            # `drv` is the format, not the plugin: it tells a client how to open a copy.
            assert (vda["drv"], vda["plugin"], vda["file"]) == ("raw", "file", path), vda
            assert vda["image"] == {
                "filename": path, "format": "raw", "virtual-size": 1 << 20,
                "actual-size": os.stat(path).st_blocks * 512}, vda["image"]
            assert (vdb["drv"], vdb["plugin"], vdb["file"]) == ("raw", "memory", ""), vdb
            assert vdb["image"] == {"filename": "", "format": "raw", "virtual-size": 2 << 20}
            assert view["drv"] == "snapshot-access" and view["file"] == ""
            assert view["image"]["format"] == "snapshot-access"
            assert view["image"]["virtual-size"] == 1 << 20
            for flat in False, True:
                assert q.cmd("query-named-block-nodes", flat=flat) == [vda, vdb, view]
            fails(q, "Invalid parameter type for 'flat', expected: boolean",
                  "query-named-block-nodes", flat=1)

            devices = q.cmd("query-block")
            assert [b["device"] for b in devices] == ["vda", "vdb"]
            for b, node in zip(devices, (vda, vdb)):
                check_types(b, {"device": str, "qdev": str, "type": str, "removable": bool,
                                "locked": bool, "inserted": dict})
                assert b["inserted"] == node and b["type"] == "unknown"

            q.cmd("block-dirty-bitmap-add", node="vdb", name="b", granularity=4096)
            assert nodes(q)["vdb"]["dirty-bitmaps"] == [{
                "name": "b", "count": 0, "granularity": 4096, "recording": True, "busy": False,
                "persistent": False, "inconsistent": False}]
            check_types(nodes(q)["vdb"], {**DISK_INFO, "dirty-bitmaps": list})
            check_types(nodes(q)["vda"], DISK_INFO)


@test
def resize():
    with tmpdir() as d:
        path = file_of(d, "disk.raw", 1 << 20)
        with Server("--disk", "vda", "file", path, "--disk", "vdb", "memory", "2M") as s:
            q = s.qmp()

            def size():
                assert os.path.getsize(path) == nodes(q)["vda"]["image"]["virtual-size"]
                return os.path.getsize(path)

            resize = "block_resize"
            fails(q, "Parameter 'size' is missing", resize, device="vda")
            fails(q, "Invalid parameter type for 'size', expected: integer", resize, device="vda",
                  size="1M")
            for bad in 18446744073709551615, 1 << 70, 1.5:
                fails(q, "Invalid parameter type for 'size', expected: integer", resize,
                      device="vda", size=bad)
            fails(q, "Cannot find device='' nor node-name=''", resize, size=-1)
            fails(q, "Cannot find device='x' nor node-name=''", resize, device="x", size=-1)
            fails(q, "Cannot find device='' nor node-name='x'", resize, size=1,
                  **{"node-name": "x"})
            fails(q, "Cannot find device='x' nor node-name='y'", resize, device="x", size=1,
                  **{"node-name": "y"})
            fails(q, "Parameter 'size' expects a >0 size", resize, device="vda", size=-1)
            assert size() == 1 << 20

            q.cmd("block-dirty-bitmap-add", node="vda", name="b")
            q.cmd(resize, device="vda", size=3 << 20)
            assert size() == 3 << 20
            assert nodes(q)["vda"]["dirty-bitmaps"][0]["count"] == 2 << 20
            q.cmd("view-create", disk="vda", name="view")
            fails(q, "Image is read-only", resize, size=1 << 20, **{"node-name": "view"})
            fails(q, "disk vda: cannot shrink while it has views", resize, device="vda",
                  size=1 << 20)
            q.cmd(resize, size=4 << 20, **{"node-name": "vda"})
            assert size() == 4 << 20 and nodes(q)["view"]["image"]["virtual-size"] == 3 << 20
            q.cmd("view-delete", name="view")
            h = s.nbd("vda")
            assert h.get_size() == 4 << 20
            fails(q, "disk vda: cannot shrink while a client is connected", resize, device="vda",
                  size=1 << 20)
            h.shutdown()
            once_gone(lambda: q.cmd("block_resize", device="vda", size=1 << 20))
            assert size() == 1 << 20
            fails(q, "Image format driver does not support resize", resize, device="vdb", size=1)


@test
def readonly_disks():
    with Server("-r", *DISKS) as s:
        q = s.qmp()
        assert [n["ro"] for n in nodes(q).values()] == [True, True]
        fails(q, "Image is read-only", "block_resize", device="vda", size=1)
        fails(q, "Cannot export read-only node as writable", "block-export-add", type="nbd", id="e",
              name="e", writable=True, **{"node-name": "vda"})
        # Nobody writes to the disk, so a bitmap does not change even while it records.
        q.cmd("block-dirty-bitmap-add", node="vda", name="on")
        q.cmd("block-export-add", type="nbd", id="e", name="e", bitmaps=["on"],
              **{"node-name": "vda"})


@test
def views():
    with Server(*DISKS) as s:
        q = s.qmp()
        assert q.cmd("query-views") == []
        before = everything(q)
        create, delete = "view-create", "view-delete"
        fails(q, "Parameter 'disk' is missing", create, name="v")
        fails(q, "Parameter 'name' is missing", create, disk="vda")
        fails(q, "Invalid parameter type for 'name', expected: string", create, disk="x", name=1)
        fails(q, "Parameter 'on-cbw-error' does not accept value 'x'", create, disk="x", name="v",
              **{"on-cbw-error": "x"})
        for bad in -1, "1M", 1.5, 1 << 63:
            fails(q, "Parameter 'scratch-limit' expects uint64", create, disk="x", name="v",
                  **{"scratch-limit": bad})
        fails(q, "Node 'x' not found", create, disk="x", name="")
        for bad in "", "1", "a b", "é", "-", "a/b", "#block1":
            fails(q, f"Invalid node-name: '{bad}'", create, disk="vda", name=bad)
        fails(q, "Node name too long", create, disk="vda", name="v" * 256)
        for taken in "vda", "vdb":
            fails(q, f"Duplicate nodes with node-name='{taken}'", create, disk="vda", name=taken)
        fails(q, "Parameter 'name' is missing", delete)
        fails(q, "Node 'x' not found", delete, name="x")
        fails(q, "Node 'vda' is not a view", delete, name="vda")
        assert everything(q) == before

        t0 = time.time()
        q.cmd(create, disk="vda", name="v" * 255)
        q.cmd(create, disk="vdb", name="second", **{"on-cbw-error": "break-guest-write",
                                                    "scratch-limit": 65536})
        q.cmd(create, disk="vda", name="third", **{"on-cbw-error": "break-snapshot"})
        t1 = time.time()
        first, third, second = q.cmd("query-views")  # by disk, oldest first
        instant = first.pop("instant")
        assert set(instant) == {"seconds", "microseconds"} and instant["microseconds"] < 1000000
        assert t0 <= instant["seconds"] + instant["microseconds"] / 1e6 + 0.001 <= t1 + 1
        assert first == {"name": "v" * 255, "disk": "vda", "size": 1 << 20, "scratch-bytes": 0,
                         "on-cbw-error": "break-snapshot", "broken": False, "in-use": False}, first
        assert third["name"] == "third" and "scratch-limit" not in third
        assert second["on-cbw-error"] == "break-guest-write" and second["scratch-limit"] == 65536
        fails(q, "Duplicate nodes with node-name='third'", create, disk="vdb", name="third")
        fails(q, "Node 'third' is not a disk", create, disk="third", name="fourth")

        q.cmd("block-export-add", type="nbd", id="e", **{"node-name": "third"})
        assert [v["in-use"] for v in q.cmd("query-views")] == [False, True, False]
        fails(q, "Node third is in use", delete, name="third")
        q.cmd("block-export-del", id="e")
        for name in "v" * 255, "third", "second":
            q.cmd(delete, name=name)
        assert q.cmd("query-views") == [] and list(nodes(q)) == ["vda", "vdb"]


@test
def a_view_whose_scratch_is_full():
    with Server(*DISKS) as s:
        q, other = s.qmp(), s.qmp()
        q.cmd("view-create", disk="vda", name="small", **{"scratch-limit": 65536})
        q.cmd("view-create", disk="vdb", name="strict",
              **{"scratch-limit": 65536, "on-cbw-error": "break-guest-write"})
        a, b = s.nbd("vda"), s.nbd("vdb")
        a.pwrite(b"a" * (1 << 20), 0)  # replaces holes, which need no scratch space
        b.pwrite(b"b" * (1 << 20), 0)
        for name in "small", "strict":
            q.cmd("view-delete", name=name)
            q.cmd("view-create", disk="vda" if name == "small" else "vdb", name=name,
                  **{"scratch-limit": 65536, "on-cbw-error": "break-snapshot" if name == "small"
                     else "break-guest-write"})
        a.pwrite(b"A" * (1 << 20), 0)  # the guest notices nothing
        for monitor in q, other:
            event = monitor.wait_event("VIEW_BROKEN")
            assert set(event["data"]) == {"name", "disk", "reason"}, event
            assert (event["data"]["name"], event["data"]["disk"]) == ("small", "vda")
            assert event["data"]["reason"], event
        shown = {v["name"]: v for v in q.cmd("query-views")}
        assert shown["small"]["broken"] and shown["small"]["reason"] == event["data"]["reason"]
        try:
            b.pwrite(b"B" * (1 << 20), 0)
        except nbd.Error as e:
            assert e.errno in ("ENOSPC", "EIO"), e
        else:
            raise AssertionError("the guest's write should have failed")
        shown = {v["name"]: v for v in q.cmd("query-views")}
        assert not shown["strict"]["broken"] and "reason" not in shown["strict"]
        a.shutdown()
        b.shutdown()


@test
def an_event_tells_that_scratch_runs_low():
    with tmpdir() as d, Server(*DISKS, "--scratch", d, "--scratch-limit", "1M") as s:
        q = s.qmp()
        h = s.nbd("vdb")
        h.pwrite(b"x" * (2 << 20), 0)
        q.cmd("view-create", disk="vdb", name="view")
        h.pwrite(b"y" * (1 << 19), 0)
        assert q.events() == []
        h.pwrite(b"y" * ((1 << 19) - 65536), 1 << 19)
        event = q.wait_event("SCRATCH_LOW")
        assert event["data"]["limit"] == 1 << 20
        assert (1 << 20) * 9 // 10 <= event["data"]["used"] <= 1 << 20, event
        h.shutdown()


main()
