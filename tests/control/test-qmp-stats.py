#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""query-blockstats: each request of a client is counted once, and stays counted."""

import rawnbd
from fleece import Server, tmpdir
from qmp_checks import fails, once_gone
from rawnbd import Client
from tap import main, test

K, M = 1 << 10, 1 << 20
# Every member of BlockDeviceStats in QEMU 10.2 that is not optional, and three of our own.
COUNTS = {
    "rd_bytes", "wr_bytes", "unmap_bytes", "zero_bytes", "rd_operations", "wr_operations",
    "unmap_operations", "zero_operations", "flush_operations", "wr_highest_offset",
    "failed_rd_operations", "failed_wr_operations", "failed_unmap_operations",
    "failed_zero_operations", "failed_flush_operations",
}
NOT_MEASURED = {
    "rd_total_time_ns": 0, "wr_total_time_ns": 0, "flush_total_time_ns": 0,
    "unmap_total_time_ns": 0, "rd_merged": 0, "wr_merged": 0, "unmap_merged": 0,
    "invalid_rd_operations": 0, "invalid_wr_operations": 0, "invalid_flush_operations": 0,
    "invalid_unmap_operations": 0, "zone_append_bytes": 0, "zone_append_operations": 0,
    "zone_append_total_time_ns": 0, "zone_append_merged": 0, "failed_zone_append_operations": 0,
    "invalid_zone_append_operations": 0, "account_invalid": False, "account_failed": False,
    "timed_stats": [],
}


def stats(q, node="vda"):
    """The counters of a node that are not 0."""
    all_stats = {n["node-name"]: n["stats"] for n in q.cmd("query-blockstats",
                                                          **{"query-nodes": True})}
    measured = dict(all_stats[node])
    for name, value in NOT_MEASURED.items():
        assert measured.pop(name) == value, name
    assert set(measured) == COUNTS, set(measured) ^ COUNTS
    return {name: value for name, value in measured.items() if value}


def connect(s, export="vda", structured=True):
    c = Client(s.socket)
    if structured:
        c.structured()
    c.go(export)
    return c


@test
def the_shape_is_qemus():
    with Server("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "1M") as s:
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="v")
        for arguments in {}, {"query-nodes": False}:
            devices = q.cmd("query-blockstats", **arguments)
            assert [(d["device"], d["qdev"], d["node-name"]) for d in devices] == [
                ("vda", "vda", "vda"), ("vdb", "vdb", "vdb")], devices
            assert all(set(d) == {"device", "qdev", "node-name", "stats"} for d in devices)
        nodes = q.cmd("query-blockstats", **{"query-nodes": True})
        assert [n["node-name"] for n in nodes] == ["vda", "vdb", "v"], nodes
        assert all(set(n) == {"node-name", "stats"} for n in nodes)
        for name in "vda", "vdb", "v":
            assert stats(q, name) == {}
        fails(q, "Invalid parameter type for 'query-nodes', expected: boolean",
              "query-blockstats", **{"query-nodes": 1})


@test
def each_request_is_counted_once():
    with Server("--disk", "vda", "memory", "64M", "--disk", "vdb", "memory", "1M") as s:
        q, c = s.qmp(), connect(s)
        c.write(8 * K, b"x" * 4096)
        assert stats(q) == {"wr_operations": 1, "wr_bytes": 4096, "wr_highest_offset": 12 * K}
        c.write(0, b"x" * 512)
        c.read(0, 1000)
        c.read(0, 1000)
        assert c.do(rawnbd.FLUSH) == 0
        assert c.do(rawnbd.TRIM, 32 * M, 8 * M) == 0
        assert c.do(rawnbd.WRITE_ZEROES, M, M) == 0
        expected = {
            "wr_operations": 3, "wr_bytes": M + 4608, "zero_operations": 1, "zero_bytes": M,
            "wr_highest_offset": 2 * M, "rd_operations": 2, "rd_bytes": 2000,
            "flush_operations": 1, "unmap_operations": 1, "unmap_bytes": 8 * M,
        }
        assert stats(q) == expected, stats(q)
        # A request that is refused before it is carried out is not counted.
        assert c.do(rawnbd.READ, 64 * M, 1) != 0
        assert c.do(rawnbd.WRITE, 64 * M, 1) != 0
        assert stats(q) == expected, stats(q)
        assert stats(q, "vdb") == {}


