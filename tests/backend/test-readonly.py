#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""An image that cannot be written is exported read-only, and the log says why. Otherwise a guest
would mount its file system, and the first write would fail."""

import os
import subprocess

from fleece import Server, require_program, tmpdir
import loop
from tap import main, skip, test

from rawnbd import Client, EPERM, READ_ONLY, SEND_TRIM, SEND_WRITE_ZEROES, WRITE


def image(folder):
    path = os.path.join(folder, "disk")
    with open(path, "wb") as f:
        f.write(b"data" * 1024)
        f.truncate(1 << 20)
    return path


def check_readonly(path, **server):
    with Server("file", path, **server) as s, Client(s.socket) as c:
        c.go()
        assert c.eflags & READ_ONLY
        assert not c.eflags & (SEND_TRIM | SEND_WRITE_ZEROES)
        assert c.read(0, 4096) == b"data" * 1024
        assert c.do(WRITE, 0, 512) == EPERM
        assert "it is served read-only" in s.log() and path in s.log(), s.log()
    # The log does not say so where the user has asked for it.
    with Server("-r", "file", path, **server) as s, Client(s.socket) as c:
        assert c.go().eflags & READ_ONLY
        assert "served read-only" not in s.log(), s.log()


@test
def a_read_only_device():
    with tmpdir() as folder, loop.device(image(folder), readonly=True) as device:
        check_readonly(device)


@test
def a_device_that_can_be_written_is_not_read_only():
    with tmpdir() as folder, loop.device(image(folder)) as device:
        with Server("file", device) as s, Client(s.socket) as c:
            assert not c.go().eflags & READ_ONLY
            c.write(0, b"x" * 512)
            assert "read-only" not in s.log(), s.log()


@test
def a_read_only_mount():
    unshare = require_program("unshare")
    with tmpdir() as folder:
        path = image(folder)
        prefix = [unshare, "-m", "sh", "-c",
                  'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"', folder]
        if subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL).returncode != 0:
            skip("no right to a mount namespace of one's own")
        check_readonly(path, prefix=prefix)


@test
def an_immutable_file():
    chattr = require_program("chattr")
    with tmpdir() as folder:
        path = image(folder)
        if subprocess.run([chattr, "+i", path], stderr=subprocess.DEVNULL).returncode != 0:
            skip("no right to make a file immutable, or a file system that cannot")
        try:
            check_readonly(path)
        finally:
            subprocess.run([chattr, "-i", path], check=True)


main()
