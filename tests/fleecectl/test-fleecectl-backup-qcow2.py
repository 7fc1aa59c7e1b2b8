#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl backup of disks that are qcow2 images: each backup is the disk of its instant, through
writes, zeroes and trims, a crash of the server, and a larger size."""

import contextlib
import os
import random

import nbd

import qcow2_images as images
from backup_rig import BackupRig
from fleece import fleecectl
from qmp_exports import closing
from rig import MIB, assert_same, content, read_all, seed
from tap import main, test

SIZE = 8 * MIB


def made(path, size):
    """vda is empty, vdb is over a raw image, vdc is compressed."""
    images.require_qemu()
    name = os.path.basename(path)[:3]
    if name == "vdb":
        images.overlay(path, size)
    elif name == "vdc":
        images.compressed(path, size)
    else:
        images.create(path, size)


def storm(rig, rng):
    """Writes, zeroes and trims on every disk, done when it returns."""
    for disk in rig.disks:
        with closing(rig.server.nbd(disk)) as h:
            for _ in range(25):
                length = rng.choice((512, 4096, 65536, 200_000))
                offset = rng.randrange(h.get_size() - length + 1)
                what = rng.random()
                if what < 0.6:
                    h.pwrite(rng.randbytes(length), offset, rng.choice((0, 0, nbd.CMD_FLAG_FUA)))
                elif what < 0.8:
                    h.zero(length, offset, rng.choice((0, nbd.CMD_FLAG_NO_HOLE)))
                else:
                    h.trim(length, offset)
            if rng.random() < 0.5:
                h.flush()


def content_of(rig):
    found = {}
    for disk in rig.disks:
        with closing(rig.server.nbd(disk)) as h:
            found[disk] = read_all(h)
    return found


@test
def each_backup_is_its_instant():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", "vdc", size=SIZE, plugin="qcow2", prepare=made) as rig:
        rig.backup()
        for _ in range(5):
            storm(rig, rng)
            rig.backup()
        assert [m["level"] for m in rig.members()] == ["full"] + 5 * ["inc"]
        with contextlib.ExitStack() as stack:
            for disk in rig.disks:
                stack.enter_context(rig.writer(disk, random.Random(rng.random()), depth=4))
            for _ in range(4):
                rig.backup()
        rig.check()
        rig.backup()
        now = content_of(rig)
        for disk in rig.disks:
            fleecectl("restore", rig.repo, "--disk", disk, "-o", f"{rig.dir}/restored.raw")
            assert_same(content(f"{rig.dir}/restored.raw"), now[disk], disk)
            os.unlink(f"{rig.dir}/restored.raw")
        rig.server.stop()
        for disk in rig.disks:
            images.check(rig.image(disk))
            assert_same(images.content(rig.image(disk)), now[disk], disk)


@test
def after_a_crash_it_goes_on():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", "vdc", size=SIZE, plugin="qcow2", prepare=made) as rig:
        rig.backup()
        for i in range(6):
            storm(rig, rng)
            if i % 2:
                # What no flush has promised may be lost; what is in a backup may not.
                rig.backup()
                assert rig.levels() == {d: "inc" for d in rig.disks}, (rig.levels(), rig.server.log())
            rig.kill()
            for disk in rig.disks:
                images.check(rig.image(disk), leaks=True)
            rig.start()
            if i % 2:
                assert content_of(rig) == rig.truth[rig.newest()["session"]]
        rig.backup()
        rig.check()
        rig.server.stop()
        for disk in rig.disks:
            images.check(rig.image(disk), leaks=True)


@test
def larger_by_the_way():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", "vdc", size=SIZE, plugin="qcow2", prepare=made) as rig:
        rig.backup()
        for i in range(1, 3):
            with rig.qmp() as q:
                for disk in rig.disks:
                    q.cmd("block_resize", size=SIZE + i * (MIB + 512), **{"node-name": disk})
            storm(rig, rng)
            rig.backup()
            if i == 1:
                rig.restart()
        assert rig.newest()["disks"][0]["size"] == SIZE + 2 * (MIB + 512)
        rig.check()
        now = content_of(rig)
        rig.server.stop()
        for disk in rig.disks:
            images.check(rig.image(disk))
            assert_same(images.content(rig.image(disk)), now[disk], disk)


main()