def image(folder, size):
    path = f"{folder}/image"
    with open(path, "wb") as f:
        f.write(b"data" * (size // 4))
    return path


def large_reads(*disk):
    """Reads that are sent as one chunk or in pieces, and reads longer than the reply buffer."""
    with Server("--disk", "vda", *disk) as s:
        q, n, done = s.qmp(), 0, 0
        for structured, flags in (True, 0), (True, rawnbd.DF), (False, 0):
            with connect(s, structured=structured) as c:
                for size in 256 * K, 3 * M + 5, 20 * M:
                    c.read(7, size, flags)
                    n += 1
                    done += size
                    assert stats(q) == {"rd_operations": n, "rd_bytes": done}, stats(q)


@test
def large_reads_of_a_plugin():
    large_reads("memory", "32M")


@test
def large_reads_of_a_file():
    with tmpdir() as folder:
        large_reads("file", image(folder, 32 * M))


@test
def errors_are_counted_separately():
    with Server("--disk", "vda", "eval", "get_size=echo 1048576", "pread=echo EIO >&2; exit 1",
                "pwrite=echo ENOSPC >&2; exit 1", "flush=echo EIO >&2; exit 1",
                "trim=echo EIO >&2; exit 1", "zero=echo EIO >&2; exit 1",
                "can_write=exit 0", "can_flush=exit 0", "can_trim=exit 0",
                "can_zero=exit 0") as s:
        q, c = s.qmp(), connect(s)
        for type in rawnbd.READ, rawnbd.WRITE, rawnbd.WRITE_ZEROES, rawnbd.TRIM:
            assert c.do(type, 0, 4096) != 0
        assert c.do(rawnbd.FLUSH) != 0
        assert stats(q) == {
            "failed_rd_operations": 1, "failed_wr_operations": 2, "failed_zero_operations": 1,
            "failed_unmap_operations": 1, "failed_flush_operations": 1}, stats(q)


@test
def a_fast_zero_that_would_be_slow_is_no_error():
    with Server("--disk", "vda", "eval", "get_size=echo 1048576", "pread=head -c $3 /dev/zero",
                "pwrite=cat > /dev/null", "can_write=exit 0") as s:
        q, c = s.qmp(), connect(s)
        assert c.do(rawnbd.WRITE_ZEROES, 0, 4096, rawnbd.FAST_ZERO) == rawnbd.ENOTSUP
        assert stats(q) == {}, stats(q)
        assert c.do(rawnbd.WRITE_ZEROES, 0, 4096) == 0
        assert stats(q)["zero_operations"] == 1, stats(q)


@test
def connections_add_up_and_stay_counted():
    with tmpdir() as folder, Server("--disk", "vda", "file", image(folder, M)) as s:
        q, a, b = s.qmp(), connect(s), connect(s)
        a.write(512 * K, b"x" * K)
        b.write(0, b"x" * 2 * K)
        b.read(0, K)
        expected = {"wr_operations": 2, "wr_bytes": 3 * K, "wr_highest_offset": 513 * K,
                    "rd_operations": 1, "rd_bytes": K}
        assert stats(q) == expected, stats(q)
        for c in a, b:
            c.request(rawnbd.DISC)
            c.expect_end()
            c.close()
            assert stats(q) == expected, stats(q)
        once_gone(lambda: q.cmd("block_resize", device="vda", size=512 * K))
        assert stats(q) == expected, stats(q)
        with connect(s) as c:
            c.read(0, K)
            assert stats(q) == {**expected, "rd_operations": 2, "rd_bytes": 2 * K}, stats(q)


@test
def a_view_has_its_own_counters():
    with Server("--disk", "vda", "memory", "1M") as s:
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="v")
        q.cmd("block-export-add", type="nbd", id="e", **{"node-name": "v", "name": "v"})
        with connect(s) as c, connect(s, "v") as d:
            c.write(0, b"x" * 8 * K)
            d.read(0, 8 * K)
            d.read(512 * K, K)
            assert d.do(rawnbd.FLUSH) == 0
            assert stats(q, "v") == {"rd_operations": 2, "rd_bytes": 9 * K,
                                     "flush_operations": 1}, stats(q, "v")
            assert stats(q) == {"wr_operations": 1, "wr_bytes": 8 * K,
                                "wr_highest_offset": 8 * K}, stats(q)


main()
