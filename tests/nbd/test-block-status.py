#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""BLOCK_STATUS: the rules of tests/conformance/README.md whose names begin with B."""

import contextlib
import os

from fleece import Server, tmpdir
from rawnbd import *
from tap import main, test

ALLOCATION, B0, B1 = "base:allocation", "qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1"

EXTENTS_MAX = 1 << 17  # of one context in one reply (common/base/extents.h)


@contextlib.contextmanager
def serve(*args, bitmaps=(), contexts=(ALLOCATION,), infos=(INFO_BLOCK_SIZE,), headers=Client.structured):
    """A server, and a client in transmission. bitmaps: (name, granularity) pairs."""
    with Server(*args) as s, Client(s.socket) as c:
        if bitmaps:
            q = s.qmp()
            for name, granularity in bitmaps:
                q.cmd("block-dirty-bitmap-add", node="disk0", name=name, granularity=granularity)
        headers(c)
        c.set_contexts("", *contexts)
        yield s, c.go("", infos)


@test
def B1_one_chunk_per_context():
    """Client.block_status() checks the chunks, their sums, and that neighbours are merged."""
    with serve("memory", "64M", bitmaps=(("b0", 65536), ("b1", 512)),
               contexts=(ALLOCATION, B0, B1)) as (s, c):
        for offset in range(0, 1 << 20, 131072):
            c.write(offset, b"x" * 4096)
        status = c.block_status(0, 64 << 20)
        assert len(status) == 3
        assert c.map(B0, 0, 1 << 20) == [(65536, 1 - i % 2) for i in range(16)]


def write_every_other(c, sectors):
    """Write so many sectors, and leave one out after each."""
    step = 1000
    for base in range(0, sectors, step):
        for i in range(base, base + step):
            c.request(WRITE, i * 1024, 512, data=bytes(512))
        for _ in range(step):
            assert c.reply().error == 0


@test
def B1_extents_are_limited():
    """200,000 extents come in few, long replies, none of which has more than the server allows."""
    runs = 100000
    with serve("memory", "128M", bitmaps=(("b0", 512),), contexts=(B0,)) as (s, c):
        write_every_other(c, runs)
        offset, extents, replies = 0, 0, 0
        while offset < runs * 1024:
            got = c.block_status(offset, runs * 1024 - offset)[B0]
            assert len(got) <= EXTENTS_MAX
            assert got[0] == (512, 1)
            offset += sum(n for n, _ in got)
            extents += len(got)
            replies += 1
        assert extents == 2 * runs and replies <= 4, (extents, replies)


@test
def B2_REQ_ONE():
    with serve("memory", "1M", bitmaps=(("b0", 65536),), contexts=(ALLOCATION, B0)) as (s, c):
        c.write(65536, b"x" * 65536)
        for offset, length in ((0, 1 << 20), (65536, 4096), (65536, 1 << 19), (1000, 1000)):
            status = c.block_status(offset, length, REQ_ONE)
            assert len({e[0][0] for e in status.values()}) == 1


@test
def B2_no_contexts():
    with Server("memory", "1M") as s:
        for structured in False, True:
            with Client(s.socket) as c:
                if structured:
                    c.structured()
                c.go()
                assert c.do(BLOCK_STATUS, 0, 4096) == EINVAL
                c.in_step()


@test
def B3_lengths_are_multiples_of_the_minimum_block():
    with serve("eval", "get_size=echo 1048576", "pread=head -c $3 /dev/zero",
               "pwrite=cat >/dev/null", "can_write=exit 0", "block_size=echo 4096 4096 1048576",
               "can_extents=exit 0",
               "extents=for i in $(seq 0 1000 200000); do echo $i 1000 $((i / 1000 % 2 * 3)); done",
               bitmaps=(("b0", 512),), contexts=(ALLOCATION, B0)) as (s, c):
        c.write(4096, b"x" * 4096)
        status = c.block_status(0, 128 << 10)
        for extents in status.values():
            assert all(n % 4096 == 0 for n, _ in extents), extents
        # A block is no hole if any part of it has data.
        assert status[ALLOCATION][0][1] == 0
        assert c.map(B0, 0, 16384) == [(4096, 0), (4096, 1), (8192, 0)]
        status = c.block_status(0, 128 << 10, REQ_ONE)
        assert all(e[0][0] % 4096 == 0 for e in status.values())


BLOCKS = ("eval", "get_size=echo 1048576", "pread=head -c $3 /dev/zero", "can_write=exit 0",
          "pwrite=cat >/dev/null", "block_size=echo 4096 4096 1048576")


