# SPDX-License-Identifier: BSD-3-Clause
"""Section M: meta contexts."""

import struct

from client import *
from lines import line

DEPTH = "qemu:allocation-depth"


def unanswered(c):
    """No contexts are selected: BLOCK_STATUS gets EINVAL, and the connection goes on."""
    c.fails(BLOCK_STATUS, 0, 4096, wanted=EINVAL)


def found(c, option, *queries):
    """The contexts that LIST_META or SET_META gives. The final reply must be ACK."""
    final, contexts = c.meta(option, c.export, *queries)
    assert final == REP_ACK, hex(final)
    return [name for _, name in contexts]


@line
def M1(t):
    """SET without structured replies or extended headers gets ERR_INVALID; LIST without them may
    get it."""
    with t.part("SET"), t.client() as c:
        final, contexts = c.meta(OPT_SET_META, c.export, ALLOCATION)
        assert (final, contexts) == (ERR_INVALID, []), hex(final)
    with t.part("LIST"), t.client() as c:
        assert c.meta(OPT_LIST_META, c.export)[0] in (ERR_INVALID, REP_ACK)
    for mode in STRUCTURED, EXTENDED:
        with t.part(f"SET after that [{mode}]"), t.client() as c:
            c.meta(OPT_SET_META, c.export, ALLOCATION)
            c.negotiate(mode, [ALLOCATION])
            assert c.go().status(0, 4096)


@line
def M2(t):
    """Without queries LIST gives all contexts, and SET selects none. An unknown namespace is
    ignored. If nothing matches, the reply is ACK alone. A query longer than the option gets
    ERR_INVALID."""
    with t.part("LIST without queries"), t.client() as c:
        c.structured()
        assert ALLOCATION in found(c, OPT_LIST_META)
    with t.part("SET without queries"), t.client() as c:
        c.structured()
        assert found(c, OPT_SET_META) == []
        unanswered(c.go())
    for option, what in (OPT_LIST_META, "LIST"), (OPT_SET_META, "SET"):
        with t.part(f"{what}: unknown namespace"), t.client() as c:
            c.structured()
            for queries in ("x-foo:bar",), ("x-foo:",), ("nbd-server:x", "x-\u00e4:b"):
                assert found(c, option, *queries) == [], queries
            assert found(c, option, "x-foo:bar", ALLOCATION) == [ALLOCATION]
        with t.part(f"{what}: a query beyond the option"), t.client() as c:
            c.structured()
            good = c.meta_data(c.export, ALLOCATION)
            at = len(good) - len(ALLOCATION) - 4
            lies = good[:at] + struct.pack(">I", 100) + good[at + 4:]
            for data in lies, good[:-1]:
                final, replies = c.option(option, data)
                assert (final, replies) == (ERR_INVALID, []), hex(final)
            assert found(c, option, ALLOCATION) == [ALLOCATION]
        with t.part(f"{what}: unknown export"), t.client() as c:
            c.structured()
            final, contexts = c.meta(option, "no such export", ALLOCATION)
            # The specification does not say what the reply is.
            assert (final, contexts) == (ERR_UNKNOWN, []) or not t.target.is_ours, hex(final)
            assert found(c, option, ALLOCATION) == [ALLOCATION]


@line
def M3(t):
    """SET replaces what was selected before, also when it fails. Ids are unique; in LIST they are
    0. Too many queries may get ERR_TOO_BIG, but LIST without queries does not."""
    with t.part("SET replaces"), t.client() as c:
        c.structured()
        c.set_contexts(c.export, ALLOCATION)
        c.set_contexts(c.export, "x-foo:bar")
        unanswered(c.go())
    failures = {"unknown export": lambda c: c.meta(OPT_SET_META, "no such export", ALLOCATION),
                "malformed": lambda c: c.option(OPT_SET_META, b"junk"),
                "string": lambda c: c.option(OPT_SET_META, c.meta_data(c.export, b"\xff"))}
    for what, fail in failures.items():
        with t.part(f"SET that fails: {what}"), t.client() as c:
            c.structured()
            c.set_contexts(c.export, ALLOCATION)
            final, _ = fail(c)
            t.needs(final & 0x80000000, "SET that fails", what)
            unanswered(c.go())
    with t.part("ids"), t.client() as c:
        c.structured()
        names = c.list_contexts(c.export)  # this checks that ids are 0
        c.set_contexts(c.export, *names)  # this checks that ids differ
    with t.part("QEMU's ids"), t.client("bitmaps") as c:
        c.structured()
        names = t.bitmaps()
        got = c.set_contexts(c.export, ALLOCATION, *names)
        assert got == {ALLOCATION: 0, **{name: 2 + i for i, name in enumerate(names)}}, got
    with t.part("too many queries"), t.client() as c:
        c.structured()
        for option in OPT_LIST_META, OPT_SET_META:
            final, contexts = c.meta(option, c.export, *["x-y:z"] * 5000)
            assert final == ERR_TOO_BIG or (final, contexts) == (REP_ACK, []), hex(final)
        assert ALLOCATION in found(c, OPT_LIST_META)


