#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The keys of our qcow2 plugin, in our server and in nbdkit itself: which are taken, which are refused and
why, which files an image may name."""

import os
import re

import nbd

import qcow2_images as images
from fleece import BUILD, SANITIZER, SOURCE, Server, nbdfleece, require_program, run, tmpdir
from rig import MIB
from tap import main, skip, test

OURS = f"{BUILD}/plugins/qcow2/.libs/nbdkit-qcow2-plugin.so"


def refused(why, *words):
    r = nbdfleece("-f", "-U", "-", "qcow2", *words, check=False)
    assert r.returncode != 0 and why in r.stderr, (words, r.stderr)


def starts(*words, reads=None):
    with Server("qcow2", *words) as s:
        h = s.nbd("disk0")
        assert reads is None or h.pread(len(reads), 0) == reads, h.pread(16, 0)


@test
def values_are_checked():
    images.require_qemu()
    with tmpdir() as d:
        path = f"{d}/vm.qcow2"
        images.create(path, MIB)
        for words, why in ((["nosuch=1"], "unknown key 'nosuch'"),
                           (["direct=true"], "unknown key 'direct'"),
                           ([f"file={path}"], "file is given already"),
                           (["locking=maybe"], "maybe"),
                           (["l2-cache=1000"], "l2-cache=1000: must be at least 1M"),
                           (["l2-cache=much"], "much"),
                           (["references=some"], "references=some: not one of folder, any, none"),
                           (["backing-format=vmdk"], "backing-format=vmdk: not one of raw, qcow2"),
                           (["references=any", f"allow={d}"], "goes with references=folder only"),
                           (["snapshot=7"], "7")):
            refused(why, path, *words)
        refused("file=FILE is missing")
        refused("No such file", f"{d}/nothing")
        starts(path, "l2-cache=2M", "locking=false", f"allow={d}", "allow=/tmp")


@test
def what_is_not_qcow2_is_refused():
    with tmpdir() as d:
        for name, data in ("empty", b""), ("zeroes", bytes(MIB)), ("text", b"not an image\n" * 1000):
            with open(f"{d}/{name}", "wb") as f:
                f.write(data)
            refused(f"{d}/{name}", f"{d}/{name}")
        refused(d, d)
        os.mkfifo(f"{d}/fifo")
        refused("fifo", f"{d}/fifo")


@test
def files_that_an_image_names():
    images.require_qemu()
    with tmpdir() as d:
        os.mkdir(f"{d}/bases")
        os.mkdir(f"{d}/disks")
        base, path = f"{d}/bases/base.raw", f"{d}/disks/vm.qcow2"
        with open(base, "wb") as f:
            f.write(b"base" * (MIB // 4))
        images.create(path, MIB, backing=("../bases/base.raw", "raw"))
        refused("base.raw", path)
        starts(path, f"allow={d}/bases", reads=b"base")
        starts(path, "allow=/usr", f"allow={d}", reads=b"base")
        refused("/nowhere", path, "allow=/nowhere")
        starts(path, "references=any", reads=b"base")
        refused("may not name any", path, "references=none")
        starts(path, "references=none", f"backing={base}", reads=b"base")
        starts(path, f"backing={base}", reads=b"base")
        os.symlink(base, f"{d}/disks/link")
        run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "link", path)
        refused("link", path)
        # A copy in the image's folder needs no key.
        run("cp", base, f"{d}/disks/base.raw")
        run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "base.raw", path)
        starts(path, reads=b"base")


@test
def a_format_that_is_not_stated_is_not_guessed():
    images.require_qemu()
    with tmpdir() as d:
        base, path = f"{d}/base.qcow2", f"{d}/vm.qcow2"
        images.create(base, MIB)
        run("qemu-io", "-f", "qcow2", "-c", "write -P 66 0 64k", base)
        images.create(path, MIB, backing=(base, "qcow2"))
        # An image as older QEMUs made it: without the extension that has the format.
        with open(path, "r+b") as f:
            head = bytearray(f.read(4096))
            at = head.index(bytes.fromhex("e2792aca"))
            head[at:at + 4] = b"\x12\x34\x56\x78"  # one that nobody knows
            f.seek(0)
            f.write(head)
        refused("format", path)
        starts(path, "backing-format=qcow2", reads=b"B" * 4)


@test
def an_image_that_may_only_be_read_is_served_so():
    images.require_qemu()
    if os.getuid() == 0:
        skip("root may write everything")
    with tmpdir() as d:
        path = f"{d}/vm.qcow2"
        images.create(path, MIB)
        os.chmod(path, 0o444)
        with Server("qcow2", path) as s:
            assert s.nbd("disk0").is_read_only()
            assert "it is served read-only" in s.log()


@test
def it_runs_in_nbdkit_itself():
    images.require_qemu()
    if SANITIZER != "no":
        skip("nbdkit itself cannot load plugins that were built with a sanitizer")
    with tmpdir() as d:
        path = f"{d}/vm.qcow2"
        images.overlay(path, 4 * MIB)
        h = nbd.NBD()
        h.connect_command([require_program("nbdkit"), "-s", "--exit-with-parent", OURS, path])
        before = h.pread(MIB, 0)
        assert not h.is_read_only() and h.can_multi_conn() and h.can_fast_zero()
        h.pwrite(b"x" * 100_000, 70_000)
        h.zero(MIB, 2 * MIB)
        h.trim(MIB, 3 * MIB)
        h.flush()
        assert h.pread(100_000, 70_000) == b"x" * 100_000 and h.pread(MIB, 2 * MIB) == bytes(MIB)
        h.shutdown()
        del h
        expected = before[:70_000] + b"x" * 100_000 + before[170_000:]
        images.check(path, leaks=True)
        assert images.content(path)[:MIB] == expected


@test
def help_has_every_key_and_the_manual_too():
    shown = nbdfleece("--help", "qcow2").stdout
    keys = set(re.findall(r"(?m)^\[?([a-z0-9-]+)=", shown[shown.index("file="):]
                          .replace("[file=]", "file=")))
    with open(f"{SOURCE}/plugins/qcow2/settings.c") as f:
        known = set(re.findall(r'strcmp\(key, "([a-z0-9-]+)"\)', f.read()))
    with open(f"{SOURCE}/man/nbdfleece-plugins.pod") as f:
        text = f.read()
    section = text[text.index("=head1 THE QCOW2 PLUGIN"):text.index("=head1 WRITING PLUGINS")]
    documented = set(re.findall(r"(?m)^=item \[?B<([a-z0-9-]+)=>", section))
    assert known == documented, known ^ documented
    assert known <= keys | {"file"}, known - keys


main()
