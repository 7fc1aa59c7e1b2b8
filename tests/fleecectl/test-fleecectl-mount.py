#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl mount: the commands that it prints do what it says."""

import contextlib
import json
import os
import shlex
import signal
import subprocess

from fleece import SOON, die_with_parent, fleecectl, require_program, run, tmpdir, wait_ready
from repository import Disk, Repository, read
from rig import assert_same
from tap import main, skip, test

K, M = 1 << 10, 1 << 20


@contextlib.contextmanager
def repository(name="repo"):
    for program in "qemu-img", "qemu-io":
        require_program(program)
    with tmpdir() as folder:
        repo = Repository(f"{folder}/{name}")
        repo.folder = folder
        repo.add({"vda": Disk(2 * M, [(0, M, 0x11)]), "vdb": Disk(M, [(K, K, 0x12)])})
        repo.add({"vda": Disk(2 * M, [(M, 64 * K, 0x22)], level="inc"), "vdb": Disk(M, [], level="inc")})
        yield repo


def recipe(repo, *args):
    """The commands of each disk: those that make a file, up to the first comment behind them."""
    text = fleecectl("mount", repo.path, *args).stdout
    parts = text.split("# Disk ")[1:]
    return [[line for line in p.split("# when done")[0].splitlines()[1:]] for p in parts], text


def require_fuse():
    for program in "nbdfuse", "qemu-nbd":
        require_program(program)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        skip("/dev/fuse is not there, or not for us")


@contextlib.contextmanager
def mounted(folder, commands):
    """Run the commands as a person would, in `folder`. Gives the path of the file. nbdfuse tells by its PID file
    that it is there."""
    *before, nbdfuse = commands
    assert nbdfuse.startswith("nbdfuse -r ") and nbdfuse.endswith(" &"), nbdfuse
    for command in before:
        run("sh", "-c", command, cwd=folder)
    words = shlex.split(nbdfuse[:-2])
    fifo = f"{folder}/fuse-pid"
    os.mkfifo(fifo)
    process = subprocess.Popen([words[0], "-P", fifo, *words[1:]], cwd=folder, preexec_fn=die_with_parent)
    try:
        try:
            wait_ready(process, fifo, "nbdfuse")
        except RuntimeError as e:
            skip(f"nothing can be mounted here: {e}")
        try:
            yield os.path.join(folder, words[2])
        finally:
            run(*(["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]), words[2], cwd=folder)
        assert process.wait(SOON) == 0
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.unlink(fifo)


@test
def the_files_are_the_disks():
    require_fuse()
    # A name that a shell would take apart.
    with repository("it's a $repo") as repo:
        for args, number in (([], 1), (["--until", "0"], 0)):
            disks, text = recipe(repo, *args)
            assert len(disks) == 2, text
            for commands, disk in zip(disks, ("vda", "vdb")):
                with mounted(repo.folder, commands) as path:
                    assert path == f"{repo.folder}/backup-{number}/{disk}.raw", path
                    assert_same(read(path), repo.content(number, disk), f"{disk} {number}")
        commands = recipe(repo, "--disk", "vda", "my mnt")[0][0]
        with mounted(repo.folder, commands) as path:
            assert path == f"{repo.folder}/my mnt/vda.raw", path
            try:
                with open(path, "r+b", buffering=0) as f:
                    f.write(b"x")
                raise AssertionError("a backup was written to")
            except OSError:
                pass


@test
def all_that_is_printed_can_be_pasted():
    """Only what mounts is run, and each disk has a device of its own; also where a name has several lines."""
    with repository("a\nrepo") as repo:
        text = fleecectl("mount", repo.path, "a\nfolder").stdout
        log = f"{repo.folder}/log"
        stubs = "".join(f"{name}() {{ echo {name} >>{shlex.quote(log)}; }}\n" for name in (
            "mkdir", "touch", "nbdfuse", "modprobe", "fusermount3", "repo", "folder"))
        run("bash", "-c", f"{stubs}command_not_found_handle() {{ echo \"$1\" >>{shlex.quote(log)}; }}\n"
            f"qemu-nbd() {{ echo qemu-nbd >>{shlex.quote(log)}; }}\n{text}wait\n", cwd=repo.folder)
        assert sorted(read(log).decode().split()) == ["mkdir"] * 2 + ["nbdfuse"] * 2 + ["touch"] * 2, text
        for number in range(2):
            for option in "-c", "-d":
                assert text.count(f" {option} /dev/nbd{number}") == 1, text


@test
def the_file_is_told_to_programs():
    with repository() as repo:
        lines = fleecectl("--json", "mount", repo.path).stdout.splitlines()
        assert [json.loads(line) for line in lines] == [
            {"id": 1, "disk": disk, "file": repo.file(1, disk)} for disk in ("vda", "vdb")], lines


@test
def what_cannot_be_read_is_not_offered():
    with repository() as repo:
        os.unlink(repo.file(0, "vda"))
        result = fleecectl("mount", repo.path, "--disk", "vda", check=False)
        assert result.returncode == 1 and "00000-full.qcow2" in result.stderr and result.stdout == "", result
        result = fleecectl("mount", repo.path, "--disk", "vdx", check=False)
        assert result.returncode == 1 and "vdx" in result.stderr, result


main()
