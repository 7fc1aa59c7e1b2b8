# SPDX-License-Identifier: BSD-3-Clause
"""Section C: what well-known clients send, in their order. Section U: exports with unusual sizes,
and exports that change while a client uses them."""

import contextlib

from client import *
from lines import line


@line
def C1(t):
    """oVirt imageio: STRUCTURED_REPLY, LIST of the bitmaps' namespace, SET of three contexts of
    which one is unknown, GO without infos; then the map, one context at a time."""
    with t.part("session"), t.client("bitmaps") as c:
        c.structured()
        bitmap = c.list_contexts(c.export, DIRTY)[0]
        got = c.set_contexts(c.export, ALLOCATION, "qemu:allocation-depth", bitmap)
        assert set(got) - {"qemu:allocation-depth"} == {ALLOCATION, bitmap}
        c.go(infos=())
        for name in ALLOCATION, bitmap:
            assert sum(n for n, _ in c.map(name, 0, c.size)) >= c.size


@line
def C2(t):
    """libnbd: STARTTLS, EXTENDED_HEADERS, STRUCTURED_REPLY, SET, GO with the block size. Each of
    the first three may be refused."""
    with t.part("session"), t.client() as c:
        assert c.option(OPT_STARTTLS)[0] in (ERR_UNSUP, ERR_POLICY) or c.where.inside
        if c.option(OPT_EXTENDED_HEADERS)[0] == REP_ACK:
            c.is_extended = c.is_structured = True
        else:
            c.structured()
        c.set_contexts(c.export, ALLOCATION)
        c.go().in_step()
        assert c.map(ALLOCATION, 0, c.size)


@line
def C3(t):
    """nbdcopy: four connections (with MULTI_CONN), each with several reads of 256 KiB under way.
    Every status reply makes progress."""
    with t.part("session"), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(t.ready(contexts=[ALLOCATION])) for _ in range(4)]
        t.needs(clients[0].eflags & CAN_MULTI_CONN, "MULTI_CONN")
        piece = 256 << 10
        for c in clients:
            assert c.map(ALLOCATION, 0, c.size)
            for i in range(8):
                c.request(READ, i * piece % (c.size - piece), piece)
        for c in clients:
            done = 0
            while done < 8:
                reply = c.reply()
                assert not reply.error
                done += reply.done
            c.in_step()


@line
def C4(t):
    """qemu-img with `x-dirty-bitmap`: SET of the bitmap's context alone, which must be selected;
    INFO for the size, then GO."""
    with t.part("session"), t.client("bitmaps") as c:
        name = t.bitmaps()[0]
        c.structured()
        assert list(c.set_contexts(c.export, name)) == [name]
        assert c.info(c.export, (INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE)) == REP_ACK
        c.go()
        for offset in range(0, c.size, c.size // 4):
            c.status(offset, c.size // 4, REQ_ONE)


@line
def C5(t):
    """virtnbdbackup: one SET of base:allocation and the bitmap, GO, then BLOCK_STATUS of nearly
    4 GiB at a time. The next request begins where the bitmap's extents end; those of the other
    context do not count."""
    with t.part("session"):
        bitmap = t.bitmaps()[0]
        with t.ready("bitmaps", contexts=[ALLOCATION, bitmap]) as c:
            offset, dirty = 0, 0
            while offset < c.size:
                found = c.status(offset, min(c.size - offset, 0xFFFF0000))
                told = sum(n for n, _ in found[ALLOCATION])
                for length, flags in found[bitmap]:
                    dirty += length * (flags & 1)
                    offset += length
                assert not t.target.is_ours or told == sum(n for n, _ in found[bitmap])
            assert offset >= c.size and dirty >= 65536


@line
def U1(t):
    """An export whose size is no multiple of 512: each byte of it can be used, and none behind
    it."""
    for part in t.modes("1000 bytes"):
        with part as mode, t.ready("odd", mode, () if mode == SIMPLE else [ALLOCATION]) as c:
            assert c.size == 1000, c.size
            assert len(c.read(0, 1000)) == 1000 and len(c.read(999, 1)) == 1
            c.fails(READ, 999, 2, wanted=EINVAL)
            c.fails(READ, 512, 512, wanted=EINVAL)
            if mode != SIMPLE:
                assert sum(n for n, _ in c.map(ALLOCATION, 0, 1000)) >= 1000
                c.fails(BLOCK_STATUS, 0, 1001, wanted=EINVAL)
            if not c.eflags & READ_ONLY:
                c.write(990, b"0123456789")
                assert c.read(990, 10) == b"0123456789"
                c.fails(WRITE, 990, 11, wanted=ENOSPC)


@line
def U2(t):
    """An empty export can be used; every range is outside of it."""
    for part in t.modes("size 0"):
        with part as mode, t.ready("empty", mode) as c:
            assert c.size == 0, c.size
            c.fails(READ, 0, 1, wanted=EINVAL)
            c.fails(READ, 0, 0, wanted=(0, EINVAL))
            if not c.eflags & READ_ONLY:
                c.fails(WRITE, 0, 1, wanted=ENOSPC)


@line
def U3(t):
    """An export that is removed while a client uses it: requests get ESHUTDOWN, or the connection
    ends. The export is unknown from then on, and clients of other exports do not notice."""
    with t.part("removed"), t.target.removable() as (where, remove):
        with Client(where, patience=t.target.patience) as c, t.ready() as other:
            c.go().in_step()
            remove()
            try:
                assert c.do(READ, 0, 512) == ESHUTDOWN
            except (Closed, OSError):  # inside TLS, an SSLError
                pass
            with Client(where, patience=t.target.patience) as late:
                assert late.info(where.export) == ERR_UNKNOWN
            other.in_step()


@line
def U4(t):
    """A disk that grows while a client uses it: the client keeps the size that it was told. A later
    client sees the new size."""
    with t.part("grown"), t.target.growing() as (where, grow):
        with Client(where, patience=t.target.patience) as c:
            c.go()
            size, grown = c.size, grow()
            assert grown > size
            c.in_step()
            c.fails(READ, size - 512, 512, wanted=0)
            c.fails(READ, grown, 512, wanted=EINVAL)
            with Client(where, patience=t.target.patience) as late:
                assert late.go().size == grown
                late.write(size, b"x" * 4096)
                assert late.read(size, 4096) == b"x" * 4096
