# SPDX-License-Identifier: BSD-3-Clause
"""An NBD export as the source of a copy, of servers that answer in every way that the protocol allows,
and in some that it does not."""

import struct

from copying import (FAILED, NO_CONTEXT, NO_EXPORT, copied, dirty, fails, joined, mapped)
from fakenbd import ALLOCATION, PLAIN_FLAGS, Export, FakeServer, Gone
from rawnbd import *
from tap import main, test

K, M, G = 1 << 10, 1 << 20, 1 << 30
B0 = dirty("b0")


def disk(size=M, allocation=None, b0=None, cls=Export, **kwargs):
    contexts = {}
    if allocation is not None:
        contexts[ALLOCATION] = allocation
    if b0 is not None:
        contexts[B0] = b0
    return cls(size, contexts=contexts, **kwargs)


def zeroed(export, *ranges):
    for offset, length in ranges:
        export.data[offset:offset + length] = bytes(length)
    return export


def maps_to(export, expected, *options):
    with FakeServer(export) as s:
        found = mapped(s.uri, *options)
        assert found == joined(expected), found
        return s


# ---- what is told ----


@test
def without_contexts_all_is_data():
    s = maps_to(disk(), [(0, M, "data")])
    assert not s.requests, s.requests  # nobody is asked


@test
def only_what_reads_as_zeroes_is_zero():
    # flags: a hole need not read as zeroes
    maps_to(disk(allocation=[(64 * K, 0), (64 * K, 1), (64 * K, 2), (M - 192 * K, 3)]),
            [(0, 128 * K, "data"), (128 * K, M - 128 * K, "zero")])


@test
def only_what_is_dirty_is_told():
    maps_to(disk(b0=[(64 * K, 1), (64 * K, 0), (64 * K, 1), (M - 192 * K, 0)]),
            [(0, 64 * K, "data"), (128 * K, 64 * K, "data")], "--context", B0)
    maps_to(disk(b0=[(M, 0)]), [], "--context", B0)


@test
def dirty_zeroes_are_told_as_zero():
    both = dict(allocation=[(96 * K, 0), (M - 96 * K, 3)], b0=[(64 * K, 0), (64 * K, 1),
                                                               (M - 128 * K, 0)])
    expected = [(64 * K, 32 * K, "data"), (96 * K, 32 * K, "zero")]
    maps_to(disk(**both), expected, "--context", B0)

    class Backwards(Export):
        def status(self, c, r):
            c.status(r, {name: self.extents(name, r.offset, r.length)
                         for name in reversed(list(c.contexts))})

    maps_to(disk(cls=Backwards, **both), expected, "--context", B0)


@test
def other_flags_of_a_bitmap_say_nothing():
    maps_to(disk(b0=[(64 * K, 2), (64 * K, 5), (M - 128 * K, 0xFFFFFFFE)]),
            [(64 * K, 64 * K, "data")], "--context", B0)


@test
def short_answers_are_asked_on():
    class Short(Export):
        def status(self, c, r):
            c.status(r, {name: self.extents(name, r.offset, r.length)[:1] for name in c.contexts})

    extents = [(4 * K, i % 2) for i in range(256)]
    s = maps_to(disk(b0=extents, cls=Short),
                [(i * 4 * K, 4 * K, "data") for i in range(256) if i % 2], "--context", B0)
    assert len(s.requests) == 256, len(s.requests)


@test
def the_shorter_context_counts():
    class Unequal(Export):
        """Each context ends somewhere else."""

        def status(self, c, r):
            short = self.extents(B0, r.offset, min(r.length, self.at[0]))
            long = self.extents(ALLOCATION, r.offset, min(r.length, self.at[1]))
            c.status(r, {ALLOCATION: long, B0: short})

    both = dict(allocation=[(i * 4 * K + 4 * K, (i % 2) * 2) for i in range(16)] + [(G, 0)],
                b0=[(12 * K, i % 2) for i in range(100)])
    expected = mapped_alike(both)
    for at in (8 * K, 64 * K), (64 * K, 8 * K), (12 * K, 20 * K):
        export = disk(cls=Unequal, **both)
        export.at = at
        maps_to(export, expected, "--context", B0)


