#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl pull: what it refuses, with which exit code, and that nothing is harmed by it."""

import os

import loop
from fleece import FLEECECTL, Server, fleecectl, run, tmpdir, uri
from pulls import KIB, MIB, assert_equal, contents, pull, refused
from tap import main, test

SIZE = 4 * MIB


def disk(size=SIZE):
    return Server("--disk", "vda", "memory", str(size))


def with_bitmap(s):
    fleecectl("-C", s.qmp_path, "bitmap", "add", "vda", "b")
    return s.uri("vda"), "--bitmap", "b"


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)


@test
def wrong_command_lines():
    live = "nbd://localhost/x"
    for args, why in (
            ((), "too few arguments"),
            ((live,), "where to? -o TARGET"),
            ((live, "-o", "x", "--bitmap", "b", "--context", "c"), "not both"),
            ((live, "-o", "x", "--format", "vmdk"), "raw and qcow2"),
            ((live, "-o", "x", "--compress"), "--compress is for a qcow2 image"),
            ((live, "-o", "-", "--compress"), "--compress is for a qcow2 image"),
            ((live, "-o", "x.qcow2", "--compress=lzma"), "zlib:9"),
            ((live, "-o", "x.qcow2", "--compress=zlib:10"), "zlib:9"),
            ((live, "-o", "x.qcow2", "--compress=0"), "zlib:9"),
            ((live, "-o", "x.qcow2", "--bitmap", "b"), "--base FILE"),
            ((live, "-o", "-", "--bitmap", "b"), "--base FILE"),
            ((live, "-o", "x.qcow2", "--base", "y"), "a copy of all needs none"),
            ((live, "-o", "x", "--format", "raw", "--base", "y", "--bitmap", "b"), "for a qcow2 image"),
            ((live, "-o", "x", "--base-format", "raw"), "goes with --base"),
            ((live, "-o", live, "--format", "qcow2"), "--format raw"),
            ((live, "-o", "x", "--connections", "0"), "from 1 to 16"),
            ((live, "-o", "x", "--retry", "soon"), "from 0 to 86400"),
            ((live, "-o", "x", "--rate-limit", "0"), "not a size above 0"),
            ((live, "-o", "x", "--json", "-o", "-"), "standard output"),
            (("nbd://localhost:99999/x", "-o", "x"), ""),
            (("ssh://h/x", "-o", "x"), "ssh://h/x: not an NBD URI"),
            (("file:///x", "-o", "x"), "file:///x: not an NBD URI"),
            ((live, "-o", "http://h/x"), "http://h/x: not an NBD URI"),
            ((live, "-o", "nbdx://h/x"), "nbdx://h/x: not an NBD URI"),
            (("vda", "-o", "x"), "which server?")):
        with tmpdir() as folder:
            refused(*args, code=2, why=why) if args else refused(code=2, why=why)
            assert os.listdir(folder) == []


@test
def no_server_is_4():
    with tmpdir() as folder:
        refused(uri("vda", unix=f"{folder}/none"), "-o", f"{folder}/x", "--retry", "0", code=4,
                why="pull nbd+unix:")
        result = fleecectl("-C", f"{folder}/none", "pull", "vda", "-o", f"{folder}/x", check=False)
        assert result.returncode == 4, result
        with disk() as s:
            refused(s.uri("vda"), "-o", uri("vda", unix=f"{folder}/none"), "--retry", "0", code=4)
            refused(s.uri("none"), "-o", f"{folder}/x", code=1, why="none")
        assert os.listdir(folder) == [], os.listdir(folder)


@test
def a_file_that_is_there():
    with tmpdir() as folder, disk() as s:
        for name in "a.raw", "a.qcow2":
            target = f"{folder}/{name}"
            put(target, b"precious")
            refused(s.uri("vda"), "-o", target, why="it exists (--force replaces it)")
            assert contents_of(target) == b"precious"
            pull(s.uri("vda"), "-o", target, "--force")
            assert len(contents(target)) == SIZE
        os.makedirs(f"{folder}/repo/vda")
        put(f"{folder}/repo/manifest.json", b'{"format": "nbdfleece-repository"}')
        for name in "repo/manifest.json", "repo/vda/00000-full.qcow2":
            if not os.path.exists(f"{folder}/{name}"):
                put(f"{folder}/{name}", b"precious")
            before = contents_of(f"{folder}/{name}")
            refused(s.uri("vda"), "-o", f"{folder}/{name}", "--force", why="it is in a repository")
            assert contents_of(f"{folder}/{name}") == before
        os.mkdir(f"{folder}/folder")
        os.mkfifo(f"{folder}/fifo")
        os.symlink("nowhere", f"{folder}/dangling")
        for name, why in (("folder", "neither"), ("fifo", "neither"), ("dangling", "it exists"),
                          ("no/such", "No such file")):
            refused(s.uri("vda"), "-o", f"{folder}/{name}", "--format", "raw", why=why)
        refused(s.uri("vda"), "-o", "/dev/null", "--force", why="neither")
        assert sorted(os.listdir(folder)) == ["a.qcow2", "a.raw", "dangling", "fifo", "folder", "repo"]


