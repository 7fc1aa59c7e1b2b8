#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl image create and info, beside qemu-img."""

import json
import os

from fleece import fleecectl, require_program, run, tmpdir
from tap import main, test

K, M, G = 1 << 10, 1 << 20, 1 << 30


def qemu_img(*args, **popen):
    require_program("qemu-img")
    return run("qemu-img", *args, **popen).stdout


def create(*args):
    return fleecectl("image", "create", *args).stdout


def refused(*args, code=1):
    """What it says, of a command that fails."""
    result = fleecectl("image", *args, check=False)
    assert result.returncode == code and result.stdout == "", result
    assert result.stderr.startswith("fleecectl: ") and result.stderr.count("\n") == 1, result
    return result.stderr


def info(path, *args, **popen):
    """What ours says, which is what qemu-img says, as far as that goes."""
    ours = json.loads(fleecectl("--json", "image", "info", path, *args).stdout)
    theirs = json.loads(qemu_img("info", "-U", "--output=json", path, *args, **popen))
    for o, t in zip(ours, theirs, strict=True) if args else [(ours, theirs)]:
        compare(o, t)
    return ours


def compare(ours, theirs):
    assert set(theirs) <= set(ours) | {"children"}, (ours, theirs)
    assert ours["format"] == theirs["format"], (ours, theirs)
    for name in set(ours) & set(theirs) - {"filename", "full-backing-filename"}:
        if name == "snapshots":
            for o, t in zip(ours[name], theirs[name], strict=True):
                assert o.pop("virtual-size") > 0
                assert o == t, (o, t)
        elif name != "format-specific" or ours["format"] == "qcow2":
            assert ours[name] == theirs[name], (name, ours[name], theirs[name])


@test
def a_plain_image():
    with tmpdir() as top:
        path = f"{top}/a.qcow2"
        assert create(path, "10G") == f"{path}: a disk of 10 GiB, in clusters of 64 KiB\n"
        qemu_img("check", "-q", path)
        said = info(path)
        assert said["virtual-size"] == 10 * G and said["cluster-size"] == 64 * K, said
        assert said["format-specific"]["data"]["refcount-bits"] == 16, said
        assert said["actual-size"] < 64 * K, said
        assert os.listdir(top) == ["a.qcow2"]
        lines = fleecectl("image", "info", path).stdout.splitlines()
        assert lines[0].split() == ["file", path] and lines[1].split() == ["format", "qcow2"], lines
        assert lines[2] == "disk         10 GiB (10737418240 bytes)", lines
        assert lines[4].split(maxsplit=1)[1] == \
            "version 3, clusters of 64 KiB, counts of 16 bits, zlib", lines


@test
def all_options():
    """Each image has what was asked for, takes writes, and is clean."""
    with tmpdir() as top:
        number = 0
        for size in "512", "2M", "64K":
            for extended in "on", "off":
                for how in "off", "metadata", "falloc":
                    path = f"{top}/{number}.qcow2"
                    bits = 1 << number % 7
                    number += 1
                    if size == "512" and extended == "on":
                        assert "16 KiB" in refused("create", path, "5M", "--cluster-size", size,
                                                   "--extended-l2", code=2)
                        continue
                    create(path, "5M", "--cluster-size", size, f"--extended-l2={extended}",
                           "--preallocation", how, "--refcount-bits", str(bits))
                    data = info(path)["format-specific"]["data"]
                    assert data["refcount-bits"] == bits, data
                    assert data["extended-l2"] == (extended == "on"), data
                    qemu_img("check", "-q", path)
                    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 1M 100k", path)
                    qemu_img("check", "-q", path)


@test
def over_a_backing_file():
    """The name is as it was given, relative to the image; the size is that of the backing file."""
    with tmpdir() as top:
        os.mkdir(f"{top}/sub")
        create(f"{top}/base.qcow2", "3M")
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 1M 100k", f"{top}/base.qcow2")
        create(f"{top}/sub/top.qcow2", "--backing", "../base.qcow2", "--backing-format", "qcow2")
        said = info(f"{top}/sub/top.qcow2")
        assert said["virtual-size"] == 3 * M and said["cluster-size"] == 128 * K, said
        assert said["format-specific"]["data"]["extended-l2"], said
        assert said["backing-filename"] == "../base.qcow2", said
        assert said["backing-filename-format"] == "qcow2", said
        run("qemu-io", "-f", "qcow2", "-c", "read -q -P 7 1M 100k", f"{top}/sub/top.qcow2")
        chain = info(f"{top}/sub/top.qcow2", "--backing-chain")
        assert [image["virtual-size"] for image in chain] == [3 * M, 3 * M], chain
        text = fleecectl("image", "info", "--backing-chain", f"{top}/sub/top.qcow2").stdout
        assert text.count("disk         3 MiB") == 2, text
        # A raw one, of an odd length; a size of its own; no subclusters.
        with open(f"{top}/raw", "wb") as f:
            f.write(b"r" * 1000)
        create(f"{top}/b.qcow2", "--backing", "raw", "--backing-format", "raw")
        assert info(f"{top}/b.qcow2")["virtual-size"] == 1024
        with open(f"{top}/raw", "ab") as f:
            f.write(b"r" * 24)
        create(f"{top}/c.qcow2", "1M", "--backing", f"{top}/raw", "--backing-format", "raw",
               "--extended-l2=off")
        said = info(f"{top}/c.qcow2", "--backing-chain")
        assert said[0]["cluster-size"] == 64 * K and said[1]["format"] == "raw", said
        create(f"{top}/d.qcow2", "--backing", "raw", "--backing-format", "raw",
               "--cluster-size", "4K")
        assert not info(f"{top}/d.qcow2")["format-specific"]["data"]["extended-l2"]


