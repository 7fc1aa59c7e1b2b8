# SPDX-License-Identifier: BSD-3-Clause
"""qemu-io against our exports: every kind of request, checked by patterns."""

import contextlib
import os

from fleece import require_program, run
from rig import (KIB, MIB, assert_same, content, dirty_context, dirty_extents, export_view,
                 file_server, freeze)
from tap import main, test


def qemu_io(where, *commands, check=True, options=()):
    """Run commands; fails the test where a pattern does not match or a command fails."""
    require_program("qemu-io")
    args = [a for c in commands for a in ("-c", c)]
    result = run("qemu-io", "-f", "raw", *options, *args, where, check=check)
    if check:
        for word in "verification failed", "failed:", "rror":
            assert word not in result.stdout + result.stderr, result.stdout + result.stderr
    return result


class Disk(contextlib.ExitStack):
    """A server with a disk `vda` on a file of 8 MiB of 0x5a, and a bitmap `b` of 512 bytes."""

    def __enter__(self):
        self.server, folder, _ = self.enter_context(file_server(8 * MIB))
        self.file, self.uri = f"{folder}/disk", self.server.uri("vda")
        with open(self.file, "r+b") as f:
            f.write(b"\x5a" * 8 * MIB)
        self.q = self.server.qmp()
        self.q.cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=512)
        return self

    def dirty(self):
        return dirty_extents(self.server.nbd("vda", [dirty_context("b")]), "b")


@test
def reads_change_nothing():
    with Disk() as disk:
        qemu_io(disk.uri, "read -P 0x5a 0 8M", "read -P 0x5a 512 512", "read -P 0x5a 1 1",
                "read -P 0x5a 4095 4098")
        assert disk.dirty() == []


@test
def writes():
    with Disk() as disk:
        qemu_io(disk.uri, "write -P 1 0 4k", "write -P 2 1M 2M", "read -P 1 0 4k",
                "read -P 0x5a 4k 1020k", "read -P 2 1M 2M", "read -P 0x5a 3M 5M")
        assert disk.dirty() == [(0, 4 * KIB), (MIB, 2 * MIB)]
        assert_same(content(disk.file), b"\1" * 4 * KIB + b"\x5a" * (MIB - 4 * KIB) +
                    b"\2" * 2 * MIB + b"\x5a" * 5 * MIB)


@test
def unaligned_writes():
    with Disk() as disk:
        qemu_io(disk.uri, "write -P 3 511 2", "write -P 4 1048575 4099", "read -P 3 511 2",
                "read -P 0x5a 0 511", "read -P 0x5a 513 500", "read -P 4 1048575 4099")
        assert disk.dirty() == [(0, 1024), (MIB - 512, 4608 + 512)], disk.dirty()


@test
def vectored_and_many_at_once():
    with Disk() as disk:
        qemu_io(disk.uri, "writev -P 5 0 4k 8k 1k 64k", "readv -P 5 0 70k 7k",
                *[f"aio_write -P {i} {i}M 512k" for i in range(1, 8)], "aio_flush",
                *[f"aio_read -P {i} {i}M 512k" for i in range(1, 8)], "aio_flush")
        assert disk.dirty() == [(0, 77 * KIB)] + [(i * MIB, 512 * KIB) for i in range(1, 8)]


@test
def fua_and_flush():
    with Disk() as disk:
        qemu_io(disk.uri, "write -f -P 6 0 64k", "flush", "write -z -f 64k 64k", "discard 128k 64k",
                "flush", "read -P 6 0 64k", "read -P 0 64k 64k", options=["-t", "writethrough"])
        assert disk.dirty() == [(0, 192 * KIB)]


@test
def zeroes_that_stay_allocated():
    with Disk() as disk:
        before = os.stat(disk.file).st_blocks
        qemu_io(disk.uri, "write -z 1M 1M", "read -P 0 1M 1M", "read -P 0x5a 0 1M",
                "read -P 0x5a 2M 6M")
        assert disk.dirty() == [(MIB, MIB)]
        assert os.stat(disk.file).st_blocks >= before


@test
def zeroes_that_may_be_unmapped():
    with Disk() as disk:
        before = os.stat(disk.file).st_blocks
        qemu_io(disk.uri, "write -z -u 1M 1M", "read -P 0 1M 1M", "read -P 0x5a 2M 6M",
                options=["-d", "unmap"])
        assert disk.dirty() == [(MIB, MIB)]
        assert before - os.stat(disk.file).st_blocks >= MIB // 512


@test
def unaligned_zeroes():
    with Disk() as disk:
        qemu_io(disk.uri, "write -z 1000 3000", "write -z -u 1048577 8191", "read -P 0x5a 0 1000",
                "read -P 0 1000 3000", "read -P 0x5a 4000 1000", "read -P 0 1048577 8191",
                "read -P 0x5a 1048000 577", "read -P 0x5a 1056768 4096", options=["-d", "unmap"])
        assert disk.dirty() == [(512, 3584), (MIB, 8 * KIB)], disk.dirty()


@test
def discard():
    with Disk() as disk:
        before = os.stat(disk.file).st_blocks
        qemu_io(disk.uri, "discard 2M 2M", "read -P 0x5a 1M 1M", "read -P 0x5a 4M 4M",
                options=["-d", "unmap"])
        assert disk.dirty() == [(2 * MIB, 2 * MIB)]
        assert content(disk.file)[2 * MIB:4 * MIB] == b"\0" * 2 * MIB
        assert before - os.stat(disk.file).st_blocks >= 2 * MIB // 512


@test
def the_whole_disk_at_once():
    with Disk() as disk:
        qemu_io(disk.uri, "write -P 9 0 8M", "read -P 9 0 8M", "write -z -u 0 8M", "read -P 0 0 8M",
                options=["-d", "unmap"])
        assert disk.dirty() == [(0, 8 * MIB)]


@test
def past_the_end():
    with Disk() as disk:
        for command in "read 8M 512", "write 8388607 2", "discard 16M 4k":
            result = qemu_io(disk.uri, command, "read -P 0x5a 0 512", check=False)
            assert "read 512/512" in result.stdout, result
        assert disk.dirty() == []


@test
def a_view_is_read_only_and_stands_still():
    with Disk() as disk:
        freeze(disk.q, "vda", "v")
        export_view(disk.q, "v")
        view = disk.server.uri("v")
        qemu_io(disk.uri, "write -P 1 0 1M", "write -z -u 1M 1M", "discard 2M 1M",
                "write -P 2 3145727 2", options=["-d", "unmap"])
        qemu_io(view, "read -P 0x5a 0 8M", "read -P 0x5a 1000 3000", options=["-r"])
        # QEMU refuses to open it for writing, or the server refuses the write.
        result = qemu_io(view, "write 0 512", check=False)
        assert "wrote 512/512" not in result.stdout, result
        qemu_io(view, "read -P 0x5a 0 8M", options=["-r"])


@test
def two_writers_see_each_other():
    with Disk() as disk:
        qemu_io(disk.uri, "write -P 1 0 64k")
        qemu_io(disk.uri, "read -P 1 0 64k", "write -P 2 0 4k")
        qemu_io(disk.uri, "read -P 2 0 4k", "read -P 1 4k 60k")


main()
