#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Newer clients (libnbd 1.22, QEMU 10) against our exports, with extended headers: a part of `make
check-interop`. That is not in the default run, because it fetches the clients; peers.py says from
where."""

import json
import os

import peers
from fleece import Server, fleecectl, run, tmpdir
from rig import (GIB, KIB, MIB, activated, assert_same, content, dirty_context, export_view, freeze,
                 image)
from tap import main, note, skip, test

TIB = 1 << 40
PIECES = [(0, 64 * KIB), (3 * MIB, 200 * KIB), (8 * MIB - 4 * KIB, 4 * KIB)]
EXTENDED = "with extended headers"

_peers, _why = peers.find()


def peer():
    if not _peers:
        skip(_why)
    return _peers


def spoke_extended(s, export="vda"):
    """Every client of the export so far has agreed on extended headers. Returns their number."""
    used = [line for line in s.log().splitlines() if f'uses export "{export}"' in line]
    assert used and all(EXTENDED in line for line in used), used
    return len(used)


def qemu_io(where, *commands, readonly=False, format="raw"):
    words = [word for command in commands for word in ("-c", command)]
    out = peer().run("qemu-io", "-f", format, *(["-r"] if readonly else []), *words, where).stdout
    assert "failed" not in out and "length cannot" not in out, out
    return out


def nbdinfo_map(s, export="vda", context="base:allocation"):
    out = peer().run("nbdinfo", "--json", f"--map={context}", s.uri(export)).stdout
    return [(e["offset"], e["length"], e["type"]) for e in json.loads(out)]


def qemu_map(*args):
    return [(e["start"], e["length"], e["data"], e["zero"]) for e in
            json.loads(peer().run("qemu-img", "map", "--output=json", *args).stdout)]


@test
def nbdinfo_says_extended():
    note(f"{peer().version('nbdinfo')}; {peer().version('qemu-img')}")
    with Server("-v", "--disk", "vda", "memory", "8T") as s:
        info = json.loads(peer().run("nbdinfo", "--json", s.uri("vda")).stdout)
        assert info["structured"] and info["extended"] and info["protocol"] == "newstyle-fixed"
        assert info["exports"][0]["export-size"] == 8 * TIB
        assert info["exports"][0]["contexts"] == ["base:allocation"]
        assert spoke_extended(s)


@test
def the_map_of_8_TiB():
    """libnbd asks for the whole map at once, and gets it."""
    with Server("-v", "--disk", "vda", "memory", "8T") as s:
        s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=64 * KIB)
        qemu_io(s.uri("vda"), "write -P 7 5T 64k")
        rest = (5 * TIB + 64 * KIB, 3 * TIB - 64 * KIB)
        assert nbdinfo_map(s) == [(0, 5 * TIB, 3), (5 * TIB, 64 * KIB, 0), (*rest, 3)]
        assert nbdinfo_map(s, context=dirty_context("b")) == \
            [(0, 5 * TIB, 0), (5 * TIB, 64 * KIB, 1), (*rest, 0)]
        assert qemu_map("-f", "raw", s.uri("vda")) == \
            [(0, 5 * TIB, False, True), (5 * TIB, 64 * KIB, True, False), (*rest, False, True)]
        assert spoke_extended(s)


@test
def libnbd_functions():
    """Only libnbd's own functions show what was agreed, 64-bit extents, and the filter."""
    with Server("-v", "--disk", "vda", "memory", "8T") as s:
        s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b")
        told = json.loads(peer().python("""if True:
            import json, nbd, sys
            h = nbd.NBD()
            for context in "base:allocation", "qemu:dirty-bitmap:b":
                h.add_meta_context(context)
            h.connect_uri(sys.argv[1])
            h.pwrite(b"x" * 65536, 5 << 40)
            h.zero(8 << 40, 0)
            h.trim(8 << 40, 0)
            h.pwrite(b"x" * 65536, 5 << 40)
            found = {}
            def status(name, offset, extents, error):
                found.setdefault(name, []).extend(extents)
            h.block_status_64(8 << 40, 0, status)
            all, found = found, {}
            h.block_status_filter(8 << 40, 0, ["qemu:dirty-bitmap:b"], status)
            print(json.dumps({"extended": h.get_extended_headers_negotiated(),
                              "structured": h.get_structured_replies_negotiated(),
                              "filter": h.can_block_status_payload(),
                              "all": all, "filtered": found,
                              "read": h.pread(4, 5 << 40).decode()}))
            h.shutdown()
            """, s.uri("vda")))
        assert told["extended"] and told["structured"] and told["filter"], told
        assert told["read"] == "xxxx"
        assert told["all"] == {
            "base:allocation": [[5 * TIB, 3], [64 * KIB, 0], [3 * TIB - 64 * KIB, 3]],
            dirty_context("b"): [[8 * TIB, 1]]}, told
        assert told["filtered"] == {dirty_context("b"): [[8 * TIB, 1]]}, told
        assert spoke_extended(s) == 1


@test
def libnbd_that_asks_for_less():
    """The same client does without extended headers, and without structured replies."""
    code = """if True:
        import nbd, sys
        h = nbd.NBD()
        h.add_meta_context("base:allocation")
        h.set_request_extended_headers(False)
        h.set_request_structured_replies(sys.argv[2] == "structured")
        h.connect_uri(sys.argv[1])
        h.pwrite(b"x" * 65536, 0)
        assert h.pread(65536, 0) == b"x" * 65536
        if sys.argv[2] == "structured":
            h.block_status(1 << 20, 0, lambda *args: 0)
        print(h.get_extended_headers_negotiated(), h.get_structured_replies_negotiated())
        """
    with Server("--disk", "vda", "memory", "1M") as s:
        assert peer().python(code, s.uri("vda"), "structured") == "False True\n"
        assert peer().python(code, s.uri("vda"), "simple") == "False False\n"
    with Server("--no-sr", "--disk", "vda", "memory", "1M") as s:
        out = peer().python(code.replace("set_request_extended_headers(False)",
                                         "get_handle_name()"), s.uri("vda"), "simple")
        assert out == "False False\n"


@test
def nbdcopy_from_and_to():
    with tmpdir() as d:
        model = image(f"{d}/disk", 8 * MIB, PIECES)
        with Server("-v", "--disk", "vda", "file", f"{d}/disk",
                    "--disk", "vdb", "memory", "8M") as s:
            peer().run("nbdcopy", s.uri("vda"), f"{d}/out")
            assert_same(content(f"{d}/out"), model)
            assert os.stat(f"{d}/out").st_blocks * 512 < MIB
            peer().run("nbdcopy", s.uri("vda"), s.uri("vdb"))
            peer().run("nbdcopy", s.uri("vdb"), f"{d}/again")
            assert_same(content(f"{d}/again"), model)
            assert spoke_extended(s) >= 2 and spoke_extended(s, "vdb") >= 2


@test
def nbdcopy_of_a_huge_sparse_disk():
    """4 TiB with little data take no longer than the data."""
    with Server("-v", "--disk", "vda", "memory", "4T", "--disk", "vdb", "memory", "4T") as s:
        qemu_io(s.uri("vda"), "write -P 7 3T 1M", "write -P 8 100G 64k")
        peer().run("nbdcopy", s.uri("vda"), s.uri("vdb"))
        qemu_io(s.uri("vdb"), "read -P 7 3T 1M", "read -P 8 100G 64k", "read -P 0 101G 1M")
        assert spoke_extended(s, "vdb")


@test
def qemu_img_convert_and_compare():
    with tmpdir() as d:
        model = image(f"{d}/disk", 8 * MIB, PIECES)
        with Server("-v", "--disk", "vda", "file", f"{d}/disk",
                    "--disk", "vdb", "memory", "8M") as s:
            p = peer()
            p.run("qemu-img", "convert", "-O", "raw", s.uri("vda"), f"{d}/out")
            assert_same(content(f"{d}/out"), model)
            p.run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", f"{d}/out", s.uri("vdb"))
            p.run("qemu-img", "compare", "-f", "raw", "-F", "raw", s.uri("vda"), s.uri("vdb"))
            p.run("qemu-img", "convert", "-W", "-m16", "-f", "raw", "-O", "qcow2", s.uri("vdb"),
                  f"{d}/out.qcow2")
            p.run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", s.uri("vda"), f"{d}/out.qcow2")
            assert spoke_extended(s) >= 3 and spoke_extended(s, "vdb") >= 2


@test
def qemu_reads_a_dirty_bitmap():
    """QEMU reads the bitmap of an incremental backup's view by `x-dirty-bitmap`."""
    with Server("-v", "--disk", "vda", "memory", "8G") as s:
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=64 * KIB)
        qemu_io(s.uri("vda"), "write -P 1 1G 128k", "write -P 2 7G 64k")
        freeze(q, "vda", "v", old="b")
        export_view(q, "v", "vda", "b")
        qemu_io(s.uri("vda"), "write -P 3 0 1M", "write -P 3 1G 64k")
        dirty = [(at, n) for at, n, data, _ in qemu_map(
            "--image-opts", f"driver=nbd,server.type=unix,server.path={s.socket},export=v,"
            f"x-dirty-bitmap={dirty_context('b')}") if not data]
        assert dirty == [(GIB, 128 * KIB), (7 * GIB, 64 * KIB)], dirty
        qemu_io(s.uri("v"), "read -P 1 1G 128k", "read -P 2 7G 64k", "read -P 0 0 1M",
                readonly=True)
        assert spoke_extended(s, "v") >= 2


@test
def qemu_io_of_every_kind():
    with Server("-v", "--disk", "vda", "memory", "6G") as s:
        qemu_io(s.uri("vda"), "write -P 1 0 32M", "write -f -P 2 4G 1M", "write -P 3 511 513", "flush",
                "read -P 2 4G 1M", "read -P 3 511 513", "write -n -z -u 4G 2G", "read -P 0 4G 1M",
                "write -n -z 0 6G", "read -P 0 0 32M", "discard 0 1G", "aio_write -P 4 1M 1M",
                "aio_write -P 5 2M 1M", "aio_flush", "read -P 4 1M 1M", "read -P 5 2M 1M")
        assert spoke_extended(s) == 1


@test
def qemu_nbd_is_our_client():
    """qemu-nbd has extended headers on both sides: with us, and with its own client."""
    with tmpdir() as d, Server("-v", "--disk", "vda", "memory", "5G") as s:
        with activated(f"{d}/sock", *peer().command("qemu-nbd", "-t", "-f", "raw", s.uri("vda"))):
            where = f"nbd+unix:///?socket={d}/sock"
            qemu_io(where, "write -P 9 4G 1M", "read -P 9 4G 1M", "write -n -z 0 5G",
                    "write -P 6 4G 64k", "flush")
            through = json.loads(peer().run("nbdinfo", "--json", "--map", where).stdout)
            assert [e["offset"] for e in through if e["type"] == 0] == [4 * GIB], through
        qemu_io(s.uri("vda"), "read -P 6 4G 64k", "read -P 0 0 1M")
        assert spoke_extended(s) == 2


@test
def fleecectl_map_beside_newer_clients():
    """fleecectl uses the system's libnbd, and shows the same map."""
    with Server("--disk", "vda", "memory", "8T") as s:
        qemu_io(s.uri("vda"), "write -P 7 5T 64k")
        ours = json.loads(fleecectl("--json", "map", s.uri("vda")).stdout)
        assert [(e["start"], e["length"], e["flags"]) for e in ours["extents"]] == nbdinfo_map(s)


@test
def fleecectl_with_a_newer_libnbd():
    """It speaks extended headers then, and sees and copies the same."""
    with tmpdir() as d, Server("-v", "--disk", "vda", "memory", "8T") as s:
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=64 * KIB)
        qemu_io(s.uri("vda"), "write -P 7 5T 64k", "write -P 8 1M 64k")
        ours = peer().fleecectl(d)
        for options, context in ((), "base:allocation"), (("--bitmap", "b"), dirty_context("b")):
            seen = json.loads(run(ours, "--json", "map", s.uri("vda"), *options).stdout)
            assert [(e["start"], e["length"], e["flags"]) for e in seen["extents"]] == \
                nbdinfo_map(s, context=context)
        run(ours, "pull", s.uri("vda"), "-o", f"{d}/vda.qcow2")
        qemu_io(s.uri("vda"), "write -P 9 6T 64k")
        run(ours, "pull", s.uri("vda"), "-o", f"{d}/inc.qcow2", "-b", "b", "--base", f"{d}/vda.qcow2")
        for image, nine in ("vda.qcow2", []), ("inc.qcow2", [6 * TIB]):
            data = [at for at, _, data, _ in qemu_map("-f", "qcow2", f"{d}/{image}") if data]
            assert data == [MIB, 5 * TIB, *nine], data
        qemu_io(f"{d}/inc.qcow2", "read -P 8 1M 64k", "read -P 7 5T 64k", "read -P 9 6T 64k",
                readonly=True, format="qcow2")
        assert spoke_extended(s)


main()