def merge_of_smaller_blocks(s):
    """Bitmap b0 of a disk with blocks of 4 KiB gets bits for single sectors, from another disk."""
    q = s.qmp()
    q.cmd("block-dirty-bitmap-add", node="small", name="b", granularity=512)
    with Client(s.socket) as c:
        c.go("small")
        for sector in 11, 24, 25, 47:  # in three blocks: a middle one, the first two, the last one
            c.write(512 * sector, bytes(512))
    q.cmd("block-dirty-bitmap-merge", node="disk0", target="b0",
          bitmaps=[{"node": "small", "name": "b"}])


@test
def B3_a_block_that_is_dirty_in_part_is_dirty():
    """If it were called clean, a backup would miss the change."""
    block = 4096
    with serve("--disk", "disk0", *BLOCKS, "--disk", "small", "memory", "1M",
               bitmaps=(("b0", 512),), contexts=(B0,)) as (s, c):
        merge_of_smaller_blocks(s)
        assert c.map(B0, 0, 8 * block) == [(block, 0), (block, 1), (block, 0), (block, 1),
                                           (block, 0), (block, 1), (2 * block, 0)]
        for i in range(8):
            dirty = int(i in (1, 3, 5))
            assert c.block_status(i * block, block)[B0] == [(block, dirty)]
            (n, flags), = c.block_status(i * block, 8 * block, REQ_ONE)[B0]
            assert flags == dirty and n % block == 0


@test
def B3_a_client_that_knows_no_blocks_is_told_the_bits():
    with serve("--disk", "disk0", *BLOCKS, "--disk", "small", "memory", "1M",
               bitmaps=(("b0", 512),), contexts=(B0,), infos=()) as (s, c):
        merge_of_smaller_blocks(s)
        assert c.map(B0, 0, 8192) == [(5632, 0), (512, 1), (2048, 0)]
        assert c.block_status(100, 6000, REQ_ONE)[B0] == [(5532, 0)]


@test
def B4_all_contexts_cover_the_same():
    with serve("memory", "64M", bitmaps=(("b0", 65536), ("b1", 1 << 20)),
               contexts=(ALLOCATION, B0, B1)) as (s, c):
        for offset in 0, 3 << 20, 10 << 20:
            c.write(offset, b"x" * 4096)
        for offset, length in ((0, 64 << 20), (1, 1000), (5 << 20, 30 << 20), (4096, 1 << 20)):
            totals = {sum(n for n, _ in e) for e in c.block_status(offset, length).values()}
            assert len(totals) == 1 and totals.pop() <= length


@test
def B4_one_that_is_told_in_part_cuts_the_others():
    """A client that adds up the lengths of one context would miss what only the other one has."""
    for headers in Client.structured, Client.extended:
        with serve("memory", "128M", bitmaps=(("b0", 512),), contexts=(ALLOCATION, B0),
                   headers=headers) as (s, c):
            write_every_other(c, 70000)
            status = c.block_status(0, 128 << 20)
            assert len(status[B0]) == EXTENTS_MAX
            total = sum(n for n, _ in status[B0])
            assert total < 70000 * 1024
            assert sum(n for n, _ in status[ALLOCATION]) == total
            assert sum(n for n, _ in c.block_status(total, (128 << 20) - total)[B0]) == \
                (128 << 20) - total


@test
def B5_a_failed_lookup_is_an_error():
    with serve("eval", "get_size=echo 1048576", "pread=head -c $3 /dev/zero",
               "can_extents=exit 0", "extents=echo EIO no >&2; exit 1") as (s, c):
        assert c.do(BLOCK_STATUS, 0, 4096) == EIO
    with serve("memory", "1M", bitmaps=(("b0", 65536),), contexts=(B0,)) as (s, c):
        s.qmp().cmd("block-dirty-bitmap-remove", node="disk0", name="b0")
        assert c.do(BLOCK_STATUS, 0, 4096) == EIO
        c.in_step()


@test
def B5_holes_read_as_zeroes():
    with tmpdir() as d:
        path = os.path.join(d, "disk")
        with open(path, "wb") as f:
            f.truncate(4 << 20)
            f.seek(1 << 20)
            f.write(b"x" * 65536)
        with serve("file", path) as (s, c):
            image = c.read(0, 4 << 20)
            offset = 0
            for n, flags in c.map(ALLOCATION, 0, 4 << 20):
                assert flags in (0, 1 | 2, 2)
                if flags:
                    assert image[offset:offset + n] == bytes(n)
                offset += n


@test
def B6_requests_up_to_4_GiB():
    with serve("memory", "5G", bitmaps=(("b0", 65536),), contexts=(ALLOCATION, B0)) as (s, c):
        for length in 0xFFFFFFFF, 0xFFFFF000, 0x80000000:
            for extents in c.block_status(4096, length).values():
                assert 0 < sum(n for n, _ in extents) <= length
        assert sum(n for n, _ in c.map(B0, 0, 5 << 30)) == 5 << 30


main()
