#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Servers with very many exports, and exports with very many contexts: what clients of large sites
need works, and what goes beyond has limits."""

import contextlib
import json
import re
import struct

from fleece import SANITIZER, Server, require_program, run
from rawnbd import *
from tap import main, note, test

ALLOCATION, BITMAP = "base:allocation", "qemu:dirty-bitmap:"
MIB = 1 << 20
EXPORTS = 1100  # of one server
BITMAPS = 1000  # of one disk, as many as QEMU reads
MOST = 1024     # contexts of one client (server/nbd/meta.h)
DATA_MOST = 4 + 4096 + 4 + 1024 * (4 + 18 + 1023)  # bytes of an option (server/nbd/option.h)
LENGTH_MOST = 32 * MIB


@contextlib.contextmanager
def many_exports(n, *args, description=None):
    """A server with vda and n more exports: e0, e1 ..."""
    with Server(*args, "--disk", "vda", "memory", "1M") as s:
        q = s.qmp()
        more = {} if description is None else {"description": description}
        for i in range(n):
            q.cmd("block-export-add", type="nbd", id=f"e{i}", name=f"e{i}",
                  **{"node-name": "vda"}, **more)
        yield s


@contextlib.contextmanager
def many_bitmaps(names, size="16M"):
    with Server("--disk", "vda", "memory", size) as s:
        q = s.qmp()
        for name in names:
            q.cmd("block-dirty-bitmap-add", node="vda", name=name, granularity=65536)
        yield s, q


def numbered(n):
    return [f"b{i}" for i in range(n)]


def contexts_of(names):
    return [BITMAP + name for name in names]


def anonymous(s):
    """The private memory of the server, in bytes."""
    with open(f"/proc/{s.pid}/smaps_rollup") as f:
        return int(re.search(r"^Anonymous: *(\d+) kB", f.read(), re.M).group(1)) * 1024


@test
def nbdinfo_lists_1100_exports():
    require_program("nbdinfo")
    with many_exports(EXPORTS) as s:
        listed = json.loads(run("nbdinfo", "--list", "--json", s.uri()).stdout)["exports"]
        assert [e["export-name"] for e in listed] == ["vda"] + [f"e{i}" for i in range(EXPORTS)]
        assert all(e["export-size"] == MIB for e in listed)


@test
def qemu_nbd_lists_1100_exports():
    require_program("qemu-nbd")
    with many_exports(EXPORTS) as s:
        text = run("qemu-nbd", "-L", "-k", s.socket).stdout
        assert f"exports available: {EXPORTS + 1}" in text, text[:200]
        assert text.count(ALLOCATION) == EXPORTS + 1


@test
def a_client_may_send_thousands_of_options():
    with Server("--disk", "vda", "memory", "1M") as s, Client(s.socket) as c:
        c.structured()
        for _ in range(2000):
            assert c.info("vda") == REP_ACK
            assert c.list() == [("vda", "")]
        c.go("vda")


@test
def the_handshake_is_bounded_even_without_a_deadline():
    description = "x" * 4096
    with many_exports(200, "--handshake-timeout", "0", description=description) as s:
        told, allowed = 0, 64 * MIB + 201 * 65536
        with Client(s.socket) as c:
            try:
                while told <= 2 * allowed:
                    told += sum(20 + len(p) for _, p in c.option(OPT_LIST)[1]) + 36
            except (Closed, BrokenPipeError):
                pass
        assert allowed - MIB < told < allowed + 2 * MIB, told
        with Client(s.socket) as c:
            c.go("e7")


@test
def a_long_list_takes_no_memory():
    """A list of 4,000 exports with the longest descriptions has 16 MiB. Twenty clients ask for it
    and do not read it."""
    with many_exports(4000, description="x" * 4096) as s, contextlib.ExitStack() as clients:
        with Client(s.socket) as c:
            assert len(c.list()) == 4001
        before = anonymous(s)
        for _ in range(20):
            clients.enter_context(Client(s.socket)).send_option(OPT_LIST)
        with Client(s.socket) as c:
            assert len(c.list()) == 4001
        grown = anonymous(s) - before
        note(f"{grown / MIB:.1f} MiB more with 20 that do not read")
        if SANITIZER == "no":  # with whole lists in memory it would be 320 MiB
            assert grown < 64 * MIB, grown


@test
def all_contexts_of_1000_bitmaps():
    names = numbered(BITMAPS)
    for extended in False, True:
        with many_bitmaps(names) as (s, q), Client(s.socket) as c, Client(s.socket) as guest:
            guest.go("vda")
            c.extended() if extended else c.structured()
            assert c.list_contexts("vda") == [ALLOCATION] + contexts_of(names)
            ids = c.set_contexts("vda", ALLOCATION, *contexts_of(names))
            assert ids == {ALLOCATION: 0, **{BITMAP + n: 2 + i for i, n in enumerate(names)}}
            c.go("vda")
            guest.write(3 << 16, b"x" * 65536)
            status = c.block_status(0, 16 * MIB)
            assert len(status) == BITMAPS + 1
            for name in contexts_of(names):
                assert status[name] == [(3 << 16, 0), (1 << 16, 1), ((16 * MIB) - (4 << 16), 0)]
            c.write(0, b"y")
            (length, dirty), = c.block_status(0, 65536, REQ_ONE)[BITMAP + "b999"]
            assert 0 < length <= 65536 and dirty == 1
            c.in_step()


@test
def a_filter_of_1000_contexts():
    names = numbered(BITMAPS)
    with many_bitmaps(names) as (s, q), Client(s.socket) as c:
        c.extended()
        ids = c.set_contexts("vda", ALLOCATION, *contexts_of(names))
        c.go("vda")
        backwards = list(reversed(contexts_of(names)))
        assert list(c.filtered_status(0, MIB, backwards)) == backwards
        assert list(c.filtered_status(0, MIB, [BITMAP + "b999"])) == [BITMAP + "b999"]
        last = ids[BITMAP + "b999"]
        for wrong in [last + 1], [1], [last] * 2, [0, *range(2, 1002), 0], [*range(2, 1001), 2]:
            assert c.result(c.request_filtered(0, MIB, wrong)) == EINVAL, wrong[-3:]
        c.in_step()


@test
def as_many_contexts_as_one_client_may_have():
    names = numbered(MOST + 1)
    with many_bitmaps(names) as (s, q), Client(s.socket) as c:
        c.structured()
        assert len(c.list_contexts("vda")) == MOST + 2, "LIST names all contexts"
        assert c.meta(OPT_SET_META, "vda", ALLOCATION, *contexts_of(names[:MOST])) == (
            ERR_TOO_BIG, [])
        assert len(c.set_contexts("vda", *contexts_of(names[:MOST]))) == MOST
        # A SET replaces the former one even if it fails.
        assert c.meta(OPT_SET_META, "vda", *contexts_of(names)) == (ERR_TOO_BIG, [])
        c.go("vda")
        assert c.do(BLOCK_STATUS, 0, 65536) == EINVAL
    with many_bitmaps(names) as (s, q), Client(s.socket) as c:
        c.structured()
        assert len(c.set_contexts("vda", ALLOCATION, *contexts_of(names[:MOST - 1]))) == MOST
        c.go("vda")
        assert len(c.block_status(0, 16 * MIB)) == MOST
        c.in_step()


@test
def contexts_with_the_longest_names():
    names = [f"{i:0>4}" + "n" * 1019 for i in range(MOST)]
    with many_bitmaps(names) as (s, q), Client(s.socket) as c:
        c.structured()
        assert len(c.set_contexts("vda", ALLOCATION, *contexts_of(names[:BITMAPS]))) == BITMAPS + 1
        assert len(c.set_contexts("vda", *contexts_of(names))) == MOST
        c.go("vda")
        assert len(c.block_status(0, 16 * MIB)) == MOST


@test
def an_export_with_1000_bitmaps_of_its_own():
    names = numbered(BITMAPS)
    with many_bitmaps(names) as (s, q), Client(s.socket) as c:
        q.cmd("block-export-add", type="nbd", id="e", name="e", bitmaps=names, writable=True,
              **{"node-name": "vda"})
        c.structured()
        assert len(c.set_contexts("e", ALLOCATION, *contexts_of(names))) == BITMAPS + 1
        c.go("e")
        assert len(c.block_status(0, 16 * MIB)) == BITMAPS + 1


@test
def qemu_reads_the_last_of_1000_bitmaps():
    require_program("qemu-img")
    with many_bitmaps(numbered(BITMAPS)) as (s, q):
        with Client(s.socket) as guest:
            guest.go("vda").write(65536, b"x")
        where = ("driver=nbd,export=vda,server.type=unix,"
                 f"server.path={s.socket},x-dirty-bitmap={BITMAP}b999")
        found = json.loads(run("qemu-img", "map", "--output=json", "--image-opts", where).stdout)
        assert [(e["start"], e["length"]) for e in found if not e["data"]] == [(65536, 65536)], found


@test
def an_option_that_is_too_long_is_answered():
    with Server("--disk", "vda", "memory", "1M") as s, Client(s.socket) as c:
        c.structured()
        exactly = c.meta_data("vda", *["x"] * 1000)
        exactly = c.meta_data("vda", *["x"] * 1000,
                              *["y" * 4092] * ((DATA_MOST - len(exactly)) // 4096))
        rest = DATA_MOST - len(exactly)
        exactly = (exactly[:7] + struct.pack(">I", struct.unpack_from(">I", exactly, 7)[0] + 1) +
                   exactly[11:] + struct.pack(">I", rest - 4) + b"z" * (rest - 4))
        assert len(exactly) == DATA_MOST
        for option in OPT_LIST_META, OPT_SET_META:
            assert c.option(option, exactly) == (REP_ACK, [])
            assert c.option(option, exactly + b"\0") == (ERR_TOO_BIG, [])
        for option in OPT_LIST_META, OPT_SET_META, OPT_INFO, OPT_GO:
            for length in DATA_MOST + 1, 4 * MIB:
                assert c.option(option, bytes(length)) == (ERR_TOO_BIG, []), (option, length)
        for option in OPT_LIST, OPT_STRUCTURED_REPLY, OPT_EXTENDED_HEADERS:
            assert c.option(option, bytes(2 * MIB)) == (ERR_INVALID, []), option
        assert c.set_contexts("vda", ALLOCATION) == {ALLOCATION: 0}
        assert c.option(OPT_SET_META, bytes(2 * MIB)) == (ERR_TOO_BIG, [])
        c.go("vda")
        assert c.do(BLOCK_STATUS, 0, 65536) == EINVAL, "a SET that fails leaves nothing selected"
        with Client(s.socket) as c:
            assert c.option(99, bytes(LENGTH_MOST)) == (ERR_UNSUP, [])
            assert c.info("vda") == REP_ACK
        with Client(s.socket) as c:
            c.send_option(OPT_LIST, length=LENGTH_MOST + 1)
            c.expect_end()
        with Client(s.socket) as c:
            c.send_option(OPT_EXPORT_NAME, bytes(2 * MIB))
            c.expect_end()
        with Client(s.socket) as c:
            assert c.option(OPT_ABORT, bytes(2 * MIB)) == (REP_ACK, [])


@test
def idle_clients_in_the_handshake_hold_little_memory():
    """A client in the handshake has selected 1,001 contexts with the longest names. The server
    keeps the list of the contexts, and not the option and its replies."""
    names = [f"{i:0>4}" + "n" * 1019 for i in range(BITMAPS)]
    clients = 30
    with many_bitmaps(names) as (s, q), contextlib.ExitStack() as stack:
        def user(go):
            c = stack.enter_context(Client(s.socket))
            c.structured()
            c.set_contexts("vda", ALLOCATION, *contexts_of(names))
            if go:
                c.go("vda")
                c.block_status(0, 16 * MIB)
        user(True)
        user(False)
        before = anonymous(s)
        for _ in range(clients):
            user(False)
        waiting = anonymous(s) - before
        note(f"{waiting // clients // 1024} KiB more for each in the handshake")
        if SANITIZER == "no":  # an option and its replies are 3 MiB
            assert waiting < clients * 300 * 1024, waiting


main()
