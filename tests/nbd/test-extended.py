#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Extended headers: the rules of tests/conformance/README.md whose names begin with E, and other
rules whose messages look different with extended headers."""

import contextlib
import os
import random
import struct

from fleece import Server, tmpdir
from held import Held
from pieces import read_random_pieces
from rawnbd import *
from tap import main, test

SIZE = 8 << 20
TIB = 1 << 40
ALLOCATION, B0, B1 = "base:allocation", "qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1"


@contextlib.contextmanager
def serve(*args, bitmaps=(), contexts=()):
    """A server, and a client in transmission with extended headers. bitmaps: (name, granularity)"""
    with Server(*(args or ("memory", str(SIZE)))) as s, Client(s.socket) as c:
        if bitmaps:
            q = s.qmp()
            for name, granularity in bitmaps:
                q.cmd("block-dirty-bitmap-add", node="disk0", name=name, granularity=granularity)
        c.extended()
        if contexts:
            c.set_contexts("", *contexts)
        yield s, c.go("", (INFO_BLOCK_SIZE,))


# ---- the handshake ----

@test
def E1_EXTENDED_HEADERS_takes_no_data():
    with Server("memory", "1M") as s, Client(s.socket) as c:
        assert c.option(OPT_EXTENDED_HEADERS, b"x") == (ERR_INVALID, [])
        c.go()
        # Extended headers are off, since the option failed.
        assert c.replies(c.request(READ, 0, 512))[0].simple


@test
def E1_STRUCTURED_REPLY_comes_too_late():
    with Server("memory", "1M") as s, Client(s.socket) as c:
        c.extended()
        assert c.option(OPT_STRUCTURED_REPLY) == (ERR_EXT_HEADER_REQD, [])
        assert c.option(OPT_STRUCTURED_REPLY, b"x") == (ERR_INVALID, [])
        c.go()
        assert c.eflags & SEND_DF
        c.in_step()


@test
def E1_STRUCTURED_REPLY_before_and_again():
    with Server("memory", "1M") as s, Client(s.socket) as c:
        c.structured()
        c.extended()
        assert c.option(OPT_EXTENDED_HEADERS)[0] in (REP_ACK, ERR_INVALID)
        c.go().in_step()


@test
def E1_contexts_without_STRUCTURED_REPLY():
    with serve(contexts=[ALLOCATION]) as (s, c):
        assert c.block_status(0, SIZE)


@test
def E1_EXPORT_NAME_is_forbidden():
    with Server("memory", "1M") as s, Client(s.socket) as c:
        c.extended()
        c.send_option(OPT_EXPORT_NAME)
        c.expect_end()


@test
def E1_no_sr_refuses_it():
    with Server("--no-sr", "memory", "1M") as s, Client(s.socket) as c:
        assert c.option(OPT_EXTENDED_HEADERS) == (ERR_UNSUP, [])
        c.go().in_step()


@test
def X1_BLOCK_STATUS_PAYLOAD_where_contexts_are_selected():
    """Only the export whose contexts are selected has the flag. INFO and GO agree on it."""
    with Server("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "1M") as s:
        with Client(s.socket) as c:
            c.structured()
            c.set_contexts("vda", ALLOCATION)
            assert c.info("vda") == REP_ACK and not c.eflags & BLOCK_STATUS_PAYLOAD
            c.extended()
            assert c.info("vda") == REP_ACK and c.eflags & BLOCK_STATUS_PAYLOAD
            assert c.info("vdb") == REP_ACK and not c.eflags & BLOCK_STATUS_PAYLOAD
            assert c.go("vda").eflags & BLOCK_STATUS_PAYLOAD
        with Client(s.socket) as c:
            c.extended()
            c.set_contexts("vda")
            assert c.info("vda") == REP_ACK and not c.eflags & BLOCK_STATUS_PAYLOAD
            assert not c.go("vda").eflags & BLOCK_STATUS_PAYLOAD


# ---- headers ----

@test
def E2_all_replies_are_extended():
    """Client.reply() refuses other replies, and checks that each repeats the offset of its
    request."""
    with serve(contexts=[ALLOCATION]) as (s, c):
        for command in COMMANDS:
            length = 0 if command == FLUSH else 4096
            assert c.do(command, 0 if command == FLUSH else 8192, length) == 0, command
        for command in COMMANDS + (100,):
            assert c.do(command, SIZE, 4096) in (EINVAL, ENOSPC), command
        c.nothing_comes()


@test
def E2_wrong_magic_ends_the_connection():
    for agreed, magic in ((True, REQUEST_MAGIC), (False, EXTENDED_REQUEST_MAGIC)):
        with Server("memory", "1M") as s, Client(s.socket) as c:
            if agreed:
                c.extended()
            c.go()
            c.request(READ, 0, 512, magic=magic)
            c.expect_end()


@test
def E2_reads_in_pieces_repeat_the_first_offset():
    with serve() as (_, c):
        read_random_pieces(c, SIZE, flags=(0, DF))


@test
def E2_errors_in_the_middle_of_a_read():
    with serve("eval", f"get_size=echo {SIZE}",
               f"pread=if [ $(($3 + $4)) -gt {SIZE // 2} ]; then echo EIO bad >&2; exit 1; fi;"
               " head -c $3 /dev/zero") as (s, c):
        for flags in 0, DF:
            messages = c.replies(c.request(READ, 4096, SIZE - 4096, flags))
            assert [m.error for m in messages if m.error] == [EIO]
        c.in_step()


@test
def X2_unknown_flags_and_wrong_ones():
    with serve(contexts=[ALLOCATION]) as (s, c):
        for command in COMMANDS:
            for flag in 1 << 6, 1 << 15:
                length = 0 if command == FLUSH else 512
                assert c.do(command, 0, length, flag) == EINVAL, (command, flag)
        c.in_step()


@test
def X2_PAYLOAD_LEN_is_unknown_without_extended_headers():
    with Server("memory", "1M") as s, Client(s.socket) as c:
        c.structured()
        c.set_contexts("", ALLOCATION)
        c.go()
        for command in COMMANDS:
            data = b"x" * 512 if command == WRITE else b""
            assert c.do(command, 0, 512, PAYLOAD_LEN, data) == EINVAL
        c.in_step()


# ---- payloads ----

@test
def E3_WRITE_without_PAYLOAD_LEN():
    """The protocol forbids it, but QEMU sends such writes, and their payload follows as always."""
    with serve() as (s, c):
        cookie = c.request(WRITE, 0, 4096)
        c.send(b"x" * 4096)
        assert c.result(cookie) == 0
        assert c.read(0, 4096) == b"x" * 4096
        cookie = c.request(WRITE, SIZE, 4096)
        c.send(b"x" * 4096)
        assert c.result(cookie) == ENOSPC
        for flags in 0, PAYLOAD_LEN:
            assert c.result(c.request(WRITE, 0, 0, flags)) == 0
        c.in_step()


@test
def E3_stray_payloads_are_drained():
    with serve(contexts=[ALLOCATION]) as (s, c):
        for command in READ, FLUSH, TRIM, CACHE, WRITE_ZEROES, 100:
            for length in 1, 512, 65536, 3 << 20:
                cookie = c.request(command, 0, length, PAYLOAD_LEN, data=b"y" * length)
                assert c.result(cookie) == EINVAL, (command, length)
                c.in_step()


@test
def E3_payloads_beyond_the_maximum_end_the_connection():
    for command, length in ((WRITE, OUR_MAX_PAYLOAD + 1), (WRITE, 1 << 63), (TRIM, 1 << 32),
                            (BLOCK_STATUS, (1 << 64) - 1)):
        with serve(contexts=[ALLOCATION]) as (s, c):
            c.request(command, 0, length, PAYLOAD_LEN)
            c.expect_end()


@test
def E3_refused_writes_are_drained():
    with serve("-r", "memory", "128M") as (s, c):
        for length in 1, 65536, 5 << 20, MAX_PAYLOAD, OUR_MAX_PAYLOAD:
            assert c.do(WRITE, 0, length) == EPERM
            c.in_step()


@test
def E3_writes_of_all_sizes():
    with serve("memory", "128M") as (s, c):
        for length in (1, 512, 65536, 1 << 20, (2 << 20) - 1, 5 << 20, MAX_PAYLOAD,
                       OUR_MAX_PAYLOAD):
            data = random.randbytes(length)
            c.write(1000, data)
            assert c.read(1000, length) == data


@test
def X3_cookies_in_flight():
    with Held() as h, Client(h.server.socket) as c:
        c.extended()
        c.go()
        held = c.request(READ, 0, 512, cookie=7)
        h.wait_begun()
        assert c.do(READ, 4096, 512) == 0
        h.let_go()
        assert c.result(held) == 0


# ---- lengths of 64 bits ----

@test
def E3_effect_lengths_have_64_bits():
    """One request covers 8 TiB."""
    size = 8 * TIB
    with serve("memory", str(size), bitmaps=(("b0", 1 << 20),), contexts=[B0]) as (s, c):
        c.write(5 * TIB, b"x" * 65536)
        for command in TRIM, CACHE:
            assert c.do(command, 0, size) in (0, EINVAL, EOVERFLOW), command
            c.in_step()
        assert c.map(B0, 0, size) == [(size, 1)]
        c.write(5 * TIB, b"x" * 65536)
        assert c.do(WRITE_ZEROES, 4096, size - 8192) == 0
        assert c.read(5 * TIB, 65536) == bytes(65536)
        assert c.do(READ, 0, size) == EOVERFLOW
        assert c.do(READ, 0, 1 << 32) == EOVERFLOW
        c.in_step()


@test
def X6_past_the_end():
    with serve(contexts=[ALLOCATION]) as (s, c):
        for offset, length in ((0, SIZE + 4096), (0, 1 << 32), (4096, (1 << 32) + 4096),
                               (4096, (1 << 64) - 4096), (1 << 63, 1 << 63), (0, (1 << 64) - 1)):
            for command, error in ((READ, EINVAL), (TRIM, EINVAL), (CACHE, EINVAL),
                                   (BLOCK_STATUS, EINVAL), (WRITE_ZEROES, ENOSPC)):
                assert c.do(command, offset, length) == error, (command, offset, length)
        c.in_step()


@test
def E4_status_of_8_TiB_in_one_request():
    size = 8 * TIB
    with serve("memory", str(size), bitmaps=(("b0", 1 << 16), ("b1", 1 << 20)),
               contexts=[ALLOCATION, B0, B1]) as (s, c):
        c.write(5 * TIB, b"x" * 65536)
        status = c.block_status(0, size)
        assert status[ALLOCATION] == [(5 * TIB, 3), (65536, 0), (3 * TIB - 65536, 3)], status
        assert status[B0] == [(5 * TIB, 0), (65536, 1), (3 * TIB - 65536, 0)], status
        assert status[B1] == [(5 * TIB, 0), (1 << 20, 1), (3 * TIB - (1 << 20), 0)], status
        one = c.block_status(0, size, REQ_ONE)
        assert len({e[0][0] for e in one.values()}) == 1
        assert one[B0][0][0] <= 5 * TIB


@test
def E4_status_of_a_sparse_file():
    size = 8 * TIB
    with tmpdir() as d:
        path = os.path.join(d, "disk")
        with open(path, "wb") as f:
            f.truncate(size)
            f.seek(7 * TIB)
            f.write(b"x" * 65536)
        with serve("file", path, contexts=[ALLOCATION]) as (s, c):
            expected = [(7 * TIB, 3), (65536, 0), (TIB - 65536, 3)]
            assert c.block_status(0, size)[ALLOCATION] == expected
            q = s.qmp()
            q.cmd("view-create", disk="disk0", name="v")
            q.cmd("block-export-add", type="nbd", id="v", name="v", **{"node-name": "v"})
            c.write(TIB, b"y" * 65536)
            with Client(s.socket) as view:
                view.extended()
                view.set_contexts("v", ALLOCATION)
                view.go("v")
                assert view.map(ALLOCATION, 0, size) == expected


@test
def E4_many_extents():
    """400,000 extents come in few, long replies."""
    runs = 200000
    with serve("memory", "256M", bitmaps=(("b0", 512),), contexts=[B0]) as (s, c):
        step = 1000
        for base in range(0, runs, step):
            for i in range(base, base + step):
                c.request(WRITE, i * 1024, 512, data=bytes(512))
            for _ in range(step):
                assert c.reply().error == 0
        offset, extents, replies = 0, 0, 0
        while offset < runs * 1024:
            got = c.block_status(offset, runs * 1024 - offset)[B0]
            assert got[0] == (512, 1)
            offset += sum(n for n, _ in got)
            extents += len(got)
            replies += 1
        assert extents == 2 * runs and replies <= 8, (extents, replies)


# ---- some of the contexts ----

@test
def E5_some_contexts():
    names = [ALLOCATION, B0, B1]
    with serve(bitmaps=(("b0", 65536), ("b1", 1 << 20)), contexts=names) as (s, c):
        c.write(65536, b"x" * 65536)
        whole = c.block_status(0, SIZE)
        for some in [[n] for n in names] + [names, names[::-1], names[1:], [B1, ALLOCATION]]:
            assert c.filtered_status(0, SIZE, some) == {n: whole[n] for n in some}
        assert c.filtered_status(65536, SIZE - 65536, [B0], REQ_ONE) == {B0: [(65536, 1)]}
        assert c.block_status(0, SIZE) == whole


@test
def E5_bad_filters_are_drained():
    with serve(bitmaps=(("b0", 65536),), contexts=[ALLOCATION, B0]) as (s, c):
        a, b = c.contexts[ALLOCATION], c.contexts[B0]

        def fails(offset, data, flags=0):
            cookie = c.request(BLOCK_STATUS, offset, len(data), flags | PAYLOAD_LEN, data=data)
            assert c.result(cookie) == EINVAL, data[:32]
            c.in_step()

        def payload(length, *ids):
            return struct.pack(f">Q{len(ids)}I", length, *ids)

        for ids in (a, a), (b, a, b), (a, 1), (0xFFFFFFFF,), (), range(1000), range(1 << 20):
            fails(0, payload(4096, *ids))
        for length in range(1, 24):
            if length not in (12, 16):
                fails(0, payload(4096, a, b, a, b)[:length])
        for offset, length in ((0, SIZE + 1), (0, 0), (SIZE, 1), (4096, (1 << 64) - 4096)):
            fails(offset, payload(length, a))
        fails(0, payload(4096, a), DF)
        assert c.filtered_status(0, 4096, [B0]) == {B0: [(4096, 0)]}


@test
def E5_no_filter_without_contexts():
    with serve() as (s, c):
        for contexts in (0,), ():
            assert c.result(c.request_filtered(0, 4096, contexts)) == EINVAL
            c.in_step()
        assert c.do(BLOCK_STATUS, 0, 4096) == EINVAL


@test
def B3_filters_and_alignment():
    with serve("eval", "get_size=echo 1048576", "pread=head -c $3 /dev/zero",
               "block_size=echo 4096 4096 1048576", contexts=[ALLOCATION]) as (s, c):
        for offset, length in ((0, 4097), (512, 4096)):
            assert c.result(c.request_filtered(offset, length, [0])) == EINVAL
        assert c.filtered_status(4096, 8192, [ALLOCATION]) == {ALLOCATION: [(8192, 0)]}


# ---- all together ----

@test
def a_slow_disk_answers_out_of_order():
    """Replies of workers, also to filtered BLOCK_STATUS, have the headers of their own requests."""
    with serve("eval", "get_size=echo 16777216", "pread=head -c $3 /dev/zero",
               "can_extents=exit 0", "extents=echo $4 $3", "thread_model=echo parallel",
               contexts=[ALLOCATION]) as (s, c):
        cookies = {}
        for i in range(16):
            cookies[c.request(READ, i << 20, 1000)] = 1000
            cookies[c.request_filtered(i << 20, 4096, [0])] = 4096
        while cookies:
            m = c.reply()
            assert not m.error and m.done
            n = cookies.pop(m.cookie)
            assert len(m.data) == n if m.type == TYPE_DATA else m.extents == [(n, 0)]


main()
