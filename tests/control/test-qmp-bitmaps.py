#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""block-dirty-bitmap-*: arguments, order of the checks, error texts, and what QMP shows of bitmaps
after writes of guests."""

import hashlib

from fleece import Server
from qmp_checks import IN_USE, bitmaps, everything, fails
from tap import main, test

DISKS = ("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "2M",
         "--disk", "vdc", "memory", "1M")
PER_BITMAP = ("block-dirty-bitmap-remove", "block-dirty-bitmap-clear", "block-dirty-bitmap-enable",
              "block-dirty-bitmap-disable", "x-debug-block-dirty-bitmap-sha256")


def sha256_of(size, granularity, dirty):
    """The hash that a bitmap must have if it covers `size` bytes and these granules are dirty. The
    bits are in words of 64, little endian."""
    count = -(-size // granularity)
    bits = sum(1 << granule for granule in dirty)
    return hashlib.sha256(bits.to_bytes(-(-count // 64) * 8, "little")).hexdigest()


@test
def add_checks_in_qemus_order():
    with Server(*DISKS) as s:
        q = s.qmp()
        add = "block-dirty-bitmap-add"
        q.cmd("view-create", disk="vda", name="view")
        before = everything(q)
        # Each request also has the faults of the requests below it.
        power = "Granularity must be power of 2 and at least 512"
        fails(q, "Parameter 'node' is missing", add, x=1)
        fails(q, "Invalid parameter type for 'node', expected: string", add, node=1, name=1, x=1)
        fails(q, "Parameter 'name' is missing", add, node="x", granularity=-1, x=1)
        fails(q, "Parameter 'granularity' expects uint32_t", add, node="x", name="", granularity=-1,
              persistent=1, x=1)
        fails(q, "Invalid parameter type for 'persistent', expected: boolean", add, node="x",
              name="", granularity=1, persistent=1, x=1)
        fails(q, "Parameter 'x' is unexpected", add, node="x", name="", granularity=1, x=1)
        fails(q, "Bitmap name cannot be empty", add, node="x", name="", granularity=1)
        fails(q, "Cannot find device='x' nor node-name='x'", add, node="x", name="b", granularity=1)
        for bad in 0, 1, 511, 513, 768, 1 << 16 | 1, (1 << 32) - 1:
            fails(q, power, add, node="vda", name="b" * 2000, granularity=bad, persistent=True)
        fails(q, power, add, node="view", name="b", granularity=1, persistent=True)
        fails(q, "Can't store persistent bitmaps to vda: Operation not supported", add, node="vda",
              name="b" * 2000, persistent=True)
        fails(q, f"Bitmap name too long: {'b' * 1024}", add, node="vda", name="b" * 1024)
        fails(q, "Node 'view' is a view: bitmaps belong to disks", add, node="view", name="b")
        for bad in 1 << 32, -(1 << 63):
            fails(q, "Parameter 'granularity' expects uint32_t", add, node="vda", name="b",
                  granularity=bad)
        for bad in "512", 512.0, True, None, [512]:
            fails(q, "Parameter 'granularity' expects uint64", add, node="vda", name="b",
                  granularity=bad)
        assert everything(q) == before


@test
def add_and_its_defaults():
    with Server(*DISKS) as s:
        q = s.qmp()
        assert q.cmd("block-dirty-bitmap-add", node="vda", name="b0") == {}
        assert bitmaps(q) == {"b0": {
            "name": "b0", "count": 0, "granularity": 65536, "recording": True, "busy": False,
            "persistent": False, "inconsistent": False}}
        fails(q, "Bitmap already exists: b0", "block-dirty-bitmap-add", node="vda", name="b0")
        q.cmd("block-dirty-bitmap-add", node="vdb", name="b0", persistent=False, disabled=True)
        assert bitmaps(q, "vdb")["b0"]["recording"] is False
        for shift in range(9, 32):
            q.cmd("block-dirty-bitmap-add", node="vda", name=f"g{shift}", granularity=1 << shift)
            assert bitmaps(q)[f"g{shift}"]["granularity"] == 1 << shift
        for name in "b" * 1023, "é\n\"'\\/ :,", "0", " ":
            q.cmd("block-dirty-bitmap-add", node="vda", name=name)
            assert name in bitmaps(q)
            q.cmd("block-dirty-bitmap-remove", node="vda", name=name)
            assert name not in bitmaps(q)


@test
def unknown_nodes_and_bitmaps():
    with Server(*DISKS) as s:
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="view")
        q.cmd("block-dirty-bitmap-add", node="vda", name="b0")
        for command in PER_BITMAP:
            fails(q, "Parameter 'name' is missing", command, node="vda")
            fails(q, "Node 'x' not found", command, node="x", name="b0")
            fails(q, "Dirty bitmap 'b1' not found", command, node="vda", name="b1")
            fails(q, "Dirty bitmap 'b0' not found", command, node="vdb", name="b0")
            fails(q, "Dirty bitmap 'b0' not found", command, node="view", name="b0")
            fails(q, "Dirty bitmap '' not found", command, node="vda", name="")
        merge = "block-dirty-bitmap-merge"
        fails(q, "Node 'x' not found", merge, node="x", target="b0", bitmaps=["b1"])
        fails(q, "Dirty bitmap 'b1' not found", merge, node="vda", target="b1", bitmaps=["b2"])
        fails(q, "Dirty bitmap 'b1' not found", merge, node="vda", target="b1", bitmaps=[])
        fails(q, "Dirty bitmap 'b2' not found", merge, node="vda", target="b0", bitmaps=["b2"])
        fails(q, "Node 'y' not found", merge, node="vda", target="b0",
              bitmaps=[{"node": "y", "name": "b2"}])
        fails(q, "Dirty bitmap 'b2' not found", merge, node="vda", target="b0",
              bitmaps=["b0", {"node": "vdb", "name": "b2"}])


@test
def merge_checks_its_arguments():
    with Server(*DISKS) as s:
        q = s.qmp()
        merge = "block-dirty-bitmap-merge"
        q.cmd("block-dirty-bitmap-add", node="vda", name="b0")
        fails(q, "Parameter 'bitmaps' is missing", merge, node="vda", target="b0")
        fails(q, "Invalid parameter type for 'bitmaps', expected: array", merge, node="vda",
              target="b0", bitmaps="b0")
        for bad in 1, None, [], True:
            fails(q, "Invalid parameter type for 'null', expected: BlockDirtyBitmapOrStr", merge,
                  node="vda", target="b0", bitmaps=["b0", bad])
        fails(q, "Parameter 'bitmaps[1].name' is missing", merge, node="vda", target="b0",
              bitmaps=["b0", {"node": "vda"}])
        fails(q, "Invalid parameter type for 'bitmaps[0].name', expected: string", merge,
              node="vda", target="b0", bitmaps=[{"node": "vda", "name": 1}])
        fails(q, "Parameter 'bitmaps[0].x' is unexpected", merge, node="vda", target="b0",
              bitmaps=[{"node": "vda", "name": "b0", "x": 1}])


@test
def bitmaps_record_exactly_the_writes():
    with Server(*DISKS) as s:
        q = s.qmp()
        h = s.nbd("vda")
        q.cmd("block-dirty-bitmap-add", node="vda", name="fine", granularity=512)
        q.cmd("block-dirty-bitmap-add", node="vda", name="coarse", granularity=65536)
        q.cmd("block-dirty-bitmap-add", node="vda", name="off", disabled=True)

        def hash_of(name):
            return q.cmd("x-debug-block-dirty-bitmap-sha256", node="vda", name=name)["sha256"]

        assert hash_of("fine") == sha256_of(1 << 20, 512, [])
        h.pwrite(b"x" * 1024, 65536 + 256)
        h.zero(512, 0)
        h.trim(65536, 1 << 19)
        fine = [0, 128, 129, 130] + list(range(1024, 1152))
        assert hash_of("fine") == sha256_of(1 << 20, 512, fine)
        assert hash_of("coarse") == sha256_of(1 << 20, 65536, [0, 1, 8])
        shown = bitmaps(q)
        assert shown["fine"]["count"] == 512 * len(fine)
        assert shown["coarse"]["count"] == 3 * 65536
        assert shown["off"]["count"] == 0

        q.cmd("block-dirty-bitmap-disable", node="vda", name="fine")
        q.cmd("block-dirty-bitmap-enable", node="vda", name="off")
        q.cmd("block-dirty-bitmap-enable", node="vda", name="off")
        h.pwrite(b"x" * 512, 3 * 65536)
        shown = bitmaps(q)
        assert (shown["fine"]["recording"], shown["off"]["recording"]) == (False, True)
        assert hash_of("fine") == sha256_of(1 << 20, 512, fine)
        assert hash_of("off") == sha256_of(1 << 20, 65536, [3])

        q.cmd("block-dirty-bitmap-merge", node="vda", target="off", bitmaps=["fine"])
        assert hash_of("off") == sha256_of(1 << 20, 65536, [0, 1, 3, 8])
        q.cmd("block-dirty-bitmap-clear", node="vda", name="coarse")
        assert hash_of("coarse") == sha256_of(1 << 20, 65536, [])
        h.pwrite(b"x", 15 * 65536)
        assert hash_of("coarse") == sha256_of(1 << 20, 65536, [15])
        h.shutdown()


@test
def merging_bitmaps_of_other_disks_and_empty_lists():
    with Server(*DISKS) as s:
        q = s.qmp()
        for disk in "vda", "vdb", "vdc":
            q.cmd("block-dirty-bitmap-add", node=disk, name="b")
            h = s.nbd(disk)
            h.pwrite(b"x", 65536 * int(disk != "vda"))
            h.shutdown()
        merge = "block-dirty-bitmap-merge"
        before = everything(q)
        fails(q, "Bitmaps are of different sizes (destination size is 1048576, source size is "
              "2097152) and can't be merged", merge, node="vda", target="b",
              bitmaps=[{"node": "vdc", "name": "b"}, {"node": "vdb", "name": "b"}])
        assert everything(q) == before
        for harmless in [], ["b"], [{"node": "vda", "name": "b"}]:
            q.cmd(merge, node="vda", target="b", bitmaps=harmless)
            assert everything(q) == before
        q.cmd(merge, node="vda", target="b", bitmaps=["b", {"node": "vdc", "name": "b"}])
        assert bitmaps(q)["b"]["count"] == 2 * 65536


@test
def an_exported_bitmap_is_busy():
    with Server(*DISKS) as s:
        q = s.qmp()
        for name in "b0", "b1":
            q.cmd("block-dirty-bitmap-add", node="vda", name=name, disabled=True)
        q.cmd("block-export-add", type="nbd", id="e", bitmaps=["b0"],
              **{"node-name": "vda", "name": "e"})
        assert bitmaps(q)["b0"]["busy"] is True and bitmaps(q)["b1"]["busy"] is False
        before = everything(q)
        for command in PER_BITMAP[:4]:
            fails(q, IN_USE % "b0", command, node="vda", name="b0")
        merge = "block-dirty-bitmap-merge"
        fails(q, IN_USE % "b0", merge, node="vda", target="b0", bitmaps=["b1"])
        fails(q, IN_USE % "b0", merge, node="vda", target="b1", bitmaps=["b0"])
        q.cmd("x-debug-block-dirty-bitmap-sha256", node="vda", name="b0")
        assert everything(q) == before
        q.cmd("block-export-del", id="e")
        q.wait_event("BLOCK_EXPORT_DELETED")
        assert bitmaps(q)["b0"]["busy"] is False
        for command in reversed(PER_BITMAP):
            q.cmd(command, node="vda", name="b0")
        assert "b0" not in bitmaps(q)


main()