def contents_of(path):
    with open(path, "rb") as f:
        return f.read()


@test
def changes_that_do_not_fit():
    with tmpdir() as folder, disk() as s:
        source = with_bitmap(s)
        s.nbd("vda").pwrite(b"x" * 512, 0)
        target = f"{folder}/a.raw"
        refused(*source, "-o", target, why="it is not there")
        for size, why in ((SIZE - 512, "--force lets it grow"), (SIZE + 512, "takes the larger")):
            put(target, b"")
            os.truncate(target, size)
            refused(*source, "-o", target, why=why)
            assert contents_of(target) == bytes(size)
            pull(*source, "-o", target, "--force")
            assert_equal(contents_of(target), b"x" * 512 + bytes(max(size, SIZE) - 512))
        run("qemu-img", "create", "-q", "-f", "qcow2", f"{folder}/b.raw", "1G")
        os.truncate(f"{folder}/b.raw", SIZE)
        before = contents_of(f"{folder}/b.raw")
        refused(*source, "-o", f"{folder}/b.raw", why="begins like a qcow2 image")
        assert_equal(contents_of(f"{folder}/b.raw"), before)
        for size, why in ((SIZE - 64 * KIB, "bytes"), (SIZE + 64 * KIB, "takes the larger")):
            with disk(size) as t:
                refused(*source, "-o", t.uri("vda"), why=why)
                assert t.nbd("vda").pread(512, 0) == bytes(512)


@test
def a_device_or_an_export_that_is_too_small():
    with tmpdir() as folder, disk() as s, disk(SIZE - 512) as t:
        refused(s.uri("vda"), "-o", t.uri("vda"), why="the disk has")
        refused(s.uri("vda"), "-o", t.uri("vda"), "--force")
        put(f"{folder}/backing", bytes(SIZE - 64 * KIB))
        with loop.device(f"{folder}/backing") as device:
            for options in (), ("--force",):
                refused(s.uri("vda"), "-o", device, *options, why="the disk has")
            refused(s.uri("vda"), "-o", device, "--format", "qcow2", code=2, why="as a file")


@test
def an_export_that_holds_data_anywhere():
    for offset in 0, SIZE // 2 + 12345, SIZE - 1:
        with disk() as s, disk() as t:
            t.nbd("vda").pwrite(b"d", offset)
            refused(s.uri("vda"), "-o", t.uri("vda"), why="holds data")
            assert t.nbd("vda").pread(1, offset) == b"d"


@test
def bases():
    with tmpdir() as folder, disk() as s:
        source = with_bitmap(s)
        target = f"{folder}/t.qcow2"

        def base(name, *options, why):
            refused(*source, "-o", target, "--base", f"{folder}/{name}", *options, why=why)

        base("none.qcow2", why="No such file")
        put(f"{folder}/text.qcow2", b"hello")
        base("text.qcow2", why="--base-format")
        run("qemu-img", "create", "-q", "-f", "qcow2", f"{folder}/good.qcow2", "4M")
        os.symlink("good.qcow2", f"{folder}/disguised.raw")
        base("disguised.raw", why="which a guest may have written")
        put(f"{folder}/cut.qcow2", contents_of(f"{folder}/good.qcow2")[:100])
        base("cut.qcow2", why="cut.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "good.qcow2", "-F", "qcow2",
            f"{folder}/top.qcow2")
        os.rename(f"{folder}/good.qcow2", f"{folder}/gone.qcow2")
        base("top.qcow2", why="good.qcow2")
        os.rename(f"{folder}/gone.qcow2", f"{folder}/good.qcow2")
        assert not os.path.exists(target)
        # Not onto itself, nor onto one that is below it.
        before = contents_of(f"{folder}/good.qcow2")
        for name in "good.qcow2", "top.qcow2":
            refused(*source, "-o", f"{folder}/good.qcow2", "--base", f"{folder}/{name}", "--force",
                    why="of its own chain")
        assert_equal(contents_of(f"{folder}/good.qcow2"), before)
        pull(*source, "-o", target, "--base", f"{folder}/disguised.raw", "--base-format", "qcow2")
        contents(target)


@test
def a_terminal_takes_no_stream():
    import pty
    with disk() as s:
        leader, follower = pty.openpty()
        try:
            result = __import__("subprocess").run([FLEECECTL, "pull", s.uri("vda"), "-o", "-"], stdout=follower,
                                                  stderr=-1, text=True, timeout=60)
            assert result.returncode == 2 and "terminal" in result.stderr, result
        finally:
            os.close(leader)
            os.close(follower)


main()
