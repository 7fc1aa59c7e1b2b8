# SPDX-License-Identifier: BSD-3-Clause
"""Section E: extended headers, and what they change. (Most other lines run with them as well.)"""

import struct

from client import *
from lines import line


def selection(c, length, *ids):
    """The payload of a BLOCK_STATUS that asks for some of the contexts."""
    return struct.pack(f">Q{len(ids)}I", length, *ids)


def ends(c, cookie):
    """The connection ends; EINVAL may come before."""
    try:
        assert c.result(cookie) == EINVAL
    except (Closed, ConnectionError):
        return
    c.expect_end()


def filtered(t, c):
    t.needs(c.eflags & BLOCK_STATUS_PAYLOAD, "payload-filter")


@line
def E1(t):
    """EXTENDED_HEADERS with data gets ERR_INVALID. It may come with or without a STRUCTURED_REPLY
    before it. After it was agreed, STRUCTURED_REPLY gets EXT_HEADER_REQD, and GO never gets
    ERR_UNSUP."""
    with t.part("with data"), t.client() as c:
        final, _ = c.option(OPT_EXTENDED_HEADERS, b"x")
        t.needs(final not in (ERR_UNSUP, ERR_POLICY), "extended-headers")
        assert final == ERR_INVALID, hex(final)
        c.go()
        assert c.replies(c.request(READ, 0, 512))[0].simple, "it was agreed all the same"
    with t.part("STRUCTURED_REPLY after it"), t.client() as c:
        c.extended()
        final, _ = c.option(OPT_STRUCTURED_REPLY)
        assert final == ERR_EXT_HEADER_REQD, hex(final)
        c.go().in_step()
    with t.part("STRUCTURED_REPLY before it"), t.client() as c:
        c.structured()
        c.extended()
        c.go().in_step()
    with t.part("twice"), t.client() as c:
        c.extended()
        final, _ = c.option(OPT_EXTENDED_HEADERS)
        assert final in (REP_ACK, ERR_INVALID), hex(final)
        c.go().in_step()
    with t.part("GO"), t.client() as c:
        c.extended()
        final, _ = c.option(OPT_GO, c.go_data("no such export"))
        assert final == ERR_UNKNOWN, hex(final)
        c.go().in_step()


@line
def E2(t):
    """Requests and replies have 32-byte headers and magics of their own, and a reply repeats the
    request's offset. A compact request ends the connection."""
    with t.part("headers"), t.ready(mode=EXTENDED) as c:
        for offset in 0, 4096, c.size - 512:
            c.read(offset, 512)  # the client checks all of it
        c.fails(READ, c.size, 512, wanted=EINVAL)
    with t.part("a compact request"), t.ready(mode=EXTENDED) as c:
        ends(c, c.exact_request(READ, 0, 512, magic=REQUEST_MAGIC))
    with t.part("an extended request that was not agreed"), t.client() as c:
        c.extended()  # NotOffered
        with t.ready() as plain:
            ends(plain, plain.exact_request(READ, 0, 512, magic=EXTENDED_REQUEST_MAGIC))


@line
def E3(t):
    """WRITE needs PAYLOAD_LEN. A WRITE without it either gets EINVAL and is taken to have no
    payload, or is carried out with one, because QEMU's client sends it so. A payload that does not
    belong to the command is drained, and the request gets EINVAL; one above the maximum ends the
    connection. Lengths without payload have 64 bits."""
    with t.part("WRITE without PAYLOAD_LEN"), t.writable(EXTENDED) as c:
        c.write(0, b"x" * 512)
        write = c.exact_request(WRITE, 0, 512)
        # Sixteen requests of 32 bytes; or, for a server that waits for the payload, its 512 bytes.
        reads = [c.exact_request(READ, 0, 512) for _ in range(16)]
        error = c.result(write)
        if error:
            assert error == EINVAL, error
            assert [c.result(read) for read in reads] == [0] * 16
        c.in_step()
        assert (c.read(0, 512) == b"x" * 512) == bool(error)
    for command in READ, FLUSH, TRIM, CACHE, WRITE_ZEROES, 100:
        with t.part(f"command {command} with a payload"), t.writable(EXTENDED) as c:
            for length in 1, 512, 65536:
                error = c.result(c.exact_request(command, 0, length, PAYLOAD_LEN,
                                                 data=b"y" * length))
                assert error == EINVAL, f"{length} bytes: {error}"
                c.in_step()
    with t.part("a payload above the maximum"), t.writable(EXTENDED) as c:
        maximum = t.sizes(c)[2]
        ends(c, c.exact_request(WRITE, 0, max(maximum, MAX_PAYLOAD) + 4096, PAYLOAD_LEN))
    with t.part("a payload of 2^63 bytes"), t.writable(EXTENDED) as c:
        ends(c, c.exact_request(WRITE, 0, 1 << 63, PAYLOAD_LEN))
    with t.part("64-bit lengths"), t.writable(EXTENDED, [ALLOCATION], role="large") as c:
        t.needs(c.size > 1 << 32, "export:5G", "the export is too small")
        for command, flag in (WRITE_ZEROES, SEND_WRITE_ZEROES), (TRIM, SEND_TRIM):
            if c.eflags & flag:
                c.works(command, 0, c.size)
        if c.eflags & SEND_CACHE:
            c.fails(CACHE, 0, c.size, wanted=(0, EINVAL, EOVERFLOW))
        c.fails(READ, 0, c.size, wanted=(EINVAL, EOVERFLOW))
    with t.part("64-bit lengths past the end"), t.writable(EXTENDED, [ALLOCATION]) as c:
        for length in c.size + 4096, 1 << 32, (1 << 32) + 4096, 1 << 63, (1 << 64) - 4096:
            if length > c.size:
                for command in READ, BLOCK_STATUS:
                    c.fails(command, 0, length, wanted=(EINVAL, EOVERFLOW))
                c.fails(WRITE_ZEROES, 4096, length, wanted=(ENOSPC, EINVAL))