def mapped_alike(both):
    """What there is, block by block."""
    def flags(context, at):
        position = 0
        for length, flag in both[context]:
            position += length
            if at < position:
                return flag
        raise ValueError(at)

    return joined([(at, 4 * K, "zero" if flags("allocation", at) & 2 else "data")
                   for at in range(0, M, 4 * K) if flags("b0", at) & 1])


@test
def answers_that_overrun_are_cut():
    class Overrun(Export):
        def status(self, c, r):
            c.status(r, {name: [(0xFFFFF000, flags)] for name, flags in
                         ((ALLOCATION, 0), (B0, 1)) if name in c.contexts})

    maps_to(disk(allocation=[], b0=[], cls=Overrun), [(0, M, "data")], "--context", B0)
    maps_to(disk(allocation=[], cls=Overrun), [(0, M, "data")])

    class OverrunLater(Export):
        """The last extent of each answer goes beyond what was asked for."""

        def status(self, c, r):
            c.status(r, {B0: [(4 * K, 1), (4 * K, 0), (2 * G, 1)]})

    maps_to(disk(5 * G, b0=[], cls=OverrunLater, data=b""),
            [e for at in (0, 2 * G, 4 * G) for e in
             ((at, 4 * K, "data"), (at + 8 * K, min(2 * G, 5 * G - at) - 8 * K, "data"))],
            "--context", B0)


@test
def entries_of_no_length_are_passed_over():
    class Empty(Export):
        def status(self, c, r):
            c.status(r, {name: [(0, 3)] + self.extents(name, r.offset, r.length) + [(0, 1)]
                         for name in c.contexts})

    maps_to(disk(b0=[(64 * K, 0), (64 * K, 1), (M - 128 * K, 0)], allocation=[(M, 0)], cls=Empty),
            [(64 * K, 64 * K, "data")], "--context", B0)


@test
def ends_within_a_block_make_the_block_data():
    blocks = (4 * K, 64 * K, 32 * M)
    maps_to(disk(allocation=[(10000, 2), (M - 10000, 0)], blocks_=blocks, cls=Blocks),
            [(0, 8 * K, "zero"), (8 * K, M - 8 * K, "data")])
    # one answer ends within a block, and the next one begins with its start
    class Short(Blocks):
        def status(self, c, r):
            c.status(r, {name: self.extents(name, r.offset, min(10000, r.length))
                         for name in c.contexts})

    maps_to(disk(b0=[(5000, 1), (M - 5000, 0)], blocks_=blocks, cls=Short),
            [(0, 8 * K, "data")], "--context", B0)

    class Shorter(Blocks):
        """Less than a block: nobody knows the rest, so all of the block is data."""

        def status(self, c, r):
            c.status(r, {name: [(min(1000, r.length), 0)] for name in c.contexts})

    maps_to(disk(b0=[], blocks_=blocks, cls=Shorter), [(0, M, "data")], "--context", B0)


class Blocks(Export):
    def __init__(self, *args, blocks_, **kwargs):
        super().__init__(*args, **kwargs)
        self.blocks = blocks_


@test
def a_disk_that_ends_within_a_block():
    size = M + 700
    maps_to(disk(size, b0=[(M, 0), (700, 1)], allocation=[(M, 0), (700, 3)]),
            [(M, 700, "zero")], "--context", B0)
    export = disk(size, allocation=[(size, 0)])
    with FakeServer(export) as s:
        content, figures = copied(s.uri)
        assert content == export.data and figures["read"] == size, figures


