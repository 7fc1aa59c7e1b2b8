#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdfuse: an export as a file, for programs that know nothing of NBD."""

import contextlib
import os
import subprocess

from fleece import SOON, die_with_parent, require_program, run, wait_ready
from rig import KIB, MIB, assert_same, content, export_view, file_server, freeze
from tap import main, skip, test


def require_fuse():
    require_program("nbdfuse")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        skip("/dev/fuse is not there, or not for us")
    if os.geteuid() != 0:
        require_program("fusermount3")


def unmount(where):
    run(*(["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]), where)


@contextlib.contextmanager
def mounted(folder, uri, *args):
    """The file that nbdfuse shows an export as."""
    where, fifo = f"{folder}/mnt", f"{folder}/fuse-pid"
    os.mkdir(where)
    os.mkfifo(fifo)
    process = subprocess.Popen(["nbdfuse", "-P", fifo, *args, where, uri],
                               preexec_fn=die_with_parent)
    try:
        try:
            wait_ready(process, fifo, "nbdfuse")
        except RuntimeError as e:
            skip(f"nothing can be mounted here: {e}")
        try:
            yield f"{where}/nbd"
        finally:
            unmount(where)
        assert process.wait(SOON) == 0
    finally:
        process.kill()
        process.wait()
        os.rmdir(where)
        os.unlink(fifo)


@test
def a_disk_as_a_file():
    require_fuse()
    with file_server(8 * MIB, [(0, 64 * KIB), (5 * MIB, MIB)]) as (s, d, model):
        with mounted(d, s.uri("vda")) as path:
            assert os.stat(path).st_size == 8 * MIB
            assert_same(content(path), model)
            with open(path, "r+b", buffering=0) as f:
                f.seek(3 * MIB + 5)
                f.write(b"through a file")
                os.fsync(f.fileno())
            model[3 * MIB + 5:3 * MIB + 19] = b"through a file"
            assert_same(content(path), model)
        assert_same(content(f"{d}/disk"), model)


@test
def a_view_as_a_file_is_read_only():
    require_fuse()
    with file_server(4 * MIB, [(0, 4 * MIB)]) as (s, d, model):
        q = s.qmp()
        freeze(q, "vda", "v")
        export_view(q, "v")
        h = s.nbd("vda")
        h.pwrite(b"later" * 1000, MIB)
        with mounted(d, s.uri("v")) as path:
            assert_same(content(path), model)
            assert os.stat(path).st_mode & 0o222 == 0
        h.shutdown()


main()
