#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl image: files that an image names. Images come from others, and must not have files written that
are not theirs; and an image that is made must not name itself."""

import os

from fleece import BUILD, SANITIZER, fleecectl, require_program, run, tmpdir
from tap import main, skip, test

K, M = 1 << 10, 1 << 20
STEPS = f"{BUILD}/tests/fleecectl/.libs/steps.so"


def image(*args):
    return fleecectl("image", *args).stdout


def refused(*args):
    """What it says, of a command that fails."""
    result = fleecectl("image", *args, check=False)
    assert result.returncode == 1 and result.stdout == "", result
    assert result.stderr.startswith("fleecectl: ") and result.stderr.count("\n") == 1, result
    return result.stderr


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, content):
    with open(path, "wb") as f:
        f.write(content)


def files(top):
    """Each file below, and what it has."""
    return {path: read(path) for folder, _, names in os.walk(top)
            for path in (f"{folder}/{name}" for name in names)}


def qemu_img(*args, **popen):
    require_program("qemu-img")
    run("qemu-img", *args, **popen)


@test
def a_foreign_image_names_a_file_elsewhere():
    """Neither growing nor repairing opens it for writing, unless its folder is allowed."""
    with tmpdir() as top:
        os.mkdir(f"{top}/got")
        path, victim = f"{top}/got/a.qcow2", f"{top}/mine"
        write(victim, b"\0" * M)
        image("create", path, "1M", "--data-file", victim, "--data-file-raw")
        os.symlink("../mine", f"{top}/got/link")
        image("create", f"{top}/got/b.qcow2", "--data-file", "link", "--data-file-raw")
        before = files(top)
        for which in "a", "b":
            for words in ["resize", f"{top}/got/{which}.qcow2", "2M"], \
                    ["check", f"{top}/got/{which}.qcow2", "--repair", "all"]:
                said = refused(*words)
                assert "does not lie below the folder" in said and "--allow FOLDER" in said, said
                said = refused(*words, "--allow", f"{top}/got")
                assert "nor below one that is allowed" in said, said
        assert files(top) == before
        image("check", path)
        image("check", path, "--repair", "all", "--allow", top)
        assert files(top) == before
        image("resize", path, "2M", "--allow", f"{top}/got", "--allow", top)
        assert os.path.getsize(victim) == 2 * M


@test
def a_longer_raw_data_file():
    """What is behind the end of the disk is not wiped out; zeroes and holes are taken."""
    with tmpdir() as top:
        path, victim = f"{top}/a.qcow2", f"{top}/mine"
        image("create", path, "1M", "--data-file", "mine", "--data-file-raw")
        for length, at in (3 * M, M), (3 * M, 2 * M - 1), (M + 1, M):
            with open(victim, "r+b") as f:
                f.truncate(length)
                f.seek(at)
                f.write(b"x")
            before = files(top)
            assert "is longer than the disk" in refused("resize", path, "2M")
            assert files(top) == before
            os.truncate(victim, M)
        # Behind the new end, too, it stays.
        with open(victim, "r+b") as f:
            f.seek(M)
            f.write(b"\0" * 100 * K)
            f.seek(2 * M)
            f.write(b"x")
        before = read(victim)
        image("resize", path, "2M")
        assert read(victim) == before
        qemu_img("check", "-q", path, cwd=top)


@test
def a_data_file_that_is_the_image():
    with tmpdir() as top:
        path = f"{top}/a.qcow2"
        os.symlink(".", f"{top}/here")
        for name in "a.qcow2", "a.qcow2.partial", "./a.qcow2", "here/a.qcow2", path, \
                f"{top}/here/here/a.qcow2.partial":
            for words in [], ["--force"], ["--data-file-raw"], ["--data-file-raw", "--force"]:
                said = refused("create", path, "1M", "--data-file", name, *words)
                assert "cannot be its own data file" in said, (name, words, said)
                assert os.listdir(top) == ["here"], (name, words)
        # Files that are there, under another name.
        write(path, b"\1" * M)
        write(f"{path}.partial", b"\2" * M)
        os.link(path, f"{top}/one")
        os.symlink("a.qcow2.partial", f"{top}/two")
        before = files(top)
        for name in "a.qcow2", "a.qcow2.partial", "one", "two":
            said = refused("create", path, "--force", "--data-file", name, "--data-file-raw")
            assert "cannot be its own data file" in said, (name, said)
            assert files(top) == before, name


@test
def an_image_in_its_own_chain():
    """--force does not replace what is below."""
    with tmpdir() as top:
        for name, below in ("c", None), ("d", "c"), ("e", "d"):
            image("create", f"{top}/{name}",
                  *(["--backing", below, "--backing-format", "qcow2"] if below else ["1M"]))
        os.link(f"{top}/c", f"{top}/link")
        write(f"{top}/new.partial", b"\1" * M)
        image("create", f"{top}/f", "--backing", "new.partial", "--backing-format", "raw")
        before = files(top)
        for path, backing, how, why in (("c", "c", "qcow2", "its own backing"),
                                        ("c", "link", "qcow2", "its own backing"),
                                        ("c", "link", "raw", "its own backing"),
                                        ("c", "d", "qcow2", "in the chain"),
                                        ("c", "e", "qcow2", "in the chain"),
                                        ("link", "e", "qcow2", "in the chain"),
                                        ("new", "new.partial", "raw", "its own backing"),
                                        ("new", "f", "qcow2", "in the chain")):
            said = refused("create", "--force", f"{top}/{path}", "--backing", backing,
                           "--backing-format", how)
            assert why in said, (path, backing, said)
            assert files(top) == before, (path, backing)
        image("create", "--force", f"{top}/e", "--backing", "c", "--backing-format", "qcow2")


@test
def an_image_that_gets_no_name():
    """The data file that was made for it goes with it, but not one that was there, nor that of an image that has its
    name."""
    if SANITIZER != "no":
        skip("a library is preloaded, which the sanitizer does not bear")
    with tmpdir() as top, tmpdir() as notes:
        path, data = f"{top}/a.qcow2", f"{top}/data"
        words = ["image", "create", path, "1M", "--data-file", "data", "--data-file-raw"]

        def run_without(there, **env):
            for name in path, data:
                if os.path.exists(name):
                    os.unlink(name)
            if there:
                write(data, b"\1" * M)
            return fleecectl(*words, env={"LD_PRELOAD": STEPS, **env}, check=False)

        for there in False, True:
            log = f"{notes}/{there}"
            assert run_without(there, FLEECE_STEPS=log).returncode == 0
            steps = read(log).decode().splitlines()
            named = steps.index(f"rename {path}") + 1
            assert 2 < named < len(steps), steps
            for number in range(1, len(steps) + 1):
                result = run_without(there, FLEECE_STEP_FAIL=str(number))
                assert result.returncode == 1, (number, steps, result)
                assert os.path.exists(path) == (number > named), (number, steps, result)
                assert os.path.exists(data) == (there or number > named), (number, steps, result)
                assert not there or read(data) == b"\1" * M, (number, steps)


main()