@test
def backing_files_that_are_refused():
    with tmpdir() as top:
        path = f"{top}/a.qcow2"
        with open(f"{top}/raw", "wb") as f:
            f.write(b"r" * 4096)
        for words, code, why in (
                (("--backing", "raw"), 2, "has to be stated"),
                (("--backing", "raw", "--backing-format", "vmdk"), 2, "raw or qcow2"),
                (("--backing-format", "raw"), 2, "goes with --backing"),
                (("--backing", "none", "--backing-format", "raw"), 1, "No such file"),
                (("--backing", "raw", "--backing-format", "qcow2"), 1, "no qcow2 file"),
                (("--backing", "nbd:x", "--backing-format", "raw"), 1, "no path"),
                (("--backing", "json:{}", "--backing-format", "raw"), 1, "no path"),
                (("--backing", "x" * 2000, "--backing-format", "raw"), 2, "1 to 1023 bytes"),
                (("--backing", "raw", "--backing-format", "raw", "--preallocation", "metadata",
                  "--extended-l2=off"), 2, "hide the backing file")):
            assert why in refused("create", path, *words, code=code), words
            assert os.listdir(top) == ["raw"], words
        create(path, "1M")
        assert "its own backing file" in refused("create", path, "--force", "--backing", "a.qcow2",
                                                 "--backing-format", "qcow2")


@test
def a_data_file():
    with tmpdir() as top:
        path = f"{top}/a.qcow2"
        create(path, "2M", "--data-file", "data")
        assert os.path.getsize(f"{top}/data") == 2 * M
        # QEMU looks for a relative name in its own folder.
        data = info(path, cwd=top)["format-specific"]["data"]
        assert data["data-file"] == "data" and not data["data-file-raw"], data
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 1M 100k", path, cwd=top)
        qemu_img("check", "-q", path, cwd=top)
        assert fleecectl("image", "check", path).stdout == f"{path}: nothing is wrong\n"
        assert "it exists" in refused("create", f"{top}/b.qcow2", "2M", "--data-file", "data")
        assert os.path.exists(f"{top}/data") and not os.path.exists(f"{top}/b.qcow2")
        assert "no data file" in refused("create", f"{top}/b.qcow2", "1M", "--data-file-raw", code=2)
        # What fails leaves no data file.
        assert "give SIZE" in refused("create", f"{top}/b.qcow2", "--data-file", "new", code=2)
        assert sorted(os.listdir(top)) == ["a.qcow2", "data"]


@test
def a_container_for_a_raw_disk():
    with tmpdir() as top:
        path, content = f"{top}/a.qcow2", os.urandom(3 * M)
        with open(f"{top}/disk", "wb") as f:
            f.write(content)
        create(path, "--data-file", "disk", "--data-file-raw")
        assert info(path, cwd=top)["virtual-size"] == 3 * M
        with open(f"{top}/disk", "rb") as f:
            assert f.read() == content
        qemu_img("compare", "-f", "raw", "-F", "qcow2", "disk", path, cwd=top)
        qemu_img("bitmap", "--add", path, "b", cwd=top)
        qemu_img("check", "-q", path, cwd=top)
        assert "not 1048576" in refused("create", f"{top}/b.qcow2", "1M", "--data-file", "disk",
                                        "--data-file-raw")
        assert "no backing file" in refused(
            "create", f"{top}/b.qcow2", "--data-file", "disk", "--data-file-raw", "--backing",
            "disk", "--backing-format", "raw", code=2)


@test
def nothing_is_replaced_unasked():
    with tmpdir() as top:
        path = f"{top}/a.qcow2"
        with open(path, "w") as f:
            f.write("mine")
        assert "it exists" in refused("create", path, "1M")
        with open(path) as f:
            assert f.read() == "mine"
        create(path, "1M", "--force")
        assert info(path)["virtual-size"] == M
        assert "No such file" in refused("create", f"{top}/none/a.qcow2", "1M")
        assert os.listdir(top) == ["a.qcow2"]


