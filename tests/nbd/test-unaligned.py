#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A disk that takes only whole blocks of 4 KiB, such as a device with sectors of 4 KiB and
direct=true. Some clients know the block size; others, such as the Linux kernel, do not ask for
it."""

import contextlib
import os
import random
import shutil
import struct

from fleece import Server, require_program, run, tmpdir
from rawnbd import *
from rig import activated
from tap import main, skip, test

BLOCK, SIZE = 4096, 1 << 20
DIRTY = "qemu:dirty-bitmap:b0"

# A request that is not of whole blocks fails and is noted. The last block of the disk may be short.
CHECK = (f"[ $((($3|$4)&{BLOCK - 1})) = 0 ] || [ $((($3+$4)|$4&{BLOCK - 1})) = SIZE ] || "
         "{ echo $3 $4 >>DIR/unaligned; exit 1; }; ")
DD = "status=none conv=notrunc bs=64K"


@contextlib.contextmanager
def serve(*more, size=SIZE, block=BLOCK):
    """A server with such a disk. Its image is the file `image` in its folder."""
    with tmpdir() as folder:
        image = os.path.join(folder, "image")
        with open(image, "wb") as f:
            f.truncate(size)
        check = CHECK.replace("DIR", folder).replace("SIZE", str(size))
        with Server("-t", "4", "--disk", "vda", "eval", f"get_size=echo {size}",
                    "thread_model=echo parallel", "can_write=exit 0", "can_flush=exit 0",
                    "can_fua=echo native", "can_multi_conn=exit 0",
                    f"block_size=echo {block} {block} 1048576",
                    f"pread={check}dd if={image} iflag=skip_bytes,count_bytes skip=$4 count=$3 {DD}",
                    f"pwrite={check}echo $5 >>{folder}/flags; "
                    f"dd of={image} oflag=seek_bytes seek=$4 {DD}",
                    f"trim={check}echo trim $3 $4 >>{folder}/trims", "can_trim=exit 0",
                    f"cache={check}echo cache $3 $4 >>{folder}/trims", "can_cache=echo native",
                    *more) as s:
            s.image, s.folder = image, folder
            yield s
            assert not os.path.exists(os.path.join(folder, "unaligned"))


def contents(s):
    with open(s.image, "rb") as f:
        return f.read()


def unaware(s, how="go", contexts=()):
    """A client that does not ask for block sizes."""
    c = Client(s.socket)
    if how == "export name":
        return c.export_name("vda")
    c.structured() if how == "go" else c.extended()
    if contexts:
        c.set_contexts("vda", *contexts)
    return c.go("vda")


@test
def H8_sizes_are_told_without_being_asked_for():
    with serve() as s:
        for option in OPT_INFO, OPT_GO:
            for infos in (), (INFO_NAME,), (INFO_BLOCK_SIZE,):
                with Client(s.socket) as c:
                    assert c.info("vda", infos, option) == REP_ACK
                    assert struct.unpack(">III", c.infos[INFO_BLOCK_SIZE]) == (
                        BLOCK, BLOCK, 1 << 20)
    with Server("memory", "1M") as s, Client(s.socket) as c:
        assert c.info("", ()) == REP_ACK
        assert INFO_BLOCK_SIZE not in c.infos  # they are the defaults that every client assumes


@test
def X6_the_minimum_counts_for_clients_that_asked_for_it():
    with serve() as s, Client(s.socket) as c:
        c.go("vda", (INFO_BLOCK_SIZE,))
        for command in READ, WRITE, TRIM, CACHE, WRITE_ZEROES:
            for offset, length in ((512, BLOCK), (0, 512), (1, BLOCK), (BLOCK, BLOCK + 1)):
                assert c.do(command, offset, length) == EINVAL
        assert c.do(READ, BLOCK, BLOCK) == 0


@test
def asking_in_an_earlier_INFO_is_not_enough():
    """Only the GO that transmission begins with counts."""
    with serve() as s, Client(s.socket) as c:
        assert c.info("vda", (INFO_BLOCK_SIZE,)) == REP_ACK
        c.go("vda")
        c.write(1000, b"x" * 50)
        assert contents(s)[990:1060] == bytes(10) + b"x" * 50 + bytes(10)


@test
def clients_that_did_not_ask_may_use_any_range():
    for how in "export name", "go", "extended":
        with serve() as s, unaware(s, how) as c:
            model, noise = bytearray(SIZE), random.Random(how)
            for i in range(40):
                offset = noise.randrange(SIZE // 2)
                length = noise.choice((1, 512, 1000, 4096, 5000, 70000))
                if i % 4 == 3:
                    assert c.do(WRITE_ZEROES, offset, length) == 0
                    model[offset:offset + length] = bytes(length)
                else:
                    data = noise.randbytes(length)
                    c.write(offset, data)
                    model[offset:offset + length] = data
                at, n = max(0, offset - noise.randrange(5000)), length + noise.randrange(9000)
                assert c.read(at, n) == model[at:at + n]
            assert c.read(SIZE - 5, 5) == bytes(5)
            assert contents(s) == model


@test
def two_guests_write_to_the_same_blocks():
    """Two clients have many requests under way, which share blocks. No bytes are lost."""
    with serve() as s, unaware(s) as a, unaware(s, "export name") as b:
        step, n = 1024, 96
        for i in range(n):
            a.request(WRITE, 2 * i * step, step, data=bytes([1 + i]) * step)
            b.request(WRITE, (2 * i + 1) * step, step, data=bytes([101 + i]) * step)
        for c in a, b:
            for _ in range(n):
                assert c.reply().error == 0
        expected = b"".join(bytes([1 + i]) * step + bytes([101 + i]) * step for i in range(n))
        assert contents(s)[:len(expected)] == expected


@test
def FUA_reaches_every_part():
    with serve() as s, unaware(s) as c:
        c.write(100, bytes(4 * BLOCK), FUA)
        assert c.do(WRITE_ZEROES, 100, 10, FUA) == 0
        with open(os.path.join(s.folder, "flags")) as f:
            assert f.read().split() == ["fua"] * 4


@test
def TRIM_shrinks_to_whole_blocks_and_CACHE_grows():
    with serve() as s, unaware(s) as c:
        assert c.do(TRIM, 100, 3 * BLOCK) == 0
        assert c.do(TRIM, BLOCK + 1, BLOCK) == 0  # holds no whole block
        assert c.do(CACHE, BLOCK + 1, BLOCK) == 0
        with open(os.path.join(s.folder, "trims")) as f:
            assert f.read().splitlines() == [f"trim {2 * BLOCK} {BLOCK}",
                                             f"cache {2 * BLOCK} {BLOCK}"]


@test
def a_disk_that_ends_within_a_block():
    """The plugin gets requests for its last block, which is short, as they are."""
    size = 3 * BLOCK + 100
    with serve(size=size) as s, unaware(s) as c:
        assert c.size == size
        c.write(2 * BLOCK + 7, b"x" * (size - 2 * BLOCK - 7))
        c.write(size - 3, b"end")
        assert c.read(size - 10, 10) == b"x" * 7 + b"end"
        assert c.read(2 * BLOCK - 1, 10) == bytes(8) + b"xx"
        assert contents(s) == bytes(2 * BLOCK + 7) + b"x" * (BLOCK + 90) + b"end"


@test
def a_view_of_a_disk_with_large_blocks():
    """The view has the old bytes at any offset, TRIM shrinks to whole blocks, and all that was
    written is dirty."""
    with serve() as s, unaware(s) as guest:
        q = s.qmp()
        old = random.Random(7).randbytes(8 * BLOCK)
        guest.write(0, old)
        q.transaction(("view-create", {"disk": "vda", "name": "v"}),
                      ("block-dirty-bitmap-add",
                       {"node": "vda", "name": "b0", "granularity": 512}))
        guest.write(BLOCK + 10, b"new")
        guest.write(3 * BLOCK - 1, b"at a border")
        q.cmd("block-export-add", type="nbd", id="e", name="v", **{"node-name": "v"}, discard=True)
        with Client(s.socket) as c:
            assert c.info("v") == REP_ACK
            assert struct.unpack(">III", c.infos[INFO_BLOCK_SIZE])[0] == BLOCK
            c.go("v")
            assert c.read(0, 8 * BLOCK) == old
            for offset, length in ((BLOCK + 9, 5), (3 * BLOCK - 2, 20), (1, 8 * BLOCK - 2)):
                assert c.read(offset, length) == old[offset:offset + length]
            assert c.do(TRIM, BLOCK - 1, 2 * BLOCK) == 0
            assert c.read(BLOCK, BLOCK) == bytes(BLOCK)
            assert c.read(2 * BLOCK, BLOCK) == old[2 * BLOCK:3 * BLOCK]
        with unaware(s, contexts=(DIRTY, "base:allocation")) as c:
            assert c.map(DIRTY, 0, 5 * BLOCK) == [(BLOCK, 0), (3 * BLOCK, 1), (BLOCK, 0)]
            assert c.map(DIRTY, BLOCK + 100, BLOCK) == [(BLOCK, 1)]
            assert c.map("base:allocation", 100, 5000) == [(5000, 0)]


@test
def a_file_system_can_be_made_by_small_writes():
    """Writes of 1 KiB at many places, such as mkfs on a kernel device makes, give the same image.
    The superblock is where it belongs."""
    mkfs = shutil.which("mkfs.ext4") or "/sbin/mkfs.ext4"
    if not os.path.exists(mkfs):
        skip("mkfs.ext4 is not installed")
    with serve() as s, unaware(s, "export name") as c, tmpdir() as folder:
        made = os.path.join(folder, "made")
        with open(made, "wb") as f:
            f.truncate(SIZE)
        run(mkfs, "-q", "-b", "1024", "-O", "^has_journal", made)
        with open(made, "rb") as f:
            image = f.read()
        for offset in range(0, SIZE, 1024):
            if any(image[offset:offset + 1024]):
                c.write(offset, image[offset:offset + 1024])
        assert c.read(1024 + 56, 2) == b"\x53\xef"  # ext4's magic number
        assert contents(s) == image


@contextlib.contextmanager
def qemu_nbd(uri):
    """The socket of a qemu-nbd that serves our export to its own clients."""
    program = require_program("qemu-nbd")
    with tmpdir() as folder:
        path = os.path.join(folder, "sock")
        with activated(path, program, "-t", "-f", "raw", "-x", "vda", "-e", "2", uri):
            yield path


@test
def qemu_nbd_and_this_server_give_the_same_data():
    """qemu-nbd does the same for its own clients. It is a client of the same disk here, and each of
    the two has its own half of the blocks. Both give the same data, and nothing is lost."""
    half, noise = SIZE // 2, random.Random(1)
    with serve() as s, qemu_nbd(s.uri("vda")) as path:
        with Client(path) as theirs, unaware(s, "export name") as ours:
            theirs.export_name("vda")
            for _ in range(20):
                offset, data = noise.randrange(half - 9000), noise.randbytes(noise.randrange(1, 9000))
                theirs.write(offset, data)
                ours.write(half + offset, data)
                at, n = noise.randrange(half - 9000), noise.randrange(1, 9000)
                assert theirs.read(at, n) == ours.read(half + at, n)
            assert theirs.do(FLUSH) == 0
            got = contents(s)
            assert got[:half] == got[half:]


main()
