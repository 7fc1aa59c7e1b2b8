# SPDX-License-Identifier: BSD-3-Clause
"""Other people's clients on a qcow2 disk of ours: copies, maps, and fio."""

import contextlib
import json
import os
import random

import nbd

from fio import VERIFY, fio
from fleece import require_program, run, tmpdir
from qcow2 import KINDS, check, disk_of, qemu_img, qemu_io, server
from rig import KIB, MIB, assert_same, content, extents, seed
from tap import main, note, test

ZERO = nbd.STATE_ZERO


@contextlib.contextmanager
def made(name, rng=None):
    """An image of the matrix, by its name: (folder, path)."""
    with tmpdir() as folder:
        kind = next(kind for kind in KINDS if str(kind) == name)
        yield folder, kind.make(folder, rng or random.Random(seed()))


def is_zero(found, key):
    """Neighbours that are alike as one: [(offset, end, is zero)]."""
    merged = []
    for offset, length, zero in (key(piece) for piece in found):
        if merged and merged[-1][2] == zero:
            merged[-1] = (merged[-1][0], offset + length, zero)
        else:
            merged.append((offset, offset + length, zero))
    return merged


# ---- copies ----

@test
def nbdcopy_from_it_and_to_it():
    require_program("nbdcopy")
    for name in "over a longer image", "zstd", "subclusters over qcow2":
        with made(name) as (d, path):
            disk = disk_of(path)
            with server(path) as s:
                run("nbdcopy", s.uri("vda"), f"{d}/out")
                assert_same(content(f"{d}/out"), disk, "the copy")
                new = disk[::-1]
                with open(f"{d}/new", "wb") as f:
                    f.write(new)
                run("nbdcopy", "--flush", f"{d}/new", s.uri("vda"))
            check(path)
            assert_same(disk_of(path), new, "the image")


@test
def qemu_img_convert_to_it_and_from_it():
    with made("over raw") as (d, path):
        disk = disk_of(path)
        with server(path) as s:
            qemu_img("convert", "-f", "raw", "-O", "qcow2", s.uri("vda"), f"{d}/copy")
            assert_same(disk_of(f"{d}/copy"), disk, "the copy")
            qemu_io(f"{d}/copy", "write -P 7 1M 1M", "write -z 3M 2M")
            qemu_img("convert", "-n", "-f", "qcow2", "-O", "raw", f"{d}/copy", s.uri("vda"))
            qemu_img("compare", "-f", "qcow2", "-F", "raw", f"{d}/copy", s.uri("vda"))
        check(path)
        assert_same(disk_of(path), disk_of(f"{d}/copy"), "the image")


@test
def qemu_io_on_it():
    with made("clusters of 512") as (_, path), server(path) as s:
        qemu_io(s.uri("vda"), "write -P 1 0 300k", "write -z 100k 64k", "discard 200k 50k", "write -P 2 1537 3",
                "read -P 1 0 1537", "read -P 2 1537 3", "read -P 0 100k 64k", "read -P 1 164k 36k", "flush",
                *[f"aio_write -P {i} {i * 100}k 99k" for i in range(4, 20)], "aio_flush",
                *[f"read -P {i} {i * 100}k 99k" for i in range(4, 20)], options=("-f", "raw"))


# ---- maps ----

@test
def the_map_is_qemus():
    """Where qemu-img says that the disk reads as zeroes, by its entries, we do, too. Of data neither has to
    say so where its file has a hole: QEMU does of all files, we of the image itself."""
    for kind in KINDS:
        with made(str(kind)) as (_, path):
            disk = disk_of(path)
            theirs = json.loads(qemu_img("map", "-f", "qcow2", "--output=json", path).stdout)
            with server(path) as s:
                ours = extents(s.nbd("vda", ["base:allocation"]), "base:allocation")
            for offset, length, flags in ours:
                assert not flags & ZERO or not any(disk[offset:offset + length]), (str(kind), offset, length)
            zero = is_zero(ours, lambda e: (e[0], e[1], bool(e[2] & ZERO)))
            for piece in theirs:
                if piece["zero"] and not piece["data"]:
                    start, end = piece["start"], piece["start"] + piece["length"]
                    assert any(a <= start and end <= b for a, b, is_zero in zero if is_zero), \
                        (str(kind), piece, zero)


@test
def nbdinfo_has_the_map():
    require_program("nbdinfo")
    with made("empty") as (_, path), server(path) as s:
        s.nbd("vda").pwrite(b"x" * 64 * KIB, MIB)
        found = json.loads(run("nbdinfo", "--json", "--map", s.uri("vda")).stdout)
        assert [(e["offset"], e["length"], e["type"]) for e in found] == \
            [(0, MIB, 3), (MIB, 64 * KIB, 0), (MIB + 64 * KIB, 7 * MIB - 64 * KIB, 3)], found


# ---- fio ----

@test
def fio_on_four_connections():
    for options in (), ("-o", "cluster_size=4096"), ("-o", "extended_l2=on"):
        with tmpdir() as d:
            path = f"{d}/i"
            qemu_img("create", "-q", "-f", "qcow2", *options, path, "64M")
            with server(path) as s:
                jobs = fio(s.uri("vda"), "--rw=randwrite", "--bs=4k", "--size=16M", "--numjobs=4",
                           "--offset_increment=16M", "--io_size=4M", *VERIFY)
                assert len(jobs) == 4, len(jobs)
            check(path)


@test
def fio_mixes_trims_on_an_overlay():
    with made("subclusters over qcow2") as (_, path):
        with server(path) as s:
            fio(s.uri("vda"), "--rw=randwrite", "--bsrange=512-128k", "--bs_unaligned=0", "--blockalign=512",
                "--size=8M", *VERIFY)
            fio(s.uri("vda"), "--rw=randtrimwrite", "--bs=4k", "--size=8M")
            fio(s.uri("vda"), "--rw=randwrite", "--bs=16k", "--size=8M", *VERIFY)
        check(path)


# ---- what the file takes ----

@test
def the_file_takes_what_the_disk_uses():
    """Writes and trims of the same places again and again: QEMU's images have grown beyond 110 %."""
    rng = random.Random(seed())
    with tmpdir() as d:
        path = f"{d}/i"
        qemu_img("create", "-q", "-f", "qcow2", path, "32M")
        with server(path) as s:
            h, used = s.nbd("vda"), set()
            for turn in range(1500):
                place, length = rng.randrange(0, 480), rng.randrange(1, 33)
                if rng.randrange(2):
                    h.pwrite(b"x" * length * 64 * KIB, place * 64 * KIB)
                    used.update(range(place, place + length))
                else:
                    h.trim(length * 64 * KIB, place * 64 * KIB)
                    used.difference_update(range(place, place + length))
                if turn % 100 == 99:
                    h.flush()
                    note(f"{len(used) * 64} KiB of data in {os.stat(path).st_blocks // 2} KiB")
                    assert os.stat(path).st_blocks * 512 <= len(used) * 64 * KIB * 1.02 + MIB
        check(path)
        assert os.stat(path).st_size <= 33 * MIB
        assert os.stat(path).st_blocks * 512 <= len(used) * 64 * KIB * 1.02 + MIB


main()
