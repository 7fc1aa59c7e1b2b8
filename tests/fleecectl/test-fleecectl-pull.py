#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl pull: all of a disk, into each kind of target."""

import json
import os
import subprocess

import loop
from fleece import FLEECECTL, SOON, Server, die_with_parent, fleecectl, run, tmpdir
from pulls import (KIB, MIB, Guest, allocated, assert_equal, contents, pull, pull_json, read_all,
                   seeded)
from tap import main, test

SIZE = 16 * MIB


def disk(size=SIZE):
    return Server("--disk", "vda", "memory", str(size))


def file_disk(folder):
    """A server of a disk in a sparse file."""
    with open(f"{folder}/disk", "wb") as f:
        f.truncate(SIZE)
    return Server("--disk", "vda", "file", f"{folder}/disk")


@test
def into_a_raw_file():
    with tmpdir() as folder, disk() as s:
        guest = Guest(s, "vda", seeded())
        guest.write(20)
        target = f"{folder}/vda.raw"
        summary = pull_json(s.uri("vda"), "-o", target)
        assert_equal(contents(target), guest.read())
        assert os.listdir(folder) == ["vda.raw"], os.listdir(folder)
        assert summary["size"] == SIZE and summary["format"] == "raw", summary
        assert summary["read"] == summary["written"], summary
        assert summary["read"] + summary["zero"] == SIZE, summary
        assert summary["resumed"] == 0 and summary["seconds"] > 0, summary
        assert len(str(summary["seconds"]).partition(".")[2]) <= 3, summary


@test
def into_a_qcow2_image():
    with tmpdir() as folder, disk() as s:
        guest = Guest(s, "vda", seeded())
        guest.write(20)
        for name, options in (("a.qcow2", ()), ("b.qcow2", ("--compress",)),
                              ("c.qcow2", ("--compress=zlib:9",)), ("d.qcow2", ("--compress=3",)),
                              ("e.qcow2", ("--detect-zeroes",)),
                              ("f", ("--format", "qcow2"))):
            summary = pull_json(s.uri("vda"), "-o", f"{folder}/{name}", *options)
            assert summary["format"] == "qcow2", summary
            os.rename(f"{folder}/{name}", f"{folder}/x.qcow2")
            assert_equal(contents(f"{folder}/x.qcow2"), guest.read())
            info = json.loads(run("qemu-img", "info", "--output=json", f"{folder}/x.qcow2").stdout)
            assert info["virtual-size"] == SIZE, info
            compression = info["format-specific"]["data"]["compression-type"]
            assert compression == ("zstd" if name in ("b.qcow2", "d.qcow2") else "zlib"), info
        assert os.listdir(folder) == ["x.qcow2"], os.listdir(folder)


@test
def compression_makes_it_small():
    with tmpdir() as folder, disk() as s:
        s.nbd("vda").pwrite(b"all the same " * 80000, 0)
        for name, options in ("plain", ()), ("zstd", ("--compress",)), ("zlib", ("--compress=zlib",)):
            pull(s.uri("vda"), "-o", f"{folder}/{name}.qcow2", *options)
        plain, zstd, zlib = (os.path.getsize(f"{folder}/{n}.qcow2") for n in ("plain", "zstd", "zlib"))
        assert plain > 1000 * KIB > 600 * KIB > zstd and zlib < 600 * KIB, (plain, zstd, zlib)


@test
def holes_stay_holes():
    with tmpdir() as folder, disk(1024 * MIB) as s:
        s.nbd("vda").pwrite(b"x" * 65536, 700 * MIB)
        for name in "a.raw", "a.qcow2":
            summary = pull_json(s.uri("vda"), "-o", f"{folder}/{name}")
            assert summary["read"] <= MIB, summary
            assert allocated(f"{folder}/{name}") <= 2 * MIB, name
        assert os.path.getsize(f"{folder}/a.raw") == 1024 * MIB


@test
def zeroes_become_holes_by_choice():
    with tmpdir() as folder, file_disk(folder) as s:
        h = s.nbd("vda")
        h.pwrite(bytes(8 * MIB), 0)  # data, for the file system
        h.pwrite(b"x" * 4096, 4 * MIB)
        for name in "raw", "qcow2":
            plain, detected = f"{folder}/plain.{name}", f"{folder}/detected.{name}"
            summary = pull_json(s.uri("vda"), "-o", plain)
            found = pull_json(s.uri("vda"), "-o", detected, "--detect-zeroes")
            assert summary["written"] >= 8 * MIB, summary
            assert found["read"] == summary["read"] and found["written"] <= 64 * KIB, found
            assert allocated(plain) >= 8 * MIB and allocated(detected) <= MIB
            assert_equal(contents(plain), contents(detected))


@test
def into_an_empty_file_and_through_a_link():
    with tmpdir() as folder, disk() as s:
        Guest(s, "vda").write(3)
        open(f"{folder}/empty", "w").close()
        pull(s.uri("vda"), "-o", f"{folder}/empty")
        os.mkdir(f"{folder}/sub")
        with open(f"{folder}/sub/old", "w") as f:
            f.write("old")
        os.symlink("sub/old", f"{folder}/link")
        pull(s.uri("vda"), "-o", f"{folder}/link", "--force")
        assert os.readlink(f"{folder}/link") == "sub/old"
        assert_equal(contents(f"{folder}/sub/old"), contents(f"{folder}/empty"))


