#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Replies: the rules of tests/conformance/README.md whose names begin with S."""

import contextlib
import os

from fleece import Server
from pieces import read_random_pieces
from rawnbd import *
from tap import main, test

SIZE = 8 << 20
# Reads that touch the second half fail.
HALF_BAD = ("eval", f"get_size=echo {SIZE}",
            f"pread=if [ $(($3 + $4)) -gt {SIZE // 2} ]; then echo EIO bad >&2; exit 1; fi;"
            " head -c $3 /dev/zero | tr '\\0' 'd'")


@contextlib.contextmanager
def serve(*args, structured=True, contexts=()):
    with Server(*(args or ("memory", "8M"))) as s, Client(s.socket) as c:
        if structured:
            c.structured()
        if contexts:
            c.set_contexts("", *contexts)
        yield s, c.go()


@test
def S1_simple_replies_only():
    with serve(structured=False) as (s, c):
        for command in COMMANDS:  # Client.reply() refuses chunks
            c.do(command, 0, 0 if command == FLUSH else 4096)
        c.nothing_comes()


@test
def S1_failed_simple_read_has_no_payload():
    with serve(*HALF_BAD, structured=False) as (s, c):
        assert c.do(READ, SIZE // 2, 4096) == EIO
        assert c.read(0, 4096) == b"d" * 4096


@test
def S1_simple_read_that_fails_late_disconnects():
    with serve(*HALF_BAD, structured=False) as (s, c):
        c.request(READ, 0, SIZE)
        try:
            c.result(1)
        except Closed:
            pass
        else:
            raise AssertionError("a read that failed in its middle is answered with success")


@test
def S2_READ_is_never_a_simple_reply():
    with serve(*HALF_BAD) as (s, c):
        for offset, length, flags, error in ((0, 512, 0, 0), (SIZE, 512, 0, EINVAL),
                                             (0, 512, NO_HOLE, EINVAL), (0, 0, 0, 0),
                                             (SIZE - 512, 512, 0, EIO)):
            messages = c.replies(c.request(READ, offset, length, flags))
            assert not any(m.simple for m in messages)
            assert [m.error for m in messages if m.error] == ([error] if error else [])


@test
def S3_content_chunks():
    with serve() as (_, c):
        read_random_pieces(c, SIZE)


@test
def S3_DONE_exactly_once():
    with serve() as (s, c):
        cookies = [c.request(READ, 0, 1 << 20) for _ in range(5)]
        done = []
        while len(done) < 5:
            m = c.reply()
            assert m.cookie not in done
            if m.done:
                done.append(m.cookie)
        assert sorted(done) == cookies
        c.nothing_comes()


@test
def S4_chunk_lengths():
    with serve() as (s, c):  # Client.reply() checks the formats
        for length in 1, 8, 9, 511, 4096, 300000:
            assert c.read(1, length) == bytes(length)


@test
def S5_error_after_some_chunks():
    with serve(*HALF_BAD) as (s, c):
        messages = c.replies(c.request(READ, 0, SIZE))
        errors = [m for m in messages if m.error]
        assert errors and all(m.error == EIO for m in errors)
        assert all(m.message for m in errors)
        for m in errors:
            if m.type == TYPE_ERROR_OFFSET:
                assert SIZE // 2 <= m.offset < SIZE, m.offset  # the part that could not be read
        for m in messages:
            if m.type == TYPE_DATA and m.offset + len(m.data) <= SIZE // 2:
                assert set(m.data) == {ord("d")}
        assert c.read(0, 4096) == b"d" * 4096


@test
def S5_error_inside_a_chunk_is_padded():
    with serve(*HALF_BAD) as (s, c):
        messages = c.replies(c.request(READ, 0, SIZE, DF))
        content = [m for m in messages if m.type == TYPE_DATA]
        assert len(content) <= 1
        for m in content:
            assert len(m.data) == SIZE and not m.flags & DONE
        assert any(m.error == EIO for m in messages)
        assert c.read(0, 4096) == b"d" * 4096


@test
def S6_DF():
    with serve() as (s, c):
        c.write(65536, b"x" * 65536)
        for length in 1, 512, 65536, 131072, 1 << 20, SIZE:
            messages = c.replies(c.request(READ, 0, length, DF))
            if messages[0].error:
                assert length > 65536 and messages[0].error == EOVERFLOW
                continue
            assert [m.type for m in messages if m.type != TYPE_NONE] == [TYPE_DATA]
            assert messages[0].data == (bytes(65536) + b"x" * 65536 + bytes(SIZE))[:length]


@test
def S_a_client_that_does_not_read_leaves_others_alone():
    """The server stops reading requests of a client that does not read its replies. Another client
    goes on."""
    with serve() as (s, c), Client(s.socket) as deaf:
        deaf.go()
        deaf.socket.setblocking(False)
        try:
            for _ in range(100000):
                deaf.request(READ, 0, 1 << 20)
            raise AssertionError("requests were taken in without end")
        except BlockingIOError:
            pass
        with open(f"/proc/{s.pid}/statm") as f:
            assert int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") < 400 << 20
        assert c.read(0, 4096) == bytes(4096)


main()
