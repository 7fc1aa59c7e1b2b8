# SPDX-License-Identifier: BSD-3-Clause
"""An NBD export as the target of a copy: all is written, and nothing is called done that may be
lost."""

import contextlib

from copying import FAILED, UNREACHABLE, COPY
from fakenbd import ALLOCATION, PLAIN_FLAGS, Export, FakeServer, Gone
from fleece import run
from rawnbd import *
from tap import main, test

K, M = 1 << 10, 1 << 20
RETRY = "100"


def source(size=8 * M, zero=(2 * M, 3 * M)):
    """A disk with a range of zeroes."""
    start, end = zero
    e = Export(size, contexts={ALLOCATION: [(start, 0), (end - start, 2), (size - end, 0)]})
    e.data[start:end] = bytes(end - start)
    return e


@contextlib.contextmanager
def pair(target, **kwargs):
    with FakeServer(source(**kwargs)) as s, FakeServer(target) as t:
        yield s, t


def kinds(t):
    return [r.kind for _, r in t.requests]


def copy(s, t, *options):
    return run(COPY, *options, s.uri, t.uri)


@test
def all_is_written_and_flushed():
    with pair(Export(8 * M, contexts={})) as (s, t):
        copy(s, t)
        assert t.export.data == s.export.data
        assert WRITE_ZEROES in kinds(t)
        # On each connection a flush comes after its last write.
        last = {}
        for c, r in t.requests:
            last[c] = r.kind
        assert set(last.values()) == {FLUSH}, last
        assert t.connections == 4


@test
def a_target_without_zeroes_gets_them_written():
    with pair(Export(8 * M, flags=PLAIN_FLAGS & ~SEND_WRITE_ZEROES, contexts={})) as (s, t):
        copy(s, t)
        assert t.export.data == s.export.data
        assert WRITE_ZEROES not in kinds(t)


@test
def a_clean_target_gets_no_zeroes():
    with pair(Export(8 * M, contexts={}, data=bytearray(8 * M))) as (s, t):
        copy(s, t, "--clean")
        assert t.export.data == s.export.data
        assert WRITE_ZEROES not in kinds(t)


@test
def one_connection_without_multi_conn():
    with pair(Export(8 * M, flags=PLAIN_FLAGS & ~CAN_MULTI_CONN, contexts={})) as (s, t):
        copy(s, t)
        assert t.connections == 1 and t.export.data == s.export.data


@test
def a_target_that_cannot_flush():
    with pair(Export(8 * M, flags=PLAIN_FLAGS & ~SEND_FLUSH, contexts={})) as (s, t):
        copy(s, t)
        assert t.export.data == s.export.data and FLUSH not in kinds(t)


@test
def block_sizes_of_the_target_are_kept():
    target = Export(8 * M, contexts={})
    target.blocks = (4 * K, 4 * K, 64 * K)
    with pair(target, zero=(2 * M + 512, 3 * M + 512)) as (s, t):
        copy(s, t)
        assert t.export.data == s.export.data
        assert all(r.offset % (4 * K) == r.length % (4 * K) == 0 for _, r in t.requests)
        assert max(r.length for _, r in t.requests if r.kind == WRITE) == 64 * K


@test
def what_cannot_be_written_to_is_refused():
    for target, says in ((Export(8 * M, flags=PLAIN_FLAGS | READ_ONLY, contexts={}), "read-only"),
                         (Export(4 * M, contexts={}), f"has {4 * M} bytes, and {8 * M} are needed")):
        with pair(target) as (s, t):
            r = run(COPY, s.uri, t.uri, check=False)
            assert r.returncode == FAILED and says in r.stderr, r
            assert not t.requests


@test
def errors_of_the_target_are_final():
    for kind, says in (WRITE, "write at "), (WRITE_ZEROES, "zero at "), (FLUSH, "flush: "):
        class Bad(Export):
            def request(self, c, r):
                if r.kind == kind:
                    c.done(r, ENOSPC)
                else:
                    super().request(c, r)

        with pair(Bad(8 * M, contexts={})) as (s, t):
            r = run(COPY, "--retry", RETRY, s.uri, t.uri, check=False)
            assert r.returncode == FAILED, r
            assert r.stderr.startswith(says) and r.stderr.endswith(": No space left on device\n"), r


class Forgetful(Export):
    """It loses what was not flushed when the connection of a chosen request ends, once."""

    def __init__(self, ends, **kwargs):
        super().__init__(8 * M, contexts={}, **kwargs)
        self.ends = ends
        self.durable = bytearray(self.data)

    def flush(self, c, r):
        self.durable[:] = self.data
        c.done(r)

    def request(self, c, r):
        if self.ends and self.ends(r):
            self.ends = None
            self.data[:] = self.durable
            raise Gone
        super().request(c, r)


def with_a_forgetful_target(ends):
    """The result, and whether the target has it all."""
    target = Forgetful(ends, flags=PLAIN_FLAGS & ~CAN_MULTI_CONN)
    with pair(target) as (s, t):
        r = run(COPY, "--retry", RETRY, "--lanes", "1", s.uri, t.uri, check=False)
        return r, t.export.durable == s.export.data, t.connections


@test
def a_target_that_may_have_lost_writes_ends_the_copy():
    # When the last range is written, or all is flushed, earlier writes have been answered.
    for ends in (lambda r: r.kind == WRITE and r.offset + r.length == 8 * M,
                 lambda r: r.kind == FLUSH):
        r, _, connections = with_a_forgetful_target(ends)
        assert r.returncode == UNREACHABLE and connections == 1, r
        assert r.stderr.startswith("the server has gone, and may have lost what was written: "), r


@test
def a_target_that_cannot_have_lost_anything_is_connected_to_anew():
    r, is_whole, connections = with_a_forgetful_target(lambda r: r.kind == WRITE)
    assert r.returncode == 0 and is_whole and connections == 2, r
    # Whether the answer to the first of two writes arrives depends on chance.
    r, is_whole, _ = with_a_forgetful_target(lambda r: r.kind == WRITE and r.offset > 0)
    assert is_whole if r.returncode == 0 else "may have lost" in r.stderr, r


@test
def one_connection_of_several_that_ends_is_not_passed_over():
    class OneGone(Export):
        """One connection ends when it is to be flushed. What was written on it may be lost, whatever
        the flushes of the others say."""

        ended = False

        def flush(self, c, r):
            with c.server.lock:
                first, self.ended = not self.ended, True
            if first:
                raise Gone
            super().flush(c, r)

    with pair(OneGone(8 * M, contexts={})) as (s, t):
        r = run(COPY, "--retry", RETRY, s.uri, t.uri, check=False)
        assert r.returncode == UNREACHABLE and "may have lost" in r.stderr, r


main()
