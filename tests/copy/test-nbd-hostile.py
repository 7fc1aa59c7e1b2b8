# SPDX-License-Identifier: BSD-3-Clause
"""NBD servers that mean harm to those who copy from them: what they send is bounded in memory and
time, and ends in an error that says what is wrong."""

import random
import struct

from copying import COPY, FAILED, NO_CONTEXT, NO_EXPORT, UNREACHABLE, copied, dirty, fails, mapped
from fakenbd import ALLOCATION, Export, FakeServer, Gone
from fleece import run, tmpdir
from rawnbd import *
from tap import main, note, test

K, M, G = 1 << 10, 1 << 20, 1 << 30
B0 = dirty("b0")


def both(size=M):
    return {ALLOCATION: [(size, 0)], B0: [(size, 1)]}


def for_ever(send):
    """Until the client has gone."""
    while True:
        send()


@test
def data_without_end():
    class Repeats(Export):
        def read(self, c, r):
            for_ever(lambda: c.data(r, r.offset, self.data[r.offset:r.offset + r.length], 0))

    class Empty(Export):
        def read(self, c, r):
            for_ever(lambda: c.data(r, r.offset, b"", 0))

    class Holes(Export):
        def read(self, c, r):
            for_ever(lambda: c.chunk(r, TYPE_HOLE, struct.pack(">QI", r.offset, 512), 0))

    for cls in Repeats, Empty, Holes:
        with FakeServer(cls(M, contexts=both())) as s:
            why = fails(FAILED, "--retry", "100", s.uri)
            assert why == ("the server does not keep to the protocol: it sends more data than was "
                           "asked for, or none\n"), why


@test
def extents_without_end():
    class Repeats(Export):
        def status(self, c, r):
            for_ever(lambda: c.extents(r, B0, [(0, 1)]))

    class Many(Export):
        def status(self, c, r):
            # three million entries in each message
            many = struct.pack(">I", c.contexts[B0]) + struct.pack(">IIII", 1, 1, 1, 0) * 1500000
            for_ever(lambda: c.chunk(r, TYPE_STATUS, many, 0))

    for cls in Repeats, Many:
        with FakeServer(cls(M, contexts=both())) as s:
            why = fails(FAILED, "--retry", "100", "--context", B0, s.uri)
            assert why == ("the server does not keep to the protocol: it sends too many extents\n"
                           ), why


@test
def extents_of_no_length_only():
    class Nothing(Export):
        def status(self, c, r):
            c.status(r, {name: [(0, 1)] * 1000 for name in c.contexts})

    with FakeServer(Nothing(M, contexts=both())) as s:
        why = fails(FAILED, "--map", "--context", B0, s.uri)
        assert why == f"at 0: the server's answer tells nothing of {B0}\n", why
        # Without a bitmap all is data, whatever a server says.
        assert mapped(s.uri) == [(0, M, "data")]


@test
def extents_of_single_bytes():
    class Bytes(Export):
        def status(self, c, r):
            c.status(r, {name: [(1, 1)] for name in c.contexts})

    with FakeServer(Bytes(100 * K, contexts=both(100 * K))) as s:
        assert mapped(s.uri, "--context", B0) == [(0, 100 * K, "data")]
        assert len(s.requests) == 200


@test
def gigantic_lengths():
    class Length(Export):
        def request(self, c, r):
            c.chunk(r, TYPE_DATA if r.kind == READ else TYPE_STATUS, length=0xFFFFFFFF)
            for_ever(lambda: c.send(bytes(M)))

    for options in (), ("--context", B0):
        with FakeServer(Length(M, contexts=both() if options else {})) as s:
            why = fails(UNREACHABLE, *options, s.uri)
            assert "invalid server reply length" in why, why

    class Info(Export):
        def option(self, c, option, data):
            if option == OPT_GO:
                c.send(struct.pack(">QIII", OPTION_REPLY_MAGIC, option, REP_INFO, 0xFFFFFFFF))
                for_ever(lambda: c.send(bytes(M)))

    with FakeServer(Info(M, contexts=both())) as s:
        why = fails(UNREACHABLE, s.uri)
        assert "invalid option reply length" in why, why


