#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl pull: what is dirty, onto images, and into copies in place."""

import json
import os

import loop
from fleece import Server, fleecectl, run, tmpdir
from pulls import (KIB, MIB, Guest, assert_equal, contents, pull, pull_json, read_all, refused,
                   seeded)
from qmp_backup import abort, begin, commit
from tap import main, test

SIZE = 16 * MIB


def disk(size=SIZE):
    return Server("--disk", "vda", "memory", str(size))


class Backups:
    """Sessions of a server whose checkpoints follow each other."""

    def __init__(self, server):
        self.server, self.qmp, self.count = server, server.qmp(), 0

    def begin(self):
        """(URI, bitmap): the next one, since the one before."""
        id = f"b{self.count}"
        more = {"since": f"c{self.count - 1}", "mode": "strict"} if self.count else {}
        d = begin(self.qmp, id, checkpoint=f"c{self.count}", **more)["vda"]
        self.count += 1
        return d["uri"], d["context"].removeprefix("qemu:dirty-bitmap:")

    def end(self, keep=True):
        (commit if keep else abort)(self.qmp, f"b{self.count - 1}")


@test
def a_chain_of_images():
    with tmpdir() as folder, disk() as s:
        guest, backups = Guest(s, "vda", seeded()), Backups(s)
        os.mkdir(f"{folder}/later")
        kept, before = [], None
        for n in range(6):
            guest.write(15)
            state = guest.read()
            uri, bitmap = backups.begin()
            guest.write(3)  # the view does not see it
            # The images are in two folders, and named from a third: they find each other by
            # relative names.
            image = f"later/{n}.qcow2" if n % 2 else f"{n}.qcow2"
            options = ("--bitmap", bitmap, "--base", before) if n else ()
            compress = ("--compress",) if n in (0, 3) else ()
            pull(uri, "-o", image, *options, *compress, cwd=folder)
            backups.end()
            kept.append((image, state))
            before = image
        os.rename(folder, f"{folder}-moved")
        try:
            for image, state in kept:
                assert_equal(contents(f"{folder}-moved/{image}"), state)
                info = json.loads(run("qemu-img", "info", "--output=json", f"{folder}-moved/{image}").stdout)
                if image != "0.qcow2":
                    assert info["backing-filename"].startswith("../" if "/" in image else "later/"), info
                    assert info["backing-filename-format"] == "qcow2", info
        finally:
            os.rename(f"{folder}-moved", folder)


@test
def only_what_is_dirty_is_read():
    with tmpdir() as folder, disk(256 * MIB) as s:
        h, backups = s.nbd("vda"), Backups(s)
        h.pwrite(b"x" * 16 * MIB, 0)
        uri, _ = backups.begin()
        pull(uri, "-o", f"{folder}/0.qcow2")
        backups.end()
        for n in range(10):
            h.pwrite(b"y" * 512, n * 20 * MIB)
        uri, bitmap = backups.begin()
        summary = pull_json(uri, "-o", f"{folder}/1.qcow2", "--bitmap", bitmap, "--base",
                            f"{folder}/0.qcow2")
        assert summary["read"] == 10 * 64 * KIB, summary
        backups.end()
        assert_equal(contents(f"{folder}/1.qcow2"), read_all(h))


@test
def in_place_into_a_raw_file_a_device_and_an_export():
    with tmpdir() as folder, disk() as s, disk() as t:
        guest, backups = Guest(s, "vda", seeded()), Backups(s)
        with open(f"{folder}/backing", "wb") as f:
            f.truncate(SIZE)
        with loop.device(f"{folder}/backing") as device:
            targets = f"{folder}/raw", device, t.uri("vda")
            for n in range(5):
                guest.write(15)
                state = guest.read()
                uri, bitmap = backups.begin()
                guest.write(3)
                for target in targets:
                    pull(uri, "-o", target, *(("--bitmap", bitmap) if n else ()))
                assert_equal(contents(f"{folder}/raw"), state)
                with open(device, "rb") as f:
                    assert_equal(f.read(), state)
                assert_equal(read_all(t.nbd("vda")), state)
                backups.end()
        assert sorted(os.listdir(folder)) == ["backing", "raw"], os.listdir(folder)


