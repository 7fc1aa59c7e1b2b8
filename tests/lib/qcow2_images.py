# SPDX-License-Identifier: BSD-3-Clause
"""qcow2 images that QEMU's tools make and judge."""

import random

from fleece import require_program, run
from rig import KIB, MIB


def require_qemu():
    for program in "qemu-img", "qemu-io":
        require_program(program)


def create(path, size, *options, backing=None):
    """A new image. options: `-o` of qemu-img. backing: (its path, its format)."""
    words = [w for o in options for w in ("-o", o)]
    if backing:
        words += ["-b", backing[0], "-F", backing[1]]
    run("qemu-img", "create", "-q", "-f", "qcow2", *words, path, str(size))


def overlay(path, size, base_size=None, rng=None):
    """An image over a new raw one, PATH.base, with random data in each second MiB of it."""
    rng = rng or random.Random(1)
    with open(path + ".base", "wb") as f:
        f.truncate(base_size or size)
        for at in range(0, (base_size or size) - MIB + 1, 2 * MIB):
            f.seek(at)
            f.write(rng.randbytes(MIB))
    create(path, size, backing=(path + ".base", "raw"))


def compressed(path, size, method="zstd", rng=None):
    """An image of its own, all of whose clusters are compressed, but for those of zeroes."""
    rng = rng or random.Random(2)
    raw = path + ".source"
    with open(raw, "wb") as f:
        f.truncate(size)
        for at in range(0, size, 256 * KIB):
            f.seek(at)
            f.write(rng.randbytes(64) * (2 * KIB))
    run("qemu-img", "convert", "-q", "-c", "-f", "raw", "-O", "qcow2", "-o",
        f"compression_type={method}", raw, path)


def content(path):
    """All of the disk, as qemu-img reads it, without locks."""
    raw = path + ".content"
    run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", path, raw)
    with open(raw, "rb") as f:
        return f.read()


def check(path, leaks=False):
    """Fail the test if `qemu-img check` finds an error, or leaks, if these are not allowed."""
    r = run("qemu-img", "check", "-f", "qcow2", path, check=False)
    assert r.returncode == 0 or (leaks and r.returncode == 3), (r.returncode, r.stdout, r.stderr)