@test
def large_disks_are_asked_in_large_aligned_ranges():
    size = 9 * G + 512
    s = maps_to(disk(size, b0=[(3 * G, 0), (2 * G, 1), (4 * G + 512, 0)], data=b""),
                [(3 * G, 2 * G, "data")], "--context", B0)
    assert [(r.offset, r.length, r.flags) for _, r in s.requests] == [
        (i * 2 * G, 2 * G, 0) for i in range(4)] + [(8 * G, G + 512, 0)], s.requests


@test
def other_contexts_and_second_answers_are_passed_over():
    class Talkative(Export):
        def status(self, c, r):
            c.extents(r, 99, [(r.length, 1)])
            c.extents(r, B0, [(64 * K, 0), (r.length - 64 * K, 1)])
            c.extents(r, B0, [(r.length, 0)])
            c.done(r)

    maps_to(disk(b0=[(M, 0)], cls=Talkative), [(64 * K, M - 64 * K, "data")], "--context", B0)


# ---- what is refused ----


class Refuses(Export):
    def status(self, c, r):
        if ALLOCATION in c.contexts:
            c.done(r, EIO)
        else:
            super().status(c, r)


@test
def a_refusal_of_allocation_makes_all_data():
    maps_to(disk(allocation=[(M, 3)], cls=Refuses), [(0, M, "data")])


