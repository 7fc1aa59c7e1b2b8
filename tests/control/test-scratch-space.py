#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Bugs that reviewers found in the use of scratch space. Each test shows one of them."""

import os
import shutil
import subprocess

from fleece import Server
from tap import main, skip, test

MIB = 1 << 20

# Mounts a new file system at $1 and runs the other words as a command.
IN_SMALL_FS = 'mount -t tmpfs -o size=64m scratch "$1" && shift && exec "$@"'


def small_fs(folder):
    """The beginning of a command line. What runs after it sees a file system of 64 MiB at `folder`;
    nobody else does."""
    if shutil.which("unshare") is None:
        skip("there is no unshare(1)")
    command = ["unshare", "--map-root-user", "--mount", "--", "sh", "-c", IN_SMALL_FS, "sh", folder]
    if subprocess.run(command + ["true"], capture_output=True).returncode != 0:
        skip("mounting in a namespace of our own is not allowed here")
    return command


@test
def freed_space_is_not_taken_back_when_the_file_system_has_become_full():
    """A client trims a view, and somebody else fills the space that this has freed. The last 5 % of
    the file system stay free nevertheless."""
    folder = os.path.realpath(os.environ.get("TMPDIR", "/tmp"))
    folder = os.path.join(folder, f"fleece-small-{os.getpid()}")
    os.mkdir(folder)
    try:
        with Server("--disk", "vda", "memory", "64M", "--scratch", folder,
                    prefix=small_fs(folder)) as s:
            inside = f"/proc/{s.pid}/root{folder}"
            q = s.qmp()
            guest = s.nbd("vda")
            for i in range(48):
                guest.pwrite(b"a" * MIB, i * MIB)
            q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": s.path("other")}})
            q.cmd("view-create", disk="vda", name="v")
            q.cmd("block-export-add", type="nbd", id="v", discard=True, **{"node-name": "v"})
            for i in range(24):
                guest.pwrite(b"b" * MIB, i * MIB)
            s.nbd("v").trim(23 * MIB, 0)

            whole = os.statvfs(inside)
            spare = whole.f_blocks * whole.f_frsize // 20
            room = whole.f_bavail * whole.f_frsize
            with open(f"{inside}/other", "wb") as f:
                os.posix_fallocate(f.fileno(), 0, room - spare - MIB)
            for i in range(24, 48):
                guest.pwrite(b"c" * MIB, i * MIB)
            now = os.statvfs(inside)
            assert now.f_bavail * now.f_frsize >= spare, (now.f_bavail * now.f_frsize, spare)
            assert "5 %" in q.wait_event("VIEW_BROKEN")["data"]["reason"]
    finally:
        os.rmdir(folder)


main()
