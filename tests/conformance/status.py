# SPDX-License-Identifier: BSD-3-Clause
"""Section B: BLOCK_STATUS. Client.status() checks what holds for every reply."""

from client import *
from lines import line

CHUNKED = STRUCTURED, EXTENDED


def fragments(c, step=8192, count=16):
    """Write 2 * count pieces of `step` bytes: data, zeroes, data, zeroes..."""
    if c.eflags & SEND_WRITE_ZEROES:
        assert c.do(WRITE_ZEROES, 0, 2 * step * count) == 0
    for i in range(count):
        c.write(2 * i * step, b"x" * step)


@line
def B1(t):
    """There is exactly one chunk for each selected context. Extents are not empty and follow each
    other. All but the last add up to less than the request. There are at most 2^20."""
    for part in t.modes("one chunk each", CHUNKED):
        with part as mode:
            names = t.contexts("bitmaps")
            with t.ready("bitmaps", mode, names) as c:
                for offset, length in ((0, c.size), (65536, 4096), (512, 512), (c.size - 512, 512)):
                    c.status(offset, length)
    for part in t.modes("sums", CHUNKED):
        with part as mode, t.writable(mode, [ALLOCATION]) as c:
            fragments(c)
            for length in 4096, 8192, 8193, 12288, 65536, 1 << 20:
                c.status(0, length)
                c.status(4096, length)
    for part in t.modes("2^20 extents", CHUNKED):
        with part as mode, t.ready("fragments", mode, [ALLOCATION]) as c:
            assert c.where.more["extents"] > 1 << 20
            extents = c.status(0, c.size)[ALLOCATION]  # this checks their number
            assert len(extents) > 1000, f"only {len(extents)}: this disk should have more"


@line
def B2(t):
    """With REQ_ONE there is one extent, not longer than the request. Without contexts BLOCK_STATUS
    gets EINVAL."""
    for part in t.modes("REQ_ONE", CHUNKED):
        with part as mode, t.writable(mode, [ALLOCATION]) as c:
            fragments(c)
            for offset, length in ((0, 1 << 20), (0, 4096), (4096, 65536), (0, c.size), (1, 1)):
                c.status(offset, length, REQ_ONE)
    for part in t.modes("no contexts"):
        with part as mode, t.ready(mode=mode) as c:
            c.fails(BLOCK_STATUS, 0, 4096, wanted=EINVAL)


@line
def B3(t):
    """Neighbours with equal flags are merged. Lengths are multiples of the minimum block, except at
    the end."""
    for part in t.modes("merged", CHUNKED):
        with part as mode:
            names = t.contexts("bitmaps")
            with t.ready("bitmaps", mode, names) as c:
                for extents in c.status(0, c.size).values():
                    assert all(a[1] != b[1] for a, b in zip(extents, extents[1:])), extents[:9]
    for part in t.modes("multiples", CHUNKED):
        with part as mode, t.ready("aligned", mode, [ALLOCATION]) as c:
            for offset, length in (0, c.size), (c.block, 4 * c.block):
                for flags in 0, REQ_ONE:
                    extents = c.status(offset, length, flags)[ALLOCATION]
                    assert all(n % c.block == 0 for n, _ in extents), extents[:9]


@line
def B4(t):
    """Ours: in one reply all contexts cover the same range, and never more than was asked for.
    (virtnbdbackup goes on where the bitmap's extents end.)"""
    t.ours()
    for part in t.modes("the same total", CHUNKED):
        with part as mode:
            names = t.contexts("bitmaps")
            with t.ready("bitmaps", mode, names) as c:
                for offset, length in ((0, c.size), (1, 1000), (65536, c.size - 65536),
                                       (4096, 1 << 18)):
                    for flags in 0, REQ_ONE:
                        found = c.status(offset, length, flags)
                        totals = {sum(n for n, _ in extents) for extents in found.values()}
                        assert len(totals) == 1 and totals.pop() <= length, found


@line
def B5(t):
    """A lookup that fails is an error, never 'clean'. HOLE and ZERO are set only where bytes read
    as zeroes."""
    for part in t.modes("storage", CHUNKED):
        with part as mode, t.ready("bad-status", mode, [ALLOCATION]) as c:
            # base:allocation may be answered with 0, 'allocated', which is always safe.
            messages = c.replies(c.request(BLOCK_STATUS, c.size // 2, 4096))
            flags = [e[1] for m in messages for e in m.extents or ()]
            assert any(m.error for m in messages) or flags == [0], flags
            c.in_step()
    for part in t.modes("a bitmap that is gone", CHUNKED):
        with part as mode, t.target.lost_bitmap() as (where, name, lose):
            with Client(where, patience=t.target.patience) as c:
                c.negotiate(mode, [name])
                c.go().status(0, 4096)
                lose()
                error = c.do(BLOCK_STATUS, 0, 4096)
                assert error in (EIO, EINVAL), f"{error}: clean, for all that the client knows"
                c.in_step()
    for part in t.modes("holes read as zeroes", CHUNKED):
        with part as mode, t.writable(mode, [ALLOCATION]) as c:
            fragments(c)
            size = 1 << 20
            image, offset = c.read(0, size), 0
            for length, flags in c.map(ALLOCATION, 0, size):
                if flags:
                    end = min(offset + length, size)
                    assert image[offset:end] == bytes(end - offset), f"at {offset}: {flags}"
                offset += length


@line
def B6(t):
    """Requests of nearly 4 GiB make progress."""
    for part in t.modes("progress", CHUNKED):
        with part as mode, t.ready("large", mode, [ALLOCATION]) as c:
            for length in 0xFFFFF000, 0xFFFFFFFF, 0x80000000:
                for extents in c.status(4096, length).values():
                    assert sum(n for n, _ in extents) > 0
            assert sum(n for n, _ in c.map(ALLOCATION, 0, c.size)) >= c.size