@test
def a_refusal_with_a_bitmap_is_asked_again_without_allocation():
    with FakeServer(disk(allocation=[(M, 3)], b0=[(M // 2, 0), (M // 2, 1)], cls=Refuses)) as s:
        assert mapped(s.uri, "--context", B0) == [(M // 2, M // 2, "data")]
        content, figures = copied(s.uri, "--context", B0)
        assert content == bytes(M // 2) + s.export.data[M // 2:] and figures["zero"] == 0, figures


@test
def a_bitmap_that_is_refused_is_an_error():
    class RefusesAll(Export):
        def status(self, c, r):
            c.done(r, EINVAL)

    class TellsNothing(Export):
        def status(self, c, r):
            c.status(r, {ALLOCATION: [(r.length, 0)]})

    with FakeServer(disk(allocation=[(M, 0)], b0=[(M, 1)], cls=RefusesAll)) as s:
        why = fails(FAILED, "--map", "--context", B0, s.uri)
        assert why == "read the extents at 0: Invalid argument\n", why
    with FakeServer(disk(allocation=[(M, 0)], b0=[(M, 1)], cls=TellsNothing)) as s:
        why = fails(FAILED, "--map", "--context", B0, s.uri)
        assert why == f"at 0: the server's answer tells nothing of {B0}\n", why


@test
def what_is_not_there_is_said_with_what_is():
    with FakeServer(disk(allocation=[(M, 0)], b0=[(M, 1)], name="vda")) as s:
        why = fails(NO_CONTEXT, "--context", dirty("b1"), s.uri)
        assert why == (f"the export has no context {dirty('b1')}; "
                       f"it has {ALLOCATION}, {B0}\n"), why
        why = fails(NO_EXPORT, s.uri.replace("vda", "vdb"))
        assert why == "the server has no such export; it has vda\n", why
    with FakeServer(disk(structured_=False, cls=Plain)) as s:
        why = fails(NO_CONTEXT, "--context", B0, s.uri)
        assert why.startswith(f"the export has no context {B0}"), why


class Plain(Export):
    structured = False

    def __init__(self, *args, structured_=False, **kwargs):
        super().__init__(*args, **kwargs)


# ---- reading ----


@test
def simple_replies_are_read():
    export = disk(cls=Plain)
    with FakeServer(export) as s:
        content, _ = copied(s.uri)
        assert content == export.data


@test
def replies_in_pieces_and_out_of_order():
    class Pieces(Export):
        def read(self, c, r):
            third = r.length // 3
            for start, end in (2 * third, r.length), (0, third), (third, 2 * third):
                piece = self.data[r.offset + start:r.offset + end]
                if any(piece):
                    c.data(r, r.offset + start, piece, 0)
                else:
                    c.chunk(r, TYPE_HOLE, struct.pack(">QI", r.offset + start, len(piece)), 0)
            c.chunk(r, TYPE_NONE)

    export = zeroed(disk(4 * M, allocation=[(4 * M, 0)], cls=Pieces), (M, M))
    with FakeServer(export) as s:
        content, _ = copied(s.uri, onto=b"\xff" * (4 * M))
        assert content == export.data


@test
def a_limit_of_the_server_is_kept():
    export = disk(allocation=[(M, 0)], blocks_=(512, 4 * K, 8 * K), cls=Blocks)
    with FakeServer(export) as s:
        content, _ = copied(s.uri)
        assert content == export.data
        assert max(r.length for _, r in s.requests if r.kind == READ) == 8 * K


@test
def blocks_of_the_server_are_kept():
    blocks = (4 * K, 4 * K, 32 * M)
    export = disk(b0=[(1000, 0), (1, 1), (M - 1001, 0)], blocks_=blocks, cls=Blocks)
    with FakeServer(export) as s:
        content, _ = copied(s.uri, "--context", B0)
        assert content == export.data[:4 * K] + bytes(M - 4 * K)
        assert [(r.offset, r.length) for _, r in s.requests if r.kind == READ] == [(0, 4 * K)]


@test
def an_error_is_final_and_says_where():
    class Bad(Export):
        def read(self, c, r):
            if r.offset <= 300 * K < r.offset + r.length:
                c.done(r, EIO)
            else:
                super().read(c, r)

    with FakeServer(disk(allocation=[(M, 0)], blocks_=(512, 512, 4 * K),
                         cls=type("B", (Bad, Blocks), {}))) as s:
        why = fails(FAILED, "--retry", "100", s.uri)
        assert why == f"read at {300 * K}: Input/output error\n", why
        with_retry = s.connections
        assert with_retry <= 4, with_retry


@test
def less_than_was_asked_for_is_an_error():
    class Lacks(Export):
        def read(self, c, r):
            c.data(r, r.offset, self.data[r.offset:r.offset + r.length - 1])

    with FakeServer(disk(allocation=[(M, 0)], cls=Lacks)) as s:
        why = fails(FAILED, s.uri)
        assert why == "read at 0: the server has sent less than was asked for\n", why


# ---- connections ----


@test
def one_connection_without_multi_conn():
    for flags, lanes in (PLAIN_FLAGS & ~CAN_MULTI_CONN, 1), (PLAIN_FLAGS, 3):
        with FakeServer(disk(flags=flags)) as s:
            content, figures = copied(s.uri, "--connections", "3")
            assert content == s.export.data
            assert figures["lanes"] == lanes == s.connections, (figures, s.connections)


@test
def those_connections_do_that_are_let_in():
    class Few(Export):
        def accepted(self, c):
            if c.number >= 2:
                raise Gone

    with FakeServer(disk(cls=Few)) as s:
        content, figures = copied(s.uri)
        assert content == s.export.data and figures["lanes"] == 2, figures

    class Silent(Export):
        def accepted(self, c):
            if c.number >= 2:
                c.receive(1)

    with FakeServer(disk(cls=Silent)) as s:
        content, figures = copied(s.uri)
        assert content == s.export.data and figures["lanes"] == 2, figures


@test
def trims_need_an_export_that_takes_them():
    for flags in PLAIN_FLAGS & ~SEND_TRIM, PLAIN_FLAGS | READ_ONLY:
        with FakeServer(disk(flags=flags)) as s:
            why = fails(FAILED, "--trim", s.uri)
            assert why == "the export does not take TRIM\n", why


@test
def trims_never_go_to_a_disk_that_can_be_written():
    with FakeServer(disk(flags=PLAIN_FLAGS)) as s:
        why = fails(FAILED, "--trim", s.uri)
        assert why == "the export is a disk that can be written: --discard would destroy it\n", why


main()