@line
def M4(t):
    """Selected contexts count only if GO or EXPORT_NAME names the same export, and if no STARTTLS
    came between (T5). Otherwise BLOCK_STATUS gets EINVAL."""
    with t.part("GO"), t.ready(contexts=[ALLOCATION]) as c:
        c.status(0, 4096)
    with t.part("EXPORT_NAME"), t.client() as c:
        c.negotiate(STRUCTURED, [ALLOCATION])
        c.export_name(c.export).status(0, 4096)
    with t.part("another export"), t.client() as c:
        others = [name for name, _ in c.list() if name not in (c.export, "")]
        t.needs(others, "export:other", "only one export")
        c.negotiate(STRUCTURED, [ALLOCATION])
        unanswered(c.go(others[0]))


@line
def M5(t):
    """`base:`, `qemu:` and `qemu:dirty-bitmap:` are wildcards in LIST; in SET they select nothing.
    A query that matches nothing, or that has no colon, gives no context, and the reply is ACK."""
    nothing = ("base:nope", "base:allocation ", "base:allocatio", "BASE:allocation")
    no_colon = ("base", "base-allocation", "")
    with t.part("LIST base:"), t.client() as c:
        c.structured()
        assert found(c, OPT_LIST_META, "base:") == [ALLOCATION]
    with t.part("SET base:"), t.client() as c:
        c.structured()
        assert found(c, OPT_SET_META, "base:") == []
    for option, what in (OPT_LIST_META, "LIST"), (OPT_SET_META, "SET"):
        with t.part(f"{what}: base, nothing"), t.client() as c:
            c.structured()
            for query in nothing:
                assert found(c, option, query) == [], query
        with t.part(f"{what}: base, no colon"), t.client() as c:
            c.structured()
            for query in no_colon:  # ERR_INVALID is allowed, but we do not send it
                final, contexts = c.meta(option, c.export, query)
                assert contexts == [], query
                assert final == REP_ACK or (final == ERR_INVALID and not t.target.is_ours), (
                    f"{query!r}: {final:#x}")
        with t.part(f"{what}: qemu"), t.client("bitmaps") as c:
            names = t.bitmaps()
            c.structured()
            wild = names if option == OPT_LIST_META else []
            for query, wanted in (("qemu:dirty-bitmap:", wild), (names[0], names[:1]),
                                  ("qemu:nope:", []), ("qemu:dirty-bitmap", []),
                                  (names[0] + "x", []), (names[0][:-1], [])):
                got = found(c, option, query)
                assert got == wanted, f"{query}: {got}"
            got = found(c, option, "qemu:")
            assert set(names) <= set(got) if wild else got == [], f"qemu: {got}"


@line
def M6(t):
    """A query that is repeated gives its context once."""
    for option, what in (OPT_LIST_META, "LIST"), (OPT_SET_META, "SET"):
        with t.part(what), t.client() as c:
            c.structured()
            got = found(c, option, ALLOCATION, "x-foo:bar", ALLOCATION, ALLOCATION)
            assert got == [ALLOCATION], got
    with t.part("LIST: a wildcard and its match"), t.client() as c:
        c.structured()
        got = found(c, OPT_LIST_META, ALLOCATION, "base:", ALLOCATION)
        assert got == [ALLOCATION], got
    with t.part("SET: bitmaps"), t.client("bitmaps") as c:
        c.structured()
        name = t.bitmaps()[0]
        assert found(c, OPT_SET_META, name, ALLOCATION, name) in ([name, ALLOCATION],
                                                                  [ALLOCATION, name])


@line
def M7(t):
    """`base:allocation` has bit 0 (HOLE) and bit 1 (ZERO), `qemu:dirty-bitmap:` has bit 0 (dirty);
    they have no other bits. We do not offer `qemu:allocation-depth`."""
    for part in t.modes("base:allocation", (STRUCTURED, EXTENDED)):
        with part as mode, t.writable(mode, [ALLOCATION]) as c:
            c.write(0, b"x" * 65536)
            pieces = c.map(ALLOCATION, 0, c.size)
            assert all(flags & ~(HOLE | ZERO) == 0 for _, flags in pieces), pieces
            assert pieces[0][1] == 0, "data is reported as hole or zero"
    for part in t.modes("qemu:dirty-bitmap", (STRUCTURED, EXTENDED)):
        with part as mode:
            t.where("bitmaps")
            name = t.bitmaps()[0]
            with t.ready("bitmaps", mode, [name]) as c:
                pieces = c.map(name, 0, c.size)
                assert {flags for _, flags in pieces} == {0, 1}, pieces
                assert pieces[:2] == c.where.more["dirt"], pieces[:2]
    with t.part("no allocation-depth"), t.client() as c:
        t.ours()
        c.structured()
        assert found(c, OPT_LIST_META, DEPTH) == found(c, OPT_SET_META, DEPTH) == []


@line
def M8(t):
    """Ours: a backup's export has exactly one dirty bitmap."""
    t.ours()
    with t.part("one bitmap"), t.client("backup") as c:
        c.structured()
        names = found(c, OPT_LIST_META)
        assert names == [ALLOCATION, c.where.more["bitmap"]], names
        assert found(c, OPT_LIST_META, "qemu:dirty-bitmap:") == names[1:]
