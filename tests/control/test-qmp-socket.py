#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The control socket as a file: who may connect, and whose file it is."""

import contextlib
import os
import socket
import stat

from fleece import Server, nbdfleece, tmpdir
from qmp_checks import alive
from tap import main, skip, test

DISK = ("--disk", "vda", "memory", "1M")


@test
def only_root_and_the_own_user_may_connect():
    if os.geteuid() != 0:
        skip("needs root, to be somebody else")
    with Server(*DISK) as s:
        assert stat.S_IMODE(os.stat(s.qmp_path).st_mode) == 0o600
        assert stat.S_ISSOCK(os.stat(s.qmp_path).st_mode)
        # The file permits it, and the server asks who the peer is all the same.
        os.chmod(s.dir, 0o755)
        os.chmod(s.qmp_path, 0o666)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgid(65534)
            os.setuid(65534)
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as c:
                c.connect(s.qmp_path)
                os.write(writer, b"refused" if c.recv(100) == b"" else b"greeted")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 100) == b"refused"
        assert "user 65534" in s.log()
        os.close(reader)
        os.close(writer)
        alive(s)


def refused_start(path, *words):
    with tmpdir() as d:
        r = nbdfleece("-f", "-U", os.path.join(d, "nbd"), "-C", path, *DISK, check=False)
    assert r.returncode == 1, r
    assert len(r.stderr.strip().splitlines()) == 1, r.stderr
    for word in words:
        assert word in r.stderr, r.stderr


@test
def a_socket_whose_queue_is_full_is_in_use():
    """Its owner is busy and not gone: the file is not taken away from it."""
    with tmpdir() as d, contextlib.ExitStack() as stack:
        path = os.path.join(d, "qmp")
        owner = stack.enter_context(socket.socket(socket.AF_UNIX))
        owner.bind(path)
        owner.listen(0)
        for _ in range(5):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(path)
            except BlockingIOError:
                break
        else:
            raise AssertionError("the queue does not get full")
        before = os.stat(path)
        refused_start(path, "another process listens on it")
        assert os.path.samestat(os.stat(path), before)


@test
def somebody_elses_file_stays():
    """A server whose socket's file has been replaced by another's does not remove that one."""
    with tmpdir() as d, contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
        with Server(*DISK, dir=d) as s:
            os.rename(s.qmp_path, f"{d}/old")
            other.bind(s.qmp_path)
            s.stop()
            assert os.path.exists(s.qmp_path)


@test
def the_socket_file():
    with tmpdir() as d:
        # a mode of 0600 under any umask
        for umask in 0, 0o077, 0o777:
            with Server(*DISK, dir=d, umask=umask) as s:
                assert stat.S_IMODE(os.stat(s.qmp_path).st_mode) == 0o600, oct(umask)
                alive(s)
                refused_start(s.qmp_path, s.qmp_path, "another process listens on it")
                alive(s)
            assert not os.path.exists(s.qmp_path)
        # a stale one is replaced
        with Server(*DISK, dir=d) as s:
            s.kill()
            assert os.path.exists(s.qmp_path)
            os.unlink(s.socket)
            with Server(*DISK, dir=d) as t:
                alive(t)
        # any other file is not ours to remove
        path = os.path.join(d, "file")
        with open(path, "w") as f:
            f.write("precious")
        refused_start(path, path, "is there already")
        with open(path) as f:
            assert f.read() == "precious"
        os.symlink("file", os.path.join(d, "link"))
        refused_start(os.path.join(d, "link"), "is there already")
        refused_start(os.path.join(d, "none", "c"), "No such file or directory")
        refused_start(os.path.join(d, "c" * 200), "at most 107 bytes")


@test
def the_socket_of_a_successor_stays():
    """A server whose socket was removed and replaced by another's does not remove that at its end."""
    with tmpdir() as d:
        path = os.path.join(d, "qmp")
        with Server(*DISK, "-C", path, control=False) as first:
            os.unlink(path)
            with Server(*DISK, "-C", path, control=False) as second:
                second.qmp_path = path
                first.stop()
                alive(second)


@test
def folders_that_everybody_may_write_are_refused():
    with tmpdir() as d:
        os.chmod(d, 0o777)
        refused_start(os.path.join(d, "c"), d, "everybody may write into the folder")
        assert not os.path.exists(os.path.join(d, "c"))
        os.chmod(d, 0o1777)  # sticky, and ours
        with Server(*DISK, dir=d) as s:
            alive(s)


main()
