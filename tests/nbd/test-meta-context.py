#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Meta contexts: the rules of tests/conformance/README.md whose names begin with M."""

import contextlib
import struct

from fleece import Server
from rawnbd import *
from tap import main, test

ALLOCATION, B0, B1 = "base:allocation", "qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1"


@contextlib.contextmanager
def serve(structured=True):
    """A server with bitmaps b0 and b1 on vda and none on vdb, and a client."""
    with Server("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "1M") as s:
        q = s.qmp()
        for name in "b0", "b1":
            q.cmd("block-dirty-bitmap-add", node="vda", name=name)
        with Client(s.socket) as c:
            if structured:
                c.structured()
            yield s, c


@test
def M1_SET_needs_structured_replies():
    with serve(structured=False) as (s, c):
        assert c.meta(OPT_SET_META, "vda", ALLOCATION) == (ERR_INVALID, [])
        assert c.meta(OPT_LIST_META, "vda")[0] in (ERR_INVALID, REP_ACK)
        c.structured()
        assert c.set_contexts("vda", ALLOCATION)


@test
def M2_no_queries():
    with serve() as (s, c):
        assert c.list_contexts("vda") == [ALLOCATION, B0, B1]
        assert c.list_contexts("vdb") == [ALLOCATION]
        assert c.set_contexts("vda") == {}


@test
def M2_unknown_namespaces_and_no_match():
    with serve() as (s, c):
        for queries in ("x-foo:",), ("x-foo:bar", "nbd-server:x"), ("qemu:allocation-depth",):
            assert c.list_contexts("vda", *queries) == []
            assert c.set_contexts("vda", *queries) == {}


@test
def M2_query_longer_than_the_option():
    with serve() as (s, c):
        good = c.meta_data("vda", ALLOCATION)
        lies = good[:11] + struct.pack(">I", 100) + good[15:]
        for option in OPT_LIST_META, OPT_SET_META:
            assert c.option(option, lies) == (ERR_INVALID, [])
            assert c.option(option, good[:-1]) == (ERR_INVALID, [])
        assert c.meta(OPT_SET_META, "nope", ALLOCATION) == (ERR_UNKNOWN, [])
        assert c.set_contexts("vda", ALLOCATION) == {ALLOCATION: 0}


@test
def M3_SET_replaces_also_when_it_fails():
    with serve() as (s, c):
        assert c.set_contexts("vda", ALLOCATION, B0, B1) == {ALLOCATION: 0, B0: 2, B1: 3}
        assert c.set_contexts("vda", B1) == {B1: 3}
        c.go("vda")
        assert set(c.block_status(0, 65536)) == {B1}
    failures = (
        lambda c: c.meta(OPT_SET_META, "nope", ALLOCATION),
        lambda c: c.option(OPT_SET_META, b"junk"),
        lambda c: c.option(OPT_SET_META, c.meta_data("vda", b"\xff")),
    )
    for failure in failures:
        with serve() as (s, c):
            c.set_contexts("vda", ALLOCATION)
            assert failure(c)[0] & 0x80000000
            c.go("vda")
            assert c.do(BLOCK_STATUS, 0, 65536) == EINVAL


@test
def M3_too_many():
    with Server("memory", "1M") as s, Client(s.socket) as c:
        q = s.qmp()
        names = [f"b{i}" for i in range(200)]
        for name in names:
            q.cmd("block-dirty-bitmap-add", node="disk0", name=name)
        c.structured()
        assert len(c.list_contexts("")) == 201
        final, contexts = c.meta(OPT_SET_META, "", *["qemu:dirty-bitmap:" + n for n in names])
        assert final == ERR_TOO_BIG or len(contexts) == 200
        final, contexts = c.meta(OPT_LIST_META, "", *["x"] * 10000)
        assert final == ERR_TOO_BIG or (final, contexts) == (REP_ACK, [])


@test
def M4_set_counts_for_its_export_only():
    with serve() as (s, c):
        c.set_contexts("vda", ALLOCATION)
        c.go("vdb")
        assert c.do(BLOCK_STATUS, 0, 65536) == EINVAL
        c.in_step()
    with serve() as (s, c):
        c.set_contexts("vda", ALLOCATION)
        c.export_name("vda")
        assert c.block_status(0, 65536)
    with serve() as (s, c):
        c.set_contexts("vda", ALLOCATION)
        assert c.option(OPT_STARTTLS)[0] in (ERR_UNSUP, ERR_POLICY)
        assert c.list_contexts("vdb") == [ALLOCATION]
        assert c.info("vdb") == REP_ACK
        c.go("vda")
        assert c.block_status(0, 65536)


@test
def M5_wildcards():
    with serve() as (s, c):
        listed = {
            "base:": [ALLOCATION],
            "qemu:": [B0, B1],
            "qemu:dirty-bitmap:": [B0, B1],
            B1: [B1],
            "base:nope": [], "qemu:nope:": [], "base": [], "qemu:dirty-bitmap": [],
            "": [], ":": [], "base:allocation ": [], "BASE:allocation": [],
            "qemu:dirty-bitmap:b": [], "qemu:dirty-bitmap:b00": [],
        }
        for query, contexts in listed.items():
            assert c.list_contexts("vda", query) == contexts, query
            expected = contexts if query == B1 else []
            assert list(c.set_contexts("vda", query)) == expected, query
        assert c.list_contexts("vda", "base:", "qemu:") == [ALLOCATION, B0, B1]


@test
def M6_repeated_query_gives_the_context_once():
    with serve() as (s, c):
        assert c.set_contexts("vda", ALLOCATION, ALLOCATION, B0, ALLOCATION, B0) == {
            ALLOCATION: 0, B0: 2}
        assert c.list_contexts("vda", B0, "qemu:", B0) == [B0, B1]


@test
def M7_flags():
    with serve() as (s, c):
        c.set_contexts("vda", ALLOCATION, B0)
        c.go("vda")
        assert c.map(ALLOCATION, 0, c.size) == [(1 << 20, 3)]
        assert c.map(B0, 0, c.size) == [(1 << 20, 0)]
        c.write(65536, b"x" * 4096)
        assert c.map(B0, 0, c.size) == [(65536, 0), (65536, 1), ((1 << 20) - 131072, 0)]
        flags = {f for _, f in c.map(ALLOCATION, 0, c.size)}
        assert flags == {0, 3}, flags


@test
def M8_an_export_lists_exactly_the_bitmaps_named():
    with serve() as (s, c):
        s.qmp().cmd("block-export-add", type="nbd", id="e", **{"node-name": "vda"}, name="backup",
                    writable=True, bitmaps=["b1"])
        assert c.list_contexts("backup") == [ALLOCATION, B1]
        assert c.list_contexts("backup", "qemu:dirty-bitmap:") == [B1]
        assert c.set_contexts("backup", ALLOCATION, B0, B1) == {ALLOCATION: 0, B1: 2}


@test
def M_imageio_order():
    """oVirt imageio sends STRUCTURED_REPLY, LIST of the namespace, SET of three contexts, and GO
    without infos."""
    with serve() as (s, c):
        assert c.list_contexts("vda", "qemu:dirty-bitmap:") == [B0, B1]
        assert c.set_contexts("vda", ALLOCATION, "qemu:allocation-depth", B0) == {
            ALLOCATION: 0, B0: 2}
        c.go("vda", ())
        assert set(c.block_status(0, 1 << 20)) == {ALLOCATION, B0}


main()
