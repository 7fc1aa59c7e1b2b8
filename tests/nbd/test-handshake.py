#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The handshake: the rules of tests/conformance/README.md whose names begin with H."""

import contextlib
import os
import signal
import struct

from fleece import Server
from held import Held
from rawnbd import *
from tap import main, test

DISKS = ("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "2M")


@contextlib.contextmanager
def serve(*args, flags=FIXED_NEWSTYLE | NO_ZEROES):
    """A server and a greeted client."""
    with Server(*(args + DISKS)) as s, Client(s.socket, flags) as c:
        yield s, c


def works(c):
    """The next option gets its answer."""
    assert c.info("vda") == REP_ACK


@test
def H1_handshake_flags():
    with serve(flags=FIXED_NEWSTYLE) as (s, c):
        assert c.handshake_flags == FIXED_NEWSTYLE | NO_ZEROES
        assert c.go("vda").read(0, 512) == bytes(512)
        for flags in 4, 0x80000003, 0xFFFFFFFF:
            with Client(s.socket, flags) as bad:
                bad.expect_end()


@test
def H1_masked_flags_are_not_offered_and_not_taken():
    with Server("--mask-handshake=1", *DISKS) as s:
        with Client(s.socket, FIXED_NEWSTYLE) as c:
            assert c.handshake_flags == FIXED_NEWSTYLE
            c.go("vda")
        with Client(s.socket, FIXED_NEWSTYLE | NO_ZEROES) as c:
            c.expect_end()
    with Server("--mask-handshake=0", *DISKS) as s:
        with Client(s.socket, 0) as c:
            assert c.handshake_flags == 0
            c.export_name("vda", zeroes=True).in_step()


@test
def contexts_that_are_switched_off():
    """With --no-mc each option about contexts gets ERR_UNSUP, at any time and with any data, as in
    nbdkit."""
    right, wrong = Client.meta_data("vda", "base:allocation"), b"x"
    for option in "--no-mc", "--no-meta-contexts":
        with serve(option) as (s, c):
            for agree in (lambda: None), c.structured, c.extended:
                agree()
                for meta in OPT_SET_META, OPT_LIST_META:
                    for data in right, wrong:
                        assert c.option(meta, data) == (ERR_UNSUP, []), (agree, meta, data)
            c.go("vda")
            cookie = c.request(BLOCK_STATUS, 0, 512)
            assert c.result(cookie) == EINVAL
            c.in_step()


@test
def extended_headers_that_are_switched_off():
    """With --no-eh the server does not know the option. Structured replies still work."""
    for option in "--no-eh", "--no-extended-headers", "--no-sr":
        with serve(option) as (s, c):
            for data in b"", b"x":
                assert c.option(OPT_EXTENDED_HEADERS, data) == (ERR_UNSUP, []), (option, data)
            if option != "--no-sr":
                c.structured()
                c.set_contexts("vda", "base:allocation")
            assert c.go("vda").read(0, 512) == bytes(512)
            c.in_step()


@test
def H2_unknown_options_are_consumed():
    with serve() as (s, c):
        for option in 4, 5, 12, 99, 0xFFFFFFFF:
            for data in b"", b"x" * 1000, bytes(65536):
                assert c.option(option, data) == (ERR_UNSUP, []), option
        works(c)


@test
def H2_malformed_options_get_INVALID_and_the_next_works():
    with serve() as (s, c):
        c.structured()
        bad = [
            (OPT_LIST, b"x"),
            (OPT_STRUCTURED_REPLY, b"x"),
            (OPT_GO, b""),
            (OPT_GO, b"\0\0\0"),
            (OPT_INFO, b"\0\0\0\0\0"),
            (OPT_INFO, c.go_data("vda") + b"x"),
            (OPT_INFO, struct.pack(">I", 3) + b"vda" + struct.pack(">HH", 2, 3)),
            (OPT_INFO, struct.pack(">I", 3) + b"vda" + struct.pack(">HHH", 1, 3, 3)),
            (OPT_SET_META, b""),
            (OPT_SET_META, struct.pack(">I", 3) + b"vda"),
            (OPT_SET_META, c.meta_data("vda", "base:allocation") + b"x"),
            (OPT_SET_META, struct.pack(">I", 3) + b"vda" + struct.pack(">I", 0xFFFFFFFF)),
            (OPT_LIST_META, struct.pack(">I", 3) + b"vda" + struct.pack(">II", 1, 0xFFFFFFFF)),
            (OPT_LIST_META, struct.pack(">I", 0xFFFFFFFF) + b"vda" + struct.pack(">I", 0)),
        ]
        for option, data in bad:
            assert c.option(option, data) == (ERR_INVALID, []), (option, data)
            works(c)


@test
def H3_option_above_the_cap_ends_the_connection():
    with serve() as (s, c):
        c.send_option(99, length=65537)
        c.expect_end()
    with serve() as (s, c):
        c.send_option(OPT_GO, length=0xFFFFFFFF)
        c.expect_end()


@test
def H3_wrong_option_magic_ends_the_connection():
    with serve() as (s, c):
        c.send(b"GET / HTTP/1.1\r\n\r\n")
        c.expect_end()


@test
def H3_endless_haggling_ends():
    with Server("--handshake-timeout", "1", "memory", "1M") as s, Client(s.socket) as c:
        c.structured()
        data = c.meta_data("", "base:allocation")
        try:
            while True:  # the test's own time is the limit
                c.option(OPT_SET_META, data)
        except (Closed, BrokenPipeError):
            pass


@test
def H4_EXPORT_NAME():
    with serve(flags=FIXED_NEWSTYLE) as (s, c):
        c.export_name("vdb", zeroes=True)
        assert c.size == 2 << 20 and c.eflags & HAS_FLAGS
        c.in_step()
    with serve() as (s, c):
        c.export_name("", zeroes=False)
        assert c.size == 1 << 20
        c.in_step()
        with Client(s.socket) as unknown:
            unknown.send_option(OPT_EXPORT_NAME, b"nope")
            unknown.expect_end()
        with Client(s.socket) as bad:
            bad.send_option(OPT_EXPORT_NAME, b"a\0b")
            bad.expect_end()


@test
def H5_ABORT():
    for data in b"", b"ignored":
        with serve() as (s, c):
            assert c.option(OPT_ABORT, data) == (REP_ACK, [])
            c.expect_end()


@test
def H6_LIST():
    with serve() as (s, c):
        assert c.list() == [("vda", ""), ("vdb", "")]
        assert c.option(OPT_LIST, b"x") == (ERR_INVALID, [])
        q = s.qmp()
        q.cmd("block-export-add", type="nbd", id="e", **{"node-name": "vdb"}, name="more",
              description="what it is")
        assert c.list() == [("vda", ""), ("vdb", ""), ("more", "what it is")]


@test
def H7_INFO_GO_name_length():
    with serve() as (s, c):
        for n in 4, 5, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF:
            data = struct.pack(">I", n) + b"vda" + struct.pack(">H", 0)
            assert c.option(OPT_GO, data) == (ERR_INVALID, [])
        works(c)


@test
def H7_INFO_GO_unknown_infos_are_ignored():
    with serve() as (s, c):
        assert c.info("vda", (77, 0xFFFF, INFO_NAME, 4)) == REP_ACK
        assert set(c.infos) == {INFO_EXPORT, INFO_NAME}


@test
def H7_INFO_GO_unknown_export():
    with serve() as (s, c):
        for name in "nope", "vda ", "VDA", "x" * 4096:
            for option in OPT_INFO, OPT_GO:
                assert c.option(option, c.go_data(name, (INFO_BLOCK_SIZE,))) == (ERR_UNKNOWN, [])
        assert len(c.message) < 300, "the name is echoed truncated"
        assert c.option(OPT_GO, c.go_data("a\n\x1b[31mb")) == (ERR_UNKNOWN, [])
        assert "\n" not in c.message and "\x1b" not in c.message
        c.go("vda").in_step()


@test
def H8_INFO_items():
    with serve() as (s, c):
        assert c.info("", ()) == REP_ACK
        assert set(c.infos) == {INFO_EXPORT} and c.size == 1 << 20
        assert c.info("", (INFO_EXPORT, INFO_NAME, INFO_BLOCK_SIZE)) == REP_ACK
        assert c.infos[INFO_NAME] == b"vda"
        assert len(c.infos[INFO_BLOCK_SIZE]) == 12
        s.qmp().cmd("block-export-add", type="nbd", id="e", **{"node-name": "vdb"}, name="more",
                    description="what it is")
        assert c.info("more", (INFO_DESCRIPTION,)) == REP_ACK
        assert c.infos[INFO_DESCRIPTION] == b"what it is"


@test
def H9_INFO_then_GO_agree_and_no_padding():
    with serve(flags=FIXED_NEWSTYLE) as (s, c):
        infos = (INFO_NAME, INFO_BLOCK_SIZE, INFO_DESCRIPTION)
        assert c.info("vdb", infos) == REP_ACK
        before = c.infos
        c.go("vdb", infos)
        assert c.infos == before
        assert c.read(0, 512) == bytes(512)  # zero padding would be read as this reply


@test
def H10_errors_have_bit_31_and_text():
    with serve() as (s, c):
        for option, data, error in ((99, b"", ERR_UNSUP), (OPT_LIST, b"x", ERR_INVALID),
                                    (OPT_GO, c.go_data("no"), ERR_UNKNOWN),
                                    (OPT_GO, c.go_data("x" * 4097), ERR_TOO_BIG)):
            final, replies = c.option(option, data)
            assert final == error and c.message, (option, hex(final))


@test
def H11_strings():
    with serve() as (s, c):
        c.structured()
        for name in b"a\0b", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80":
            assert c.option(OPT_GO, c.go_data(name)) == (ERR_INVALID, [])
            assert c.option(OPT_SET_META, c.meta_data(name)) == (ERR_INVALID, [])
            assert c.option(OPT_SET_META, c.meta_data("vda", name)) == (ERR_INVALID, [])
        long = b"x" * 4097
        for data in c.meta_data(long), c.meta_data("vda", long):
            final, _ = c.option(OPT_SET_META, data)
            assert final in (ERR_INVALID, ERR_TOO_BIG)
        assert c.option(OPT_GO, c.go_data("\u00e4\u20ac" * 10)) == (ERR_UNKNOWN, [])
        works(c)


@test
def H12_STRUCTURED_REPLY():
    with serve() as (s, c):
        assert c.option(OPT_STRUCTURED_REPLY, b"x") == (ERR_INVALID, [])
        assert c.info("vda") == REP_ACK and not c.eflags & SEND_DF
        c.structured()
        assert c.option(OPT_STRUCTURED_REPLY)[0] in (REP_ACK, ERR_INVALID)
        c.go("vda")
        assert c.eflags & SEND_DF
        assert c.replies(c.request(READ, 0, 512))[0].type == TYPE_DATA


@test
def H12_no_sr_refuses_structured_replies():
    with serve("--no-sr") as (s, c):
        assert c.option(OPT_STRUCTURED_REPLY) == (ERR_UNSUP, [])
        c.go("vda")
        assert not c.eflags & SEND_DF
        c.in_step()


@test
def H13_shutting_down():
    # A request under way delays the end, so that the other client can still be answered.
    with Held() as h, Client(h.server.socket) as busy, Client(h.server.socket) as c:
        busy.go()
        cookie = busy.request(READ, 0, 512)
        h.wait_begun()
        os.kill(h.server.pid, signal.SIGTERM)
        while c.info("vda") != ERR_SHUTDOWN:  # until the server has seen the signal
            pass
        for option in OPT_LIST, OPT_GO, OPT_STRUCTURED_REPLY, 99:
            assert c.option(option) == (ERR_SHUTDOWN, [])
        assert c.option(OPT_ABORT) == (REP_ACK, [])
        h.let_go()
        assert busy.result(cookie) == 0
        h.server.wait()


main()