@test
def zeroes_over_a_base():
    with tmpdir() as folder, disk() as s:
        h, backups = s.nbd("vda"), Backups(s)
        h.pwrite(b"x" * SIZE, 0)
        uri, _ = backups.begin()
        for name in "a.qcow2", "b.raw":
            pull(uri, "-o", f"{folder}/{name}")
        backups.end()
        h.trim(4 * MIB, 0)
        h.zero(4 * MIB + 512, 8 * MIB - 512)
        h.pwrite(bytes(MIB), 14 * MIB)
        uri, bitmap = backups.begin()
        for options in (), ("--detect-zeroes",):
            pull(uri, "-o", f"{folder}/c.qcow2", "--bitmap", bitmap, "--base", f"{folder}/a.qcow2",
                 "--force", *options)
            pull(uri, "-o", f"{folder}/b.raw", "--bitmap", bitmap, *options)
            assert_equal(contents(f"{folder}/c.qcow2"), read_all(h))
            assert_equal(contents(f"{folder}/b.raw"), read_all(h))
        backups.end()


@test
def a_disk_that_grows_over_its_base():
    with tmpdir() as folder:
        with open(f"{folder}/disk", "wb") as f:
            f.truncate(4 * MIB)
        with Server("--disk", "vda", "file", f"{folder}/disk") as s:
            h, backups = s.nbd("vda"), Backups(s)
            h.pwrite(b"x" * 4 * MIB, 0)
            uri, _ = backups.begin()
            pull(uri, "-o", f"{folder}/0.qcow2")
            pull(uri, "-o", f"{folder}/0.raw")
            backups.end()
            s.qmp().cmd("block_resize", **{"node-name": "vda", "size": 6 * MIB + 512})
            h = s.nbd("vda")
            h.pwrite(b"y" * 512, 6 * MIB)
            h.pwrite(b"z" * 512, 5 * MIB)
            uri, bitmap = backups.begin()
            pull(uri, "-o", f"{folder}/1.qcow2", "--bitmap", bitmap, "--base",
                 f"{folder}/0.qcow2")
            pull(uri, "-o", f"{folder}/1raw.qcow2", "--bitmap", bitmap, "--base",
                 f"{folder}/0.raw")
            refused(uri, "-o", f"{folder}/0.raw", "--bitmap", bitmap, why="--force lets it grow")
            pull(uri, "-o", f"{folder}/0.raw", "--bitmap", bitmap, "--force")
            backups.end()
            for name in "1.qcow2", "1raw.qcow2", "0.raw":
                if name != "1raw.qcow2":  # its base is written to now
                    assert_equal(contents(f"{folder}/{name}"), read_all(h))


@test
def a_stream_of_changes():
    with tmpdir() as folder, disk() as s:
        guest, backups = Guest(s, "vda", seeded()), Backups(s)
        guest.write(15)
        uri, _ = backups.begin()
        pull(uri, "-o", f"{folder}/0.qcow2")
        backups.end()
        guest.write(15)
        uri, bitmap = backups.begin()
        with open(f"{folder}/1.qcow2", "wb") as f:
            process = run("sh", "-c", f'exec "$0" pull "$@" -o - > {folder}/1.qcow2',
                          os.path.join(os.environ["top_builddir"], "fleecectl"), uri, "--bitmap",
                          bitmap, "--base", "0.qcow2", cwd=folder)
        assert process.stderr.startswith("copied "), process
        backups.end()
        assert_equal(contents(f"{folder}/1.qcow2"), guest.read())


@test
def bitmaps_of_a_live_disk():
    with tmpdir() as folder, disk() as s:
        guest = Guest(s, "vda", seeded())
        guest.write(10)
        pull(s.uri("vda"), "-o", f"{folder}/copy")
        fleecectl("-C", s.qmp_path, "bitmap", "add", "vda", "b")
        guest.write(10)
        for context in ("--bitmap", "b"), ("--context", "qemu:dirty-bitmap:b"):
            fleecectl("-C", s.qmp_path, "pull", "vda", *context, "-o", f"{folder}/copy")
            assert_equal(contents(f"{folder}/copy"), guest.read())
            guest.write(1)
        why = refused(s.uri("vda"), "--bitmap", "c", "-o", f"{folder}/copy")
        assert "qemu:dirty-bitmap:b" in why, why
        # Of what is allocated no flag says "dirty": all is copied.
        pull(s.uri("vda"), "--context", "base:allocation", "-o", f"{folder}/all")
        assert_equal(contents(f"{folder}/all"), guest.read())


main()