@test
def sizes_out_of_range():
    for size in 1 << 63, (1 << 64) - 1:
        with FakeServer(Export(size, contexts={}, data=b"")) as s:
            why = fails(FAILED, s.uri)
            assert why == "the server tells no size of the export that is possible\n", why
    with FakeServer(Export(0, contexts={})) as s:
        content, _ = copied(s.uri)
        assert content == b""


@test
def blocks_out_of_range():
    for blocks in (0, 0, 0), (3, 512, 512), (1 << 31, 1 << 31, 1 << 31), (512, 512, 513), (1, 512, 1):
        export = Export(M, contexts=both())
        export.blocks = blocks
        with FakeServer(export) as s:
            content, _ = copied(s.uri, "--context", B0)
            assert content == export.data


@test
def data_out_of_range():
    class Outside(Export):
        def read(self, c, r):
            c.data(r, self.at(r), bytes(r.length))

    for at in (lambda r: r.offset + 1, lambda r: (1 << 64) - 1, lambda r: 1 << 40):
        export = Outside(M, contexts={})
        export.at = at
        with FakeServer(export) as s:
            why = fails(UNREACHABLE, s.uri)
            assert "range" in why or "bound" in why or "offset" in why, why


@test
def names_without_end():
    class Exports(Export):
        def option(self, c, option, data):
            if option == OPT_LIST:
                name = ("n" * 1000).encode()
                for_ever(lambda: c.reply(option, REP_SERVER, struct.pack(">I", 1000) + name))

    class Contexts(Export):
        def option(self, c, option, data):
            if option == OPT_LIST_META:
                for_ever(lambda: c.reply(option, REP_META, struct.pack(">I", 1) + b"x" * 1000))

    with FakeServer(Exports(M, name="vda", contexts={})) as s:
        why = fails(NO_EXPORT, s.uri.replace("vda", "vdb"))
        assert len(why) < 5000, len(why)
    with FakeServer(Contexts(M, contexts={ALLOCATION: []})) as s:
        why = fails(NO_CONTEXT, "--context", B0, s.uri)
        assert len(why) < 5000, len(why)


@test
def names_that_are_no_text():
    bad = b"\x1b[2J\xff\n"

    class Bad(Export):
        def option(self, c, option, data):
            if option == OPT_LIST:
                c.reply(option, REP_SERVER, struct.pack(">I", len(bad)) + bad)
                c.reply(option, REP_ACK)
                return True

    with FakeServer(Bad(M, name="vda", contexts={})) as s:
        why = fails(NO_EXPORT, s.uri.replace("vda", "vdb"))
        assert why == "the server has no such export; it has \\x1b[2J\\xff\\x0a\n", why


@test
def garbage():
    """At each point of a connection random bytes, or the end."""
    seed = random.randrange(1 << 30)
    note(f"seed {seed}")
    chance = random.Random(seed)

    class Garbage(Export):
        def spoil(self, c):
            if chance.random() < 0.2:
                c.send(chance.randbytes(chance.choice((1, 16, 20, 100, 5000))))
                if chance.random() < 0.5:
                    raise Gone

        def accepted(self, c):
            self.spoil(c)

        def option(self, c, option, data):
            self.spoil(c)

        def request(self, c, r):
            self.spoil(c)
            super().request(c, r)

    done = 0
    for _ in range(20):
        export = Garbage(M, contexts=both())
        with FakeServer(export) as s:
            r = run_any(s.uri)
            if r is not None:
                done += 1
                assert r == export.data
    note(f"{done} were copied all the same")


def run_any(uri):
    """What was copied; None: it has failed, in order."""
    with tmpdir() as folder:
        r = run(COPY, "--context", B0, uri, f"{folder}/out", check=False)
        if r.returncode == 0:
            with open(f"{folder}/out", "rb") as f:
                return f.read()
        assert 10 <= r.returncode < 16 and r.stderr.count("\n") == 1, r


main()
