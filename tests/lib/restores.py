# SPDX-License-Identifier: BSD-3-Clause
"""A repository to restore from, and what is in it."""

import contextlib

from fleece import require_program, run, tmpdir
from repository import Disk, Repository, read

K, M = 1 << 10, 1 << 20
VDA = 4 * M


@contextlib.contextmanager
def repository():
    """Three members: vda in all, vdb, which has an odd size, in the first and the last. vda was shorter in
    the second."""
    for program in "qemu-img", "qemu-io":
        require_program(program)
    with tmpdir() as folder:
        repo = Repository(f"{folder}/repo")
        repo.folder = folder
        repo.add({"vda": Disk(VDA, [(0, 64 * K, 0x11), (M, M, 0x12), (3 * M, M, 0x13)]),
                  "vdb": Disk(M + 100, [(M - K, K, 0x14), (M, 512, 0x15)])})
        repo.add({"vda": Disk(VDA - M - 512, [(64 * K, 64 * K, 0x21)], level="inc", compress=True)})
        repo.add({"vda": Disk(VDA, [(M, 64 * K, 0), (2 * M, 512, 0x31)], level="inc"),
                  "vdb": Disk(M + 100, [(0, K, 0x32)], level="inc")})
        yield repo


def expected(repo, number, disk):
    return repo.content(number, disk)[:repo.entry(number, disk)["size"]]


def as_raw(folder, image):
    raw = f"{folder}/as-raw"
    run("qemu-img", "check", "-q", "-f", "qcow2", image)
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw)
    return read(raw)