@test
def into_a_block_device():
    with tmpdir() as folder, disk() as s:
        guest = Guest(s, "vda", seeded())
        guest.write(20)
        with open(f"{folder}/backing", "wb") as f:
            f.truncate(SIZE + 4 * MIB)
        with loop.device(f"{folder}/backing") as device:
            pull(s.uri("vda"), "-o", device)
            with open(device, "rb") as f:
                assert_equal(f.read()[:SIZE], guest.read())
            # It holds data now.
            result = pull(s.uri("vda"), "-o", device, check=False)
            assert result.returncode == 1 and "holds data" in result.stderr, result
            # What was there does not show through where the disk is empty.
            guest.nbd.trim(8 * MIB, 0)
            guest.write(2)
            pull(s.uri("vda"), "-o", device, "--force")
            with open(device, "rb") as f:
                assert_equal(f.read()[:SIZE], guest.read())


@test
def into_another_export():
    with disk() as s, disk() as t:
        guest = Guest(s, "vda", seeded())
        guest.write(20)
        pull(s.uri("vda"), "-o", t.uri("vda"))
        assert_equal(read_all(t.nbd("vda")), guest.read())
        result = pull(s.uri("vda"), "-o", t.uri("vda"), check=False)
        assert result.returncode == 1 and "holds data" in result.stderr, result
        guest.nbd.trim(8 * MIB, 0)
        guest.write(2)
        pull(s.uri("vda"), "-o", t.uri("vda"), "--force")
        assert_equal(read_all(t.nbd("vda")), guest.read())


def stream(*args):
    """What it writes to standard output, and the errors."""
    result = subprocess.run([FLEECECTL, "pull", *args, "-o", "-"], stdin=subprocess.DEVNULL,
                            capture_output=True, timeout=SOON, preexec_fn=die_with_parent)
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr.decode()


@test
def into_a_stream():
    with tmpdir() as folder, disk(SIZE + 512) as s:
        guest = Guest(s, "vda", seeded())
        guest.write(20)
        guest.nbd.pwrite(b"the end" + bytes(505), SIZE)
        raw, text = stream(s.uri("vda"), "--format", "raw")
        assert_equal(raw, guest.read())
        assert text.startswith("copied ") and len(text.splitlines()) == 1, text
        image, text = stream(s.uri("vda"))
        assert text.startswith("copied "), text
        assert len(image) < len(raw), (len(image), len(raw))
        with open(f"{folder}/a.qcow2", "wb") as f:
            f.write(image)
        assert_equal(contents(f"{folder}/a.qcow2"), guest.read())


@test
def the_summary():
    with tmpdir() as folder, disk() as s:
        s.nbd("vda").pwrite(b"x" * MIB, MIB)
        text = pull(s.uri("vda"), "-o", f"{folder}/a").stdout
        assert text.startswith("copied 1 MiB of 16 MiB in ") and text.endswith("/s\n"), text
        lines = fleecectl("--json", "pull", s.uri("vda"), "-o", f"{folder}/b").stdout.splitlines()
        progress = [json.loads(line)["progress"] for line in lines[:-1]]
        assert progress[-1]["state"] == "done" and progress[-1]["read"] == MIB, progress
        summary = json.loads(lines[-1])
        assert summary["read"] == MIB and summary["name"] == progress[0]["name"] == "vda", lines


@test
def a_disk_by_its_name():
    with tmpdir() as folder, disk() as s:
        guest = Guest(s, "vda", seeded())
        guest.write(5)
        fleecectl("-C", s.qmp_path, "pull", "vda", "-o", f"{folder}/a")
        assert_equal(contents(f"{folder}/a"), guest.read())
        fleecectl("-C", s.qmp_path, "view", "create", "vda", "v")
        for name, why in ("none", "none"), ("v", "it is a view: export it first"):
            result = fleecectl("-C", s.qmp_path, "pull", name, "-o", f"{folder}/b", check=False)
            assert result.returncode == 1 and why in result.stderr, result
        assert os.listdir(folder) == ["a"]


@test
def a_disk_of_no_bytes_and_of_odd_sizes():
    for size in 0, 512, 64 * KIB - 512, MIB + 512:
        with tmpdir() as folder, disk(size) as s:
            guest = Guest(s, "vda")
            if size:
                guest.nbd.pwrite(b"z" * size, 0)
            for name in "a.raw", "a.qcow2":
                pull(s.uri("vda"), "-o", f"{folder}/{name}")
                assert_equal(contents(f"{folder}/{name}"), guest.read())


@test
def a_limited_rate():
    with tmpdir() as folder, disk() as s:
        s.nbd("vda").pwrite(b"x" * SIZE, 0)
        for connections in "1", "8":
            summary = pull_json(s.uri("vda"), "-o", f"{folder}/{connections}", "--rate-limit", "16M",
                                "--connections", connections)
            # The last piece, of a sixteenth of a second, begins after the others.
            assert summary["read"] == SIZE and summary["seconds"] > 0.8, summary


@test
def several_connections_and_one():
    with tmpdir() as folder, disk(64 * MIB) as s:
        guest = Guest(s, "vda", seeded())
        guest.write(100)
        for n in "1", "2", "16":
            pull(s.uri("vda"), "-o", f"{folder}/{n}", "--connections", n)
            assert_equal(contents(f"{folder}/{n}"), guest.read())


main()
