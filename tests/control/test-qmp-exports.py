#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""block-export-add and -del, query-block-exports: the order of the checks, the texts, and what NBD
clients then see."""

import contextlib
import os
import socket
import subprocess

import fleece
from fleece import Qmp, Server, tmpdir
from qmp_checks import IN_USE, bitmaps, fails
from qmp_exports import ADD, DEL, DISKS, closing, export, export_fails
from tap import main, test


@test
def add_checks_in_qemus_order():
    with Server(*DISKS) as s:
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="view")
        q.cmd("block-dirty-bitmap-add", node="vda", name="on")
        export(q, "taken", "view", name="taken")
        long, used = "n" * 4097, ["none"]
        for bad in "", "1", "-x", "a b", "é", "a/b":
            export_fails(q, "Invalid block export id", bad, "none", name=long)
        export_fails(q, "Block export id 'taken' is already in use", "taken", "none", name=long)
        export_fails(q, "Cannot find device='' nor node-name='none'", "e", "none", writable=True)
        export_fails(q, "Cannot export read-only node as writable", "e", "view", writable=True,
                     name=long)
        export_fails(q, f"export name '{long}' too long", "e", "vda", name=long, description=long)
        export_fails(q, f"description '{long}' too long", "e", "vda", name="taken",
                     description=long, bitmaps=used)
        export_fails(q, "NBD server already has export named 'taken'", "e", "vda", name="taken",
                     bitmaps=used)
        export_fails(q, "NBD server already has export named 'vda'", "e", "vda", bitmaps=used)
        export_fails(q, "NBD server already has export named ''", "e", "vda", name="")
        export_fails(q, "Bitmap 'none' is not found", "e", "vda", name="e", bitmaps=["none", "on"])
        export_fails(q, "Enabled bitmap 'on' incompatible with readonly export", "e", "vda",
                     name="e", bitmaps=["on", "none"])
        export_fails(q, "Enabled bitmap 'on' incompatible with readonly export", "e", "view",
                     name="e", bitmaps=["on"])
        export_fails(q, "Node 'x' not found", "e", "vda", name="e",
                     bitmaps=[{"node": "x", "name": "on"}])
        export_fails(q, "Dirty bitmap 'on' not found", "e", "vda", name="e",
                     bitmaps=[{"node": "vdb", "name": "on"}])
        export_fails(q, "Dirty bitmap 'on' not found", "e", "vda", name="e",
                     bitmaps=[{"node": "view", "name": "on"}])
        export(q, "other", "vdb", name="other", bitmaps=[{"node": "vda", "name": "on"}])
        export_fails(q, IN_USE % "on", "e", "vda", name="e", writable=True, bitmaps=["on"])


@test
def add_checks_its_arguments():
    with Server(*DISKS) as s:
        q = s.qmp()
        good = {"type": "nbd", "id": "e", "node-name": "vda", "name": "e"}
        for name in "type", "id", "node-name":
            fails(q, f"Parameter '{name}' is missing", ADD,
                  **{k: v for k, v in good.items() if k != name})
            fails(q, f"Invalid parameter type for '{name}', expected: string", ADD,
                  **{**good, name: 1})
        fails(q, "Parameter 'type' does not accept value 'fuse'", ADD, **{**good, "type": "fuse"})
        for name in "writable", "discard":
            fails(q, f"Invalid parameter type for '{name}', expected: boolean", ADD,
                  **{**good, name: "on"})
        fails(q, "Invalid parameter type for 'bitmaps', expected: array", ADD, **good, bitmaps="b")
        fails(q, "Invalid parameter type for 'null', expected: BlockDirtyBitmapOrStr", ADD, **good,
              bitmaps=[1])
        fails(q, "Parameter 'bitmaps[0].name' is missing", ADD, **good, bitmaps=[{"node": "vda"}])
        # what QEMU has and we do not obey
        for name, value in (("writethrough", False), ("iothread", "t"), ("fixed-iothread", True),
                            ("allow-inactive", True), ("allocation-depth", False)):
            fails(q, f"Parameter '{name}' is unexpected", ADD, **good, **{name: value})
        fails(q, "Parameter 'id' is missing", DEL)
        fails(q, "Parameter 'mode' does not accept value 'x'", DEL, id="e", mode="x")
        fails(q, "Parameter 'x' is unexpected", DEL, id="e", x=1)
        fails(q, "Export 'e' is not found", DEL, id="e")
        assert q.cmd("query-block-exports") == []


@test
def exports_are_listed_newest_first():
    with Server(*DISKS) as s:
        q = s.qmp()
        q.cmd("view-create", disk="vdb", name="view")
        assert q.cmd("query-block-exports") == []  # those of the disks themselves are not QMP's
        export(q, "e2", "vda", name="a")
        export(q, "e1", "view")
        assert q.cmd("query-block-exports") == [
            {"id": "e1", "type": "nbd", "node-name": "view", "shutting-down": False},
            {"id": "e2", "type": "nbd", "node-name": "vda", "shutting-down": False}]
        q.cmd(DEL, id="e2")
        assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "e2"}
        q.cmd(DEL, id="e1", mode="hard")
        assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "e1"}
        assert q.cmd("query-block-exports") == []
        export(q, "e1", "view")  # id and name are free again


@test
def clients_see_what_was_exported():
    with Server(*DISKS) as s:
        q = s.qmp()
        with closing(s.nbd("vda")) as h:
            h.pwrite(b"then" * 128, 0)
            q.cmd("view-create", disk="vda", name="view")
            h.pwrite(b"now!" * 128, 0)
        for name in "b0", "b1":
            q.cmd("block-dirty-bitmap-add", node="vda", name=name, disabled=True)
        export(q, "ro", "vda", name="ro", description="a description")
        export(q, "rw", "vda", name="rw", writable=True, bitmaps=["b0"])
        export(q, "view", "view", bitmaps=["b1"])  # found on the disk that it is of

        def full_info(h):
            h.set_full_info(True)

        names = ["base:allocation", "qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1"]
        for name, readonly, data, description, expected in [
            ("ro", True, b"now!", "a description", names[:1]),
            ("rw", False, b"now!", None, names[:2]),
            ("view", True, b"then", None, [names[0], names[2]]),
        ]:
            with closing(s.nbd(name, contexts=names, setup=full_info)) as h:
                assert h.is_read_only() == readonly, name
                assert h.pread(4, 0) == data, name
                assert [c for c in names if h.can_meta_context(c)] == expected, name
                if description:
                    assert h.get_export_description() == description


@test
def a_bitmap_by_node_and_name_may_be_recording():
    with Server(*DISKS) as s:
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vda", name="on")
        q.cmd("view-create", disk="vda", name="view")
        export(q, "view", "view", bitmaps=[{"node": "vda", "name": "on"}])
        with closing(s.nbd("view", contexts=["qemu:dirty-bitmap:on"])) as h:
            assert h.can_meta_context("qemu:dirty-bitmap:on")
        assert bitmaps(q)["on"]["busy"]


@test
def safe_and_hard_removal():
    with Server(*DISKS) as s:
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="view")
        q.cmd("block-dirty-bitmap-add", node="vda", name="b", disabled=True)
        export(q, "e", "view", bitmaps=["b"])
        h = s.nbd("view")
        for mode in {}, {"mode": "safe"}:
            fails(q, "export 'e' still in use", DEL, id="e", **mode)
            assert h.pread(1, 0) == b"\0"
        fails(q, "Node view is in use", "view-delete", name="view")
        assert q.cmd(DEL, id="e", mode="hard") == {}
        assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "e"}
        try:
            h.pread(1, 0)
            raise AssertionError("the client was not cut off")
        except Exception as e:  # nbd.Error
            assert type(e).__name__ == "Error", e
        assert not bitmaps(q)["b"]["busy"]
        q.cmd("view-delete", name="view")


@test
def trim_of_a_view_needs_discard():
    with Server(*DISKS) as s:
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="view")
        export(q, "e", "view")
        with closing(s.nbd("view")) as h:
            assert not h.can_trim()
        export(q, "d", "view", name="discarding", discard=True)
        with closing(s.nbd("discarding")) as h:
            assert h.can_trim()  # a read-only flag would say that it cannot be
            h.set_strict_mode(0)
            try:
                h.pwrite(b"x" * 512, 0)
                raise AssertionError("a view was written to")
            except Exception as e:
                assert getattr(e, "errno", None) == "EPERM", e
            h.trim(4096, 0)


@test
def events_come_in_the_order_of_what_they_tell():
    with Server(*DISKS) as s:
        q = s.qmp()
        ids = [f"e{i}" for i in range(20)]
        for id in ids:
            export(q, id, "vda", name=id)
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": s.path("second")}})
        q.cmd("nbd-server-stop")
        told = [q.wait_event("BLOCK_EXPORT_DELETED")["data"]["id"] for _ in ids]
        assert told == ids[::-1], told  # as they are listed


@test
def no_nbd_server_no_export():
    with tmpdir() as d:
        ours, theirs = socket.socketpair()
        os.mkfifo(os.path.join(d, "pid"))
        with open(os.path.join(d, "log"), "w") as log:
            p = subprocess.Popen([fleece.NBDFLEECE, "-s", "-C", os.path.join(d, "qmp"), "-P",
                                  os.path.join(d, "pid"), "memory", "1M"],
                                 stdin=theirs, stdout=theirs, stderr=log,
                                 preexec_fn=fleece.die_with_parent)
        theirs.close()
        fleece.wait_ready(p, os.path.join(d, "pid"))
        with contextlib.closing(Qmp(os.path.join(d, "qmp"))) as q:
            q.cmd("view-create", disk="disk0", name="view")
            long = "n" * 5000
            export_fails(q, "Cannot export read-only node as writable", "e", "view", writable=True,
                         name=long)
            export_fails(q, "NBD server not running", "e", "view", name=long)
            q.cmd("nbd-server-start",
                  addr={"type": "unix", "data": {"path": os.path.join(d, "nbd")}})
            export(q, "e", "view")
            q.cmd("nbd-server-stop")
            q.wait_event("BLOCK_EXPORT_DELETED")
            export_fails(q, "NBD server not running", "e", "view")
        ours.close()
        assert p.wait(fleece.SOON) == 0


main()
