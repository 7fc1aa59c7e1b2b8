#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The keys of our file plugin that nbdkit's file plugin has, too: fd, dir, dirfd, cache. They are
tried in our server and in nbdkit itself, and compared with nbdkit's own plugin where its version
has them."""

import contextlib
import os
import re
import socket
import subprocess

import nbd

from fleece import SANITIZER, SOURCE, Server, die_with_parent, nbdfleece, require_plugin
from fleece import require_program, tmpdir, uri, wait_ready
from tap import main, skip, test

import calls
from rawnbd import Client, FLUSH, FUA, READ_ONLY

OURS = os.path.join(os.environ.get("top_builddir", "."), "plugins/file/.libs/nbdkit-file-plugin.so")
MIB = 1 << 20
PAGE = 4096


def write_file(path, data, size=MIB):
    with open(path, "wb") as f:
        f.write(data)
        f.truncate(size)
    return path


@contextlib.contextmanager
def folder_of_files():
    """A folder with two files, a link to a third file elsewhere, and things that are not files."""
    with tmpdir() as top:
        d = os.path.join(top, "disks")
        os.mkdir(d)
        write_file(os.path.join(d, "a"), b"this is a")
        write_file(os.path.join(d, "b.raw"), b"this is b")
        write_file(os.path.join(top, "secret"), b"nobody may read this")
        write_file(os.path.join(top, "linked"), b"this is linked")
        os.symlink("../linked", os.path.join(d, "link"))
        os.symlink("nowhere", os.path.join(d, "dangling"))
        os.mkdir(os.path.join(d, "sub"))
        write_file(os.path.join(d, "sub", "c"), b"this is c")
        os.mkfifo(os.path.join(d, "pipe"))
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(os.path.join(d, "socket"))
            yield d


SERVED = {"a": b"this is a", "b.raw": b"this is b", "link": b"this is linked"}
NOT_SERVED = ("", "c", "sub", "sub/c", "../secret", "..", ".", "a/", "/etc/passwd", "pipe", "socket",
              "dangling", "nothing", "a" * 300)


@contextlib.contextmanager
def inherited(path, flags):
    """A descriptor that children inherit."""
    fd = os.open(path, flags)
    os.set_inheritable(fd, True)
    try:
        yield fd
    finally:
        os.close(fd)


# ---- nbdkit itself ----

def require_nbdkit():
    if SANITIZER != "no":
        skip("nbdkit itself cannot load plugins that were built with a sanitizer")
    return require_program("nbdkit")


def nbdkit(*args, name=""):
    """A connection to nbdkit, which ends with it."""
    h = nbd.NBD()
    h.set_export_name(name)
    h.connect_command([require_nbdkit(), "-s", "--exit-with-parent", *args])
    return h


def nbdkit_exports(*args):
    h = nbd.NBD()
    h.set_opt_mode(True)
    h.connect_command([require_nbdkit(), "-s", "--exit-with-parent", *args])
    names = []
    h.opt_list(lambda name, description: names.append(name))
    h.opt_abort()
    return sorted(names)


def refused(plugin, name, *args):
    try:
        nbdkit(plugin, *args, name=name)
    except nbd.Error:
        return True
    return False


@test
def dir_in_nbdkit_does_what_nbdkits_plugin_does():
    require_plugin("file")
    with folder_of_files() as d:
        assert nbdkit_exports("file", f"dir={d}") == sorted(SERVED)
        assert nbdkit_exports(OURS, f"dir={d}") == sorted(SERVED)
        for plugin in "file", OURS:
            for name, data in SERVED.items():
                assert nbdkit(plugin, f"dir={d}", name=name).pread(len(data), 0) == data
            for name in NOT_SERVED:
                # nbdkit's own plugin waits until somebody writes to the pipe.
                if plugin == OURS or name != "pipe":
                    assert refused(plugin, name, f"dir={d}"), f"{plugin} serves '{name}'"


@test
def dirfd_in_nbdkit():
    with folder_of_files() as d, inherited(d, os.O_RDONLY | os.O_DIRECTORY) as fd:
        assert nbdkit_exports(OURS, f"dirfd={fd}") == sorted(SERVED)
        for name, data in SERVED.items():
            assert nbdkit(OURS, f"dirfd={fd}", name=name).pread(len(data), 0) == data
        for name in NOT_SERVED:
            assert refused(OURS, name, f"dirfd={fd}"), name


@test
def each_file_of_a_folder_is_written_by_its_name():
    with folder_of_files() as d:
        for name in SERVED:
            nbdkit(OURS, f"dir={d}", name=name).pwrite(name.encode().ljust(512), MIB - 512)
        for name in SERVED:
            with open(os.path.join(d, name), "rb") as f:
                assert f.read(len(SERVED[name])) == SERVED[name]
                f.seek(MIB - 512)
                assert f.read() == name.encode().ljust(512)


@test
def clients_of_one_nbdkit_get_what_they_ask_for():
    program = require_nbdkit()
    with folder_of_files() as d, tmpdir() as run:
        fifo = os.path.join(run, "pid")
        os.mkfifo(fifo)
        server = subprocess.Popen([program, "-f", "-U", f"{run}/sock", "-P", fifo, OURS, f"dir={d}"],
                                  preexec_fn=die_with_parent)
        try:
            wait_ready(server, fifo, "nbdkit")
            handles = {}
            for name in (*SERVED, *SERVED):  # two clients for each name, which share an image
                h = nbd.NBD()
                h.connect_uri(uri(name, unix=f"{run}/sock"))
                handles.setdefault(name, []).append(h)
            for name, (a, b) in handles.items():
                assert a.pread(len(SERVED[name]), 0) == SERVED[name]
                a.pwrite(name.encode().ljust(512), 4096)
                assert b.pread(512, 4096) == name.encode().ljust(512)
        finally:
            server.kill()
            server.wait()


@test
def fd_and_cache_in_nbdkit():
    with tmpdir() as d:
        path = write_file(os.path.join(d, "disk"), b"data")
        with inherited(path, os.O_RDWR) as fd:
            h = nbdkit(OURS, f"fd={fd}", "cache=none", "fadvise=sequential")
            assert h.get_size() == MIB and not h.is_read_only()
            h.pwrite(b"x" * 512, 1024)
            h.flush()
            assert h.pread(4, 0) == b"data" and h.pread(512, 1024) == b"x" * 512
            del h  # this ends its nbdkit, which had locked the file as a writer
        with inherited(path, os.O_RDONLY) as fd:
            assert nbdkit(OURS, f"fd={fd}").is_read_only()
        assert nbdkit_exports(OURS, f"file={path}") == [""]


# ---- our server ----

@test
def the_disks_name_picks_the_file():
    with folder_of_files() as d, inherited(d, os.O_RDONLY) as fd:
        with Server("--disk", "a", "file", f"dir={d}", "--disk", "b.raw", "file", f"dirfd={fd}",
                    "--disk", "link", "file", f"dir={d}", pass_fds=[fd]) as s:
            for name, data in SERVED.items():
                h = s.nbd(name)
                assert h.pread(len(data), 0) == data
                h.pwrite(name.encode().ljust(512), 4096)
                h.flush()
        for name in SERVED:
            with open(os.path.join(d, name), "rb") as f:
                f.seek(4096)
                assert f.read(512) == name.encode().ljust(512)


@test
def a_disk_that_is_no_file_of_the_folder_is_refused():
    with folder_of_files() as d:
        for name in NOT_SERVED[1:]:
            result = nbdfleece("-f", "-U", "-", "--disk", name, "file", f"dir={d}", check=False)
            assert result.returncode != 0, name
            # Where no disk may have such a name, a second line says how to get help with options.
            assert len(result.stderr.splitlines()) == 1 + ("option '--disk'" in result.stderr)
        result = nbdfleece("-f", "-U", "-", "file", f"dir={d}", check=False)
        assert f"{d}/disk0: No such file or directory" in result.stderr, result.stderr
        assert "the name of the disk" in result.stderr, result.stderr
        for folder in d + "/nothing", d + "/a":
            result = nbdfleece("-f", "-U", "-", "--disk", "a", "file", f"dir={folder}", check=False)
            assert result.returncode != 0 and f"dir={folder}" in result.stderr, result.stderr


@test
def an_inherited_descriptor_is_the_disk():
    with tmpdir() as d:
        path = write_file(os.path.join(d, "disk"), b"data")
        with inherited(path, os.O_RDWR) as fd:
            os.unlink(path)  # it has no name any more
            with Server("file", f"fd={fd}", pass_fds=[fd]) as s, Client(s.socket) as c:
                assert not c.go().eflags & READ_ONLY
                assert c.read(0, 4) == b"data"
                c.write(PAGE, b"x" * PAGE, FUA)
                s.qmp().cmd("block_resize", **{"node-name": "disk0", "size": 2 * MIB})
            assert os.pread(fd, PAGE, PAGE) == b"x" * PAGE
            assert os.fstat(fd).st_size == 2 * MIB


@test
def a_descriptor_is_served_as_it_is_open():
    with tmpdir() as d:
        path = write_file(os.path.join(d, "disk"), b"data")
        with inherited(path, os.O_RDONLY) as fd:
            with Server("file", f"fd={fd}", pass_fds=[fd]) as s, Client(s.socket) as c:
                assert c.go().eflags & READ_ONLY
                assert c.read(0, 4) == b"data"
        with inherited(path, os.O_RDWR) as fd:
            with Server("-r", "file", f"fd={fd}", pass_fds=[fd]) as s, Client(s.socket) as c:
                assert c.go().eflags & READ_ONLY
        for flags, why in ((os.O_RDWR | os.O_APPEND, "appending"), (os.O_WRONLY, "reading"),
                           (os.O_PATH, "O_PATH")):
            with inherited(path, flags) as fd:
                result = nbdfleece("-f", "-U", "-", "file", f"fd={fd}", pass_fds=[fd], check=False)
                assert result.returncode != 0 and why in result.stderr, result.stderr


@test
def descriptors_that_cannot_be_a_disk_are_refused():
    with tmpdir() as d:
        a, b = os.pipe()
        rows = [(a, "neither a regular file nor a block device"), (1, "must be above 2"),
                (-5, "must be above 2"), (700, "no open file"), ("x", "fd"), (1 << 40, "fd")]
        for fd, why in rows:
            result = nbdfleece("-f", "-U", "-", "file", f"fd={fd}", pass_fds=[a], check=False)
            assert result.returncode != 0 and why in result.stderr, result.stderr
        os.close(a)
        os.close(b)
        path = write_file(os.path.join(d, "disk"), b"data")
        # A descriptor that the server has opened by itself is not taken. Some of these are regular
        # files: the copy of the plugin for the second disk is one.
        for fd in range(3, 12):
            result = nbdfleece("-U", "-", "--disk", "a", "file", path, "--disk", "b", "file",
                               f"fd={fd}", "--run", "true", check=False)
            assert "no open file was inherited" in result.stderr, (fd, result.stderr)
        with inherited(path, os.O_RDWR) as fd:
            result = nbdfleece("-f", "-U", "-", "--disk", "a", "file", f"dirfd={fd}",
                               pass_fds=[fd], check=False)
            assert f"dirfd={fd}: Not a directory" in result.stderr, result.stderr


@test
def a_descriptor_is_not_handed_on():
    with tmpdir() as d:
        path = write_file(os.path.join(d, "disk"), b"data")
        with inherited(path, os.O_RDWR) as fd:
            result = nbdfleece("-U", "-", "file", f"fd={fd}", "--run", "ls -l /proc/self/fd",
                               pass_fds=[fd])
            assert "->" in result.stdout and path not in result.stdout, result.stdout


@test
def the_manuals_example_of_a_key_file():
    require_plugin("memory")
    with open(os.path.join(SOURCE, "man/nbdfleece.pod")) as f:
        example = re.search(r"Take options and disks from a key file:\n\n((?: .*\n|\n)*?)(?=\w)",
                            f.read())[1]
    with tmpdir() as d:
        path = write_file(os.path.join(d, "vda.raw"), b"data")
        config = os.path.join(d, "config")
        text = "\n".join(line[1:] for line in example.splitlines())
        assert "plugin = file" in text and "vda.raw" in text and "unix = " in text, text
        text = re.sub("(?m)^unix = .*$", f"unix = {d}/sock", text).replace("vda.raw", path)
        with open(config, "w") as f:
            f.write(text)
        with Server("--config", config, unix=False):
            with Client(f"{d}/sock") as c:
                assert c.go("vda").size == MIB
                assert c.read(0, 4) == b"data"


# ---- cache ----

@contextlib.contextmanager
def serve(*keys):
    with tmpdir() as d:
        path = write_file(os.path.join(d, "disk"), b"data" * MIB, 4 * MIB)
        with calls.server(path, "file", path, *keys) as (s, seen), Client(s.socket) as c:
            c.go()
            seen()
            yield c, seen


def dropped(seen):
    """The ranges that were dropped from the page cache."""
    return [(c.offset, c.offset + c.length) for c in seen
            if c.name == "fadvise" and c.flags == calls.DONTNEED]


@test
def cache_none_drops_what_was_read():
    with serve("cache=none") as (c, seen):
        c.read(PAGE, 2 * PAGE)
        assert dropped(seen()) == [(PAGE, 3 * PAGE)]
        # Whole pages are dropped: otherwise the last page of each request would stay.
        c.read(100, 50)
        assert dropped(seen()) == [(0, PAGE)]
    for keys in (), ("cache=default",):
        with serve(*keys) as (c, seen):
            c.read(PAGE, 2 * PAGE)
            assert dropped(seen()) == []


@test
def cache_none_drops_what_was_written():
    with serve("cache=none") as (c, seen):
        for i in range(12):
            c.write(i * MIB // 4, b"x" * PAGE)
        notes = seen()
        # The plugin lets the kernel begin to write each of the twelve at once. When eight are under
        # way it waits for the oldest: so the first four have been waited for, and dropped.
        assert len([n for n in notes if n.name == "sync_file_range"]) == 12 + 4
        assert dropped(notes) == [(i * MIB // 4, i * MIB // 4 + PAGE) for i in range(4)]
        assert c.do(FLUSH) == 0
        assert sorted(dropped(seen())) == [(i * MIB // 4, i * MIB // 4 + PAGE)
                                           for i in range(4, 12)]
        c.write(0, b"y" * PAGE, FUA)
        notes = seen()
        assert dropped(notes) == [(0, PAGE)] and "sync_file_range" not in [n.name for n in notes]
        assert c.read(0, PAGE) == b"y" * PAGE and c.read(MIB, PAGE) == b"x" * PAGE
    with serve("cache=default") as (c, seen):
        for i in range(12):
            c.write(i * PAGE, b"x" * PAGE)
        names = {n.name for n in seen()}
        assert names and names <= {"pwrite", "pwritev2"}, names


main()