@test
def bad_options():
    with tmpdir() as top:
        path = f"{top}/a.qcow2"
        for words, why in ((("x",), "not a size"), (("1000",), "multiple of 512"),
                           ((), "give SIZE"), (("-1",), "-1"),
                           (("1M", "--cluster-size", "3K"), "a power of two from 512 to 2 MiB"),
                           (("1M", "--cluster-size", "4M"), "a power of two"),
                           (("1M", "--refcount-bits", "12"), "from 1 to 64"),
                           (("1M", "--preallocation", "full"), "off, metadata and falloc"),
                           (("1M", "--extended-l2=yes"), "there is on and off"),
                           (("4E", "--cluster-size", "512"), "too large for clusters")):
            assert why in refused("create", path, *words, code=2), words
            assert os.listdir(top) == [], words


@test
def a_disk_grows():
    with tmpdir() as top:
        for options in [], ["--cluster-size", "512"], ["--extended-l2"], ["--preallocation", "metadata"], \
                ["--data-file", f"{top}/data", "--data-file-raw"]:
            path = f"{top}/a.qcow2"
            create(path, "1M", "--force", *options)
            run("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 500k 524k", path)
            out = fleecectl("image", "resize", path, "9M").stdout
            assert out == f"{path}: the disk has grown from 1 MiB to 9 MiB\n", out
            assert info(path)["virtual-size"] == 9 * M
            run("qemu-io", "-f", "qcow2", "-c", "read -q -P 7 500k 524k", "-c", "read -q -P 0 1M 8M",
                "-c", "write -q -P 8 8M 1M", path)
            qemu_img("check", "-q", path)
            out = fleecectl("--json", "image", "resize", path, "9M").stdout
            assert json.loads(out) == {"filename": path, "virtual-size": 9 * M}, out
            assert "not made smaller" in refused("resize", path, "1M")
            assert info(path)["virtual-size"] == 9 * M


@test
def a_disk_grows_over_a_longer_backing_file():
    with tmpdir() as top:
        with open(f"{top}/raw", "wb") as f:
            f.write(b"\7" * (2 * M))
        path = f"{top}/a.qcow2"
        create(path, "1M", "--backing", "raw", "--backing-format", "raw")
        fleecectl("image", "resize", path, "3M")
        run("qemu-io", "-f", "qcow2", "-c", "read -q -P 7 0 1M", "-c", "read -q -P 0 1M 2M", path)
        qemu_img("check", "-q", path)


@test
def disks_that_do_not_grow():
    with tmpdir() as top:
        path = f"{top}/a.qcow2"
        create(path, "1M")
        assert "multiple of 512" in refused("resize", path, "1000", code=2)
        assert "not a size" in refused("resize", path, "x", code=2)
        assert "No such file" in refused("resize", f"{top}/none", "2M")
        refused("resize", path, "7E")
        qemu_img("check", "-q", path)
        qemu_img("snapshot", "-c", "s", path)
        assert "snapshot" in refused("resize", path, "2M")
        qemu_img("snapshot", "-d", "s", path)
        qemu_img("bitmap", "--add", path, "b")
        assert "bitmap" in refused("resize", path, "2M")
        assert info(path)["virtual-size"] == M
        qemu_img("check", "-q", path)


@test
def info_of_what_qemu_makes():
    with tmpdir() as top:
        path = f"{top}/a.qcow2"
        for options in ("compat=0.10", "lazy_refcounts=on", "compression_type=zstd,refcount_bits=64",
                        "extended_l2=on,cluster_size=32k"):
            qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, "4M")
            qemu_img("snapshot", "-c", "first one", path)
            if "0.10" not in options:
                qemu_img("bitmap", "--add", "-g", "4k", path, "b")
                qemu_img("bitmap", "--add", "--disable", path, "off")
            said = info(path)
            assert said["snapshots"][0]["name"] == "first one", said
            text = fleecectl("image", "info", path).stdout
            assert "first one" in text and ("off" in text) == ("0.10" not in options), text


@test
def info_of_what_is_damaged():
    """Lists that are damaged are told of; the rest is there. What is no image is refused."""
    with tmpdir() as top:
        path = f"{top}/a.qcow2"
        create(path, "4M")
        qemu_img("snapshot", "-c", "s", path)
        with open(path, "r+b") as f:
            f.seek(64)
            at = int.from_bytes(f.read(8), "big")
            f.seek(at + 8)
            f.write(b"\xff" * 4)
        result = fleecectl("--json", "image", "info", path)
        assert "snapshots" not in json.loads(result.stdout), result
        assert "internal snapshot" in result.stderr and result.stderr.count("\n") == 1, result
        with open(path, "r+b") as f:
            f.write(b"NONE")
        assert "no qcow2 file" in refused("info", path)
        assert "No such file" in refused("info", f"{top}/none")
        assert "no regular file" in refused("info", top)


main()
