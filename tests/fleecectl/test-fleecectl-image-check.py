#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl image check, beside qemu-img, and on images that others use."""

import contextlib
import json
import struct
import subprocess

from fleece import by_hand, fleecectl, require_program, run, tmpdir
from tap import main, test

M = 1 << 20
COPIED = 1 << 63
OFFSET = 0x00fffffffffffe00


class Image:
    """An image of 2 MiB, the first of which is written."""

    def __init__(self, top):
        self.path = f"{top}/i.qcow2"
        require_program("qemu-img")
        fleecectl("image", "create", self.path, "2M")
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 5 0 1M", self.path)

    def get(self, offset):
        with open(self.path, "rb") as f:
            f.seek(offset)
            return struct.unpack(">Q", f.read(8))[0]

    def put(self, offset, value, kind=">Q"):
        with open(self.path, "r+b") as f:
            f.seek(offset)
            f.write(struct.pack(kind, value))

    def l2(self):
        return self.get(self.get(40)) & OFFSET

    def count(self, cluster):
        """Where its count of 16 bits is."""
        return (self.get(self.get(48)) & OFFSET) + cluster * 2

    def check(self, code, *options):
        """The result of ours."""
        result = fleecectl("--json", "image", "check", self.path, *options, check=False)
        assert result.returncode == code, result
        assert (result.stderr == "") == (code == 0), result
        return json.loads(result.stdout) if result.stdout else {}, result.stderr


def qemu_check(path):
    result = run("qemu-img", "check", "--output=json", path, check=False)
    return result.returncode, json.loads(result.stdout)


@contextlib.contextmanager
def used(path, *options):
    """QEMU has the image open."""
    p = subprocess.Popen(["qemu-io", "-f", "qcow2", *options, path], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, preexec_fn=by_hand)
    try:
        p.stdin.write("length\n")
        p.stdin.flush()
        assert p.stdout.readline(), "qemu-io has not opened the image"
        yield
    finally:
        p.communicate("q\n")


@test
def a_clean_image():
    with tmpdir() as top:
        image = Image(top)
        result = fleecectl("image", "check", image.path)
        assert (result.stdout, result.stderr) == (f"{image.path}: nothing is wrong\n", ""), result
        assert image.check(0) == ({"filename": image.path, "format": "qcow2", "check-errors": 0,
                                   "leaks": 0, "corruptions": 0}, "")


@test
def leaks():
    with tmpdir() as top:
        image = Image(top)
        image.put(image.l2(), 0)
        image.put(image.l2() + 8, 0)
        said, error = image.check(1)
        assert said["leaks"] == 2 and said["corruptions"] == 0, said
        assert error == (f"fleecectl: {image.path}: leaked clusters: 2. They take room and do no "
                         "other harm\n"), error
        assert qemu_check(image.path)[0] == 3


@test
def corruptions():
    with tmpdir() as top:
        image = Image(top)
        cluster = (image.get(image.l2()) & OFFSET) >> 16
        image.put(image.count(cluster), 0, ">H")
        said, error = image.check(1)
        code, theirs = qemu_check(image.path)
        assert code == 2 and said["corruptions"] == theirs["corruptions"] == 2, (said, theirs)
        assert "corrupt in 2 places, the first of which is: " in error, error
        assert said["first-corruption"] in error, error


@test
def what_cannot_be_checked():
    with tmpdir() as top:
        image = Image(top)
        image.put(0, 0)
        said, error = image.check(1)
        assert said == {} and "no qcow2 file" in error, error


@test
def repair_of_leaks():
    with tmpdir() as top:
        image = Image(top)
        run("truncate", "-s", "4M", image.path)
        for cluster in 30, 31, 50:
            image.put(image.count(cluster), 1, ">H")
        assert image.check(1)[0]["leaks"] == 3
        said, _ = image.check(0, "--repair", "leaks")
        assert (said["leaks"], said["leaks-fixed"], said["corruptions-fixed"]) == (0, 3, 0), said
        assert qemu_check(image.path)[0] == 0
        image.check(0)
        image.put(image.count(30), 1, ">H")
        result = fleecectl("image", "check", "--repair=all", image.path)
        assert result.stdout == (f"{image.path}: repaired: leaked clusters: 1, corruptions: 0\n"), result
        result = fleecectl("image", "check", "--repair", "all", image.path)
        assert result.stdout == f"{image.path}: nothing is wrong\n", result


@test
def repair_of_all():
    """Counts that are lost, wrong flags, an image that was not closed in order."""
    with tmpdir() as top:
        image = Image(top)
        run("cp", image.path, f"{top}/good")
        for cluster in range(0, 30, 2):
            image.put(image.count(cluster), 0, ">H")
        for entry in range(1, 16, 3):
            at = image.l2() + entry * 8
            image.put(at, image.get(at) & ~COPIED)
        image.put(72, 3)
        _, error = image.check(1, "--repair", "leaks")
        assert "while something else is wrong" in error, error
        said, _ = image.check(0, "--repair", "all")
        assert said["corruptions"] == 0 and said["corruptions-fixed"] > 10, said
        assert qemu_check(image.path)[0] == 0
        run("qemu-img", "compare", image.path, f"{top}/good")
        assert image.get(72) == 0
        image.check(0)


@test
def what_is_not_repaired():
    """Two clusters at one place: nothing is changed."""
    with tmpdir() as top:
        image = Image(top)
        image.put(image.l2(), image.get(image.l2() + 8))
        with open(image.path, "rb") as f:
            before = f.read()
        said, error = image.check(1, "--repair", "all")
        assert (said["corruptions"], said["leaks"]) == (1, 1) and "leaks-fixed" not in said, said
        assert "cannot be repaired, and nothing was changed" in error, error
        with open(image.path, "rb") as f:
            assert f.read() == before
        for words in (["--repair"], ["--repair=some"], ["--repair", "some"], ["x"], ["--repair=all", "x"]):
            result = fleecectl("image", "check", image.path, *words, check=False)
            assert result.returncode == 2 and result.stdout == "", result


@test
def an_image_in_use():
    with tmpdir() as top:
        image = Image(top)
        with used(image.path):
            said, error = image.check(1)
            assert said == {} and image.path in error, error
            assert fleecectl("image", "info", image.path).stdout
            result = fleecectl("image", "create", "--force", image.path, "1M", check=False)
            assert result.returncode == 1 and image.path in result.stderr, result
            for words in ["check", image.path, "--repair", "all"], ["resize", image.path, "4M"]:
                result = fleecectl("image", *words, check=False)
                assert result.returncode == 1 and image.path in result.stderr, result
        with used(image.path, "-r"):
            image.check(0)
            _, error = image.check(1, "--repair", "all")
            assert image.path in error, error
        image.check(0)


main()
