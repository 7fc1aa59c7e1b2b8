# SPDX-License-Identifier: BSD-3-Clause
"""Section S: replies. The client checks the form of each message that it takes apart; the lines
here provoke messages of all forms."""

import random

from client import *
from lines import line

CHUNKED = STRUCTURED, EXTENDED


@line
def S1(t):
    """Without structured replies, all replies are simple ones. A read that fails after its header
    was sent ends the connection at once."""
    with t.part("only simple replies"), t.writable(SIMPLE) as c:
        for command in COMMANDS:  # reply() refuses chunks
            c.do(command, 0, 0 if command == FLUSH else 4096)
        c.in_step()
        c.nothing_comes()
    with t.part("a failed read has no payload"), t.ready("bad", SIMPLE) as c:
        c.fails(READ, c.size - 4096, 4096, wanted=EIO)
        c.nothing_comes()
    with t.part("a read that fails late"), t.ready("bad", SIMPLE) as c:
        try:
            error = c.do(READ, 0, c.size)
        except Closed:
            return
        assert error == EIO, "success, though half of it cannot be read"
        c.in_step()


@line
def S2(t):
    """With structured replies READ never gets a simple reply, not even for EINVAL. With extended
    headers no command does. (reply() refuses them.)"""
    for part in t.modes("READ", CHUNKED):
        with part as mode, t.ready(mode=mode) as c:
            for offset, length, flags, wanted in (
                    (0, 512, 0, 0), (c.size, 512, 0, EINVAL), (0, 512, NO_HOLE, EINVAL),
                    (0, 512, 1 << 15, EINVAL)):
                c.fails(READ, offset, length, flags, wanted=wanted)
            c.fails(READ, 0, 0, wanted=(0, EINVAL))
    with t.part("errors of the storage"), t.ready("bad") as c:
        c.fails(READ, c.size - 4096, 4096, wanted=EIO)
    with t.part("every command, extended"), t.writable(EXTENDED, [ALLOCATION]) as c:
        for command in COMMANDS + (100,):
            c.do(command, 0, 0 if command == FLUSH else 4096)
            c.do(command, c.size, 4096)
        c.in_step()


@line
def S3(t):
    """Content chunks are not empty, lie inside the request and do not overlap; if the read
    succeeds, they cover it. The last chunk has DONE, and no other has. NONE is empty and has
    DONE."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    size = 1 << 20
    image = rng.randbytes(size // 4) + bytes(size // 4) + rng.randbytes(size // 2)
    for part in t.modes("any range", CHUNKED):
        with part as mode, t.writable(mode) as c:
            c.write(0, image)
            if c.eflags & SEND_WRITE_ZEROES:
                assert c.do(WRITE_ZEROES, size // 4, size // 4) == 0
            for _ in range(20):
                offset = rng.randrange(size)
                length = min(rng.randint(1, rng.choice([100, 5000, size])), size - offset)
                assert c.read(offset, length) == image[offset:offset + length], f"seed {seed}"
    for part in t.modes("DONE once", CHUNKED):
        with part as mode, t.ready(mode=mode) as c:
            cookies = {c.request(READ, 0, size) for _ in range(5)}
            while cookies:
                reply = c.reply()
                assert reply.cookie in cookies, "a chunk after DONE"
                if reply.done:
                    cookies.remove(reply.cookie)
            c.in_step()
            c.nothing_comes()


@line
def S4(t):
    """OFFSET_DATA has at least 9 bytes. OFFSET_HOLE has exactly 12, and its size is not 0. A
    content chunk has DONE only if the read can no longer fail."""
    for part in t.modes("lengths", CHUNKED):
        with part as mode, t.ready(mode=mode) as c:
            for length in 1, 8, 9, 511, 4096, 300000:
                c.read(1, length)
    for part in t.modes("DONE on what fails", CHUNKED):
        with part as mode, t.ready("bad", mode) as c:
            messages = c.replies(c.request(READ, 0, c.size))
            assert any(m.error for m in messages), "half of it cannot be read"
            assert not any(m.done and not m.error for m in messages if m.type != TYPE_NONE)


@line
def S5(t):
    """If a read fails in the middle of a chunk, the chunk is filled up, and an error chunk follows.
    An error chunk has at least 6 bytes, ERROR_OFFSET at least 14; the offset lies inside the
    request, the error is not 0, and the message has at most 4096 bytes."""
    for flags, what in (0, "a read that fails late"), (DF, "with DF"):
        for part in t.modes(what, CHUNKED):
            with part as mode, t.ready("bad", mode) as c:
                half = c.size // 2
                messages = c.replies(c.request(READ, 0, c.size, flags))
                assert any(m.error == EIO for m in messages), messages
                for m in messages:
                    if m.type == TYPE_DATA and m.offset + len(m.data) <= half:
                        assert set(m.data) == c.where.more["good"], "wrong data in a good chunk"
                if flags:
                    not_fragmented(messages)
                c.in_step()
    for part in t.modes("messages of errors", CHUNKED):
        with part as mode, t.ready(mode=mode) as c:
            for command, length in (READ, 1 << 20), (100, 4096):
                m = c.replies(c.request(command, c.size - 4096, length))[-1]
                assert m.error == EINVAL, m.error  # the client checks the form
            c.in_step()


@line
def S6(t):
    """With DF there is one content chunk, in which holes are zeroes. It must work up to 64 KiB."""
    for part in t.modes("data and holes", CHUNKED):
        with part as mode, t.writable(mode) as c:
            t.needs(c.eflags & SEND_DF, "DF")
            image = bytes(32768) + b"x" * 16384 + bytes(1 << 20)
            c.works(TRIM if c.eflags & SEND_TRIM else WRITE, 0, 1 << 20)
            c.write(0, image[:1 << 20])
            if c.eflags & SEND_WRITE_ZEROES:
                assert c.do(WRITE_ZEROES, 0, 32768) == 0
            for length in 1, 512, 32768, 40000, 65536, 1 << 20:
                messages = c.replies(c.request(READ, 0, length, DF))
                if length > 65536 and messages[0].error == EOVERFLOW:
                    continue
                assert not any(m.error for m in messages), f"{length}: {messages[0].error}"
                chunk = not_fragmented(messages)
                assert chunk.data == image[:length], length
                assert chunk.type == TYPE_DATA or length <= 32768, "a hole for data"