@line
def E4(t):
    """Every status reply is a BLOCK_STATUS_EXT of 8 + 16 n bytes with count n, and the upper 32
    bits of each status are 0. (The client checks the form.)"""
    with t.part("small and large"), t.ready("large", EXTENDED, [ALLOCATION]) as c:
        for length in 1, 512, 0xFFFFF000, c.size:
            c.status(0, length)
            c.status(0, length, REQ_ONE)
    with t.part("beyond 4 GiB"), t.writable(EXTENDED, [ALLOCATION], role="large") as c:
        t.needs(c.size > 1 << 32, "export:5G", "the export is too small")
        if c.eflags & SEND_WRITE_ZEROES:
            c.works(WRITE_ZEROES, 0, c.size)
        assert c.map(ALLOCATION, 0, c.size, at_a_time=c.size)
    with t.part("an error is one too"), t.ready("main", EXTENDED, [ALLOCATION]) as c:
        c.fails(BLOCK_STATUS, c.size, 4096, wanted=EINVAL)
    with t.part("bitmaps"):
        names = t.contexts("bitmaps")
        with t.ready("bitmaps", EXTENDED, names) as c:
            c.status(0, c.size)


@line
def E5(t):
    """The payload of a BLOCK_STATUS, 8 + 4 n bytes, selects contexts. If an id is repeated or
    unknown, the payload is drained and the request gets EINVAL."""
    with t.part("one of several"):
        names = t.contexts("bitmaps")
        with t.ready("bitmaps", EXTENDED, names) as c:
            filtered(t, c)
            for name in names:
                c.status(0, 4096, PAYLOAD_LEN, selection(c, 4096, c.contexts[name]), [name])
            c.status(0, 4096, PAYLOAD_LEN, selection(c, 4096, *c.contexts.values()), names)
            c.status(0, 4096)
    with t.part("with REQ_ONE"), t.ready(mode=EXTENDED, contexts=[ALLOCATION]) as c:
        filtered(t, c)
        c.status(0, 65536, PAYLOAD_LEN | REQ_ONE, selection(c, 65536, c.contexts[ALLOCATION]),
                 [ALLOCATION])
    bad = {"repeated": lambda c, id: selection(c, 4096, id, id),
           "unknown": lambda c, id: selection(c, 4096, id, 0xFFFFFFFF),
           "half an id": lambda c, id: selection(c, 4096, id) + b"xx",
           "100,000 ids": lambda c, id: selection(c, 4096, *range(100000)),
           "too short": lambda c, id: b"1234567",
           "past the end": lambda c, id: selection(c, c.size + 4096, id)}
    for what, make in bad.items():
        with t.part(what), t.ready(mode=EXTENDED, contexts=[ALLOCATION]) as c:
            filtered(t, c)
            data = make(c, c.contexts[ALLOCATION])
            error = c.result(c.exact_request(BLOCK_STATUS, 0, len(data), PAYLOAD_LEN, data=data))
            assert error == EINVAL, error
            c.in_step()
    with t.part("not advertised"), t.ready(mode=EXTENDED) as c:
        t.needs(not c.eflags & BLOCK_STATUS_PAYLOAD, "no payload-filter", "it is advertised")
        data = selection(c, 4096, 0)
        error = c.result(c.exact_request(BLOCK_STATUS, 0, len(data), PAYLOAD_LEN, data=data))
        assert error == EINVAL, error
        c.in_step()


@line
def E6(t):
    """A whole session with extended headers. (libnbd 1.14 does not know them, so no other test has
    one.)"""
    with t.part("session"), t.writable(EXTENDED, [ALLOCATION]) as c:
        data = bytes(range(256)) * 512
        c.write(65536, data)
        assert c.read(65536, len(data)) == data
        for command, flag in ((FLUSH, SEND_FLUSH), (CACHE, SEND_CACHE),
                              (WRITE_ZEROES, SEND_WRITE_ZEROES), (TRIM, SEND_TRIM)):
            if c.eflags & flag:
                c.works(command, 0, 0 if command == FLUSH else 65536)
        c.status(0, c.size)
        assert c.read(65536, len(data)) == data
        c.request(DISC)
        c.expect_end()
