#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""NBD servers of other projects as the target of `fleecectl pull` and `restore`: all of a disk first,
then only what has changed."""

import contextlib
import os

from fleece import Server, fleecectl, run, tmpdir
from others import Daemon, nbdkit, qcow2, qemu_nbd
from pulls import KIB, MIB, Guest, assert_equal, contents, pull, pull_json, refused, seeded
from tap import main, test

SIZE = 16 * MIB


@contextlib.contextmanager
def raw_by_nbdkit(folder, filters=(), keys=()):
    run("truncate", "-s", str(SIZE), f"{folder}/target")
    options = [f"--filter={name}" for name in filters]
    with nbdkit(folder, *options, "file", f"{folder}/target", *keys) as where:
        yield where, f"{folder}/target"


@contextlib.contextmanager
def qcow2_by_qemu_nbd(folder):
    image = f"{folder}/target.qcow2"
    run("qemu-img", "create", "-f", "qcow2", image, str(SIZE))
    with qemu_nbd(folder, "-f", "qcow2", "-e", "8", image, readonly=False) as where:
        yield where, image


@contextlib.contextmanager
def qcow2_by_the_daemon(folder):
    image = f"{folder}/target.qcow2"
    run("qemu-img", "create", "-f", "qcow2", image, str(SIZE))
    with Daemon(folder) as d:
        d.qmp.cmd("blockdev-add", **qcow2("t", image))
        yield d.export("t", "target", writable=True), image
        d.qmp.cmd("quit")
        d.process.wait(60)


def becomes_the_disk(target):
    """In full; then, what a guest has changed since; then it is refused in full, because it holds data."""
    rng = seeded()
    with tmpdir() as folder, Server("--disk", "vda", "memory", str(SIZE)) as s:
        guest, q = Guest(s, "vda", rng), s.qmp()
        guest.write(30)
        q.cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=64 * KIB)
        with target(folder) as (where, image):
            pull(s.uri("vda"), "-o", where)
            guest.write(15)
            summary = pull_json(s.uri("vda"), "--bitmap", "b", "-o", where)
            assert summary["read"] + summary["zero"] < SIZE, summary
            refused(s.uri("vda"), "-o", where, why="--force")
        assert_equal(contents(image), guest.read())


@test
def nbdkit_is_the_target():
    becomes_the_disk(raw_by_nbdkit)


@test
def nbdkit_that_can_do_little():
    """Neither zeroes nor extents, one connection, and only aligned requests of a limited length."""
    becomes_the_disk(lambda folder: raw_by_nbdkit(
        folder, filters=("nozero", "noextents", "blocksize-policy", "multi-conn"),
        keys=("multi-conn-mode=disable", "blocksize-minimum=4096", "blocksize-preferred=4096",
              "blocksize-maximum=256k", "blocksize-error-policy=error")))


@test
def qemu_nbd_is_the_target():
    becomes_the_disk(qcow2_by_qemu_nbd)


@test
def qemu_storage_daemon_is_the_target():
    becomes_the_disk(qcow2_by_the_daemon)


@test
def a_backup_is_restored_into_them():
    rng = seeded()
    with tmpdir() as folder, Server("--disk", "vda", "memory", str(SIZE)) as s:
        guest, repo = Guest(s, "vda", rng), f"{folder}/repo"
        for _ in range(2):
            guest.write(15)
            fleecectl("-C", s.qmp_path, "backup", "-o", repo)
        for i, target in enumerate((raw_by_nbdkit, qcow2_by_qemu_nbd, qcow2_by_the_daemon)):
            os.mkdir(f"{folder}/{i}")
            with target(f"{folder}/{i}") as (where, image):
                fleecectl("restore", repo, "--disk", "vda", "-o", where)
            assert_equal(contents(image), guest.read())


main()
