#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl restore from a stream: each that can be, what it refuses, and what is left when it ends."""

import fcntl
import os
import resource
import signal
import subprocess

from fleece import FLEECECTL, SOON, Server, die_with_parent, fleecectl, run
from repository import read
from restores import K, M, as_raw, expected, repository
from rig import assert_same
from tap import main, test
from waiting import wait_until


def through_a_pipe(data, target, *args):
    """Restore what comes through a pipe: the process that has ended."""
    return subprocess.run([FLEECECTL, "restore", "-", "-o", target, *args], input=data, timeout=SOON,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)


@test
def an_image_through_a_pipe():
    """All of it is taken, also what fills up its last cluster: the sender, too, ends well."""
    with repository() as repo:
        target = f"{repo.folder}/out.raw"
        for number, disk in ((0, "vda"), (1, "vda"), (2, "vda"), (2, "vdb")):
            there, here = os.pipe()
            fcntl.fcntl(here, fcntl.F_SETPIPE_SZ, 4096)
            sender = subprocess.Popen([FLEECECTL, "restore", repo.path, "--disk", disk, "--until", str(number),
                                       "-o", "-"], stdout=here, preexec_fn=die_with_parent)
            os.close(here)
            receiver = subprocess.Popen([FLEECECTL, "restore", "-", "-o", target, "--force"], stdin=there,
                                        stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)
            os.close(there)
            assert receiver.wait(SOON) == 0 and sender.wait(SOON) == 0
            wanted = expected(repo, number, disk)
            # The header of an image has whole sectors.
            assert_same(read(target)[:len(wanted)], wanted, f"{disk} {number}")


@test
def a_file_is_read_from_where_it_is():
    """Two images, one behind the other: each is restored once, and then there is none."""
    with repository() as repo:
        both, lengths = f"{repo.folder}/both", []
        with open(both, "wb") as f:
            for number in 0, 2:
                subprocess.run([FLEECECTL, "restore", repo.path, "--disk", "vda", "--until", str(number), "-o", "-"],
                               stdout=f, check=True, timeout=SOON)
                lengths.append(os.lseek(f.fileno(), 0, os.SEEK_CUR))
        with open(both, "rb") as f:
            os.lseek(f.fileno(), lengths[0], os.SEEK_SET)
            fleecectl("restore", "-", "-o", f"{repo.folder}/2.raw", stdin=f)
            assert_same(read(f"{repo.folder}/2.raw"), expected(repo, 2, "vda"))
            os.lseek(f.fileno(), 0, os.SEEK_SET)
            fleecectl("restore", "-", "-o", f"{repo.folder}/0.raw", stdin=f)
            assert_same(read(f"{repo.folder}/0.raw"), expected(repo, 0, "vda"))
            result = fleecectl("restore", "-", "-o", f"{repo.folder}/x.raw", stdin=f, check=False)
            assert result.returncode == 1 and "it ends after 0 bytes" in result.stderr, result


@test
def an_image_of_nothing_and_a_large_one_through_a_pipe():
    with repository() as repo, Server("--disk", "empty", "memory", "1G", "--disk", "data", "memory", "1280M") as s:
        h = s.nbd("data")
        written = {0: b"a" * 64 * K, 600 * M: b"b" * K, 1280 * M - 512: b"c" * 512}
        for at, data in written.items():
            h.pwrite(data, at)
        for disk in "empty", "data":
            target = f"{repo.folder}/{disk}.raw"
            sender = subprocess.Popen([FLEECECTL, "pull", s.uri(disk), "-o", "-"], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
            fleecectl("restore", "-", "-o", target, stdin=sender.stdout)
            sender.stdout.close()
            assert sender.wait(SOON) == 0
            run("qemu-img", "compare", "-f", "raw", target, s.uri(disk))
        assert os.stat(target).st_blocks * 512 <= M


@test
def a_stream_of_a_disk_that_is_longer_than_any_file():
    """No file that is made on the way is as long as the disk is."""
    def in_child():
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * M, 64 * M))
        die_with_parent()

    with repository() as repo, Server("--disk", "large", "memory", "100G") as s:
        target = f"{repo.folder}/out.qcow2"
        h = s.nbd("large")
        for at in 0, 50 << 30, (100 << 30) - 512:
            h.pwrite(b"a" * 512, at)
        sender = subprocess.Popen([FLEECECTL, "pull", s.uri("large"), "-o", "-"], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        receiver = subprocess.run([FLEECECTL, "restore", "-", "-o", target], stdin=sender.stdout, check=False,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=SOON,
                                  preexec_fn=in_child)
        assert receiver.returncode == 0, receiver
        sender.stdout.close()
        assert sender.wait(SOON) == 0
        run("qemu-img", "compare", "-F", "raw", target, s.uri("large"))


@test
def a_stream_that_cannot_be_restored():
    with repository() as repo:
        with open(f"{repo.folder}/stream", "wb") as f:
            subprocess.run([FLEECECTL, "restore", repo.path, "--disk", "vda", "-o", "-"], stdout=f, check=True,
                           timeout=SOON)
        whole, target = read(f"{repo.folder}/stream"), f"{repo.folder}/out.raw"
        ends = (0, 3, 512, 64 * K, 70000, 200 * K, 400 * K, len(whole) // 2, len(whole) - 1)
        for end in ends:
            result = through_a_pipe(whole[:end], target)
            assert result.returncode == 1 and b"standard input: it ends after" in result.stderr, (end, result)
            assert os.listdir(repo.folder).count("out.raw") == 0 and not os.path.exists(target + ".partial"), end
        run("qemu-img", "convert", "-c", "-O", "qcow2", repo.file(0, "vda"), f"{repo.folder}/c.qcow2")
        for data in (read(repo.file(2, "vda")), read(f"{repo.folder}/c.qcow2"), b"\0" * M, b"QFI\xfb" + b"\xff" * M):
            result = through_a_pipe(data, target)
            assert result.returncode == 1 and result.stderr.startswith(b"fleecectl: "), result
            assert not os.path.exists(target)
        # One of qemu's with its data in the order of the disk is as good as a stream; in another it is not.
        image = f"{repo.folder}/q.qcow2"
        for places, words in (((0, 2 * M), b""), ((2 * M, 0), b"not in the order of the disk")):
            run("qemu-img", "create", "-q", "-f", "qcow2", image, "4M")
            run("qemu-io", "-f", "qcow2", *(w for at in places for w in ("-c", f"write -P {at // M + 1} {at} 64k")), image)
            result = through_a_pipe(read(image), target)
            assert (result.returncode == 0) == (not words) and words in result.stderr, result
            assert os.path.exists(target) == (not words)
            if not words:
                assert_same(read(target), as_raw(repo.folder, image))
                os.unlink(target)
        assert through_a_pipe(whole, target).returncode == 0
        assert_same(read(target), expected(repo, 2, "vda"))


@test
def a_signal_ends_what_waits_for_a_pipe():
    with repository() as repo:
        with open(f"{repo.folder}/stream", "wb") as f:
            subprocess.run([FLEECECTL, "restore", repo.path, "--disk", "vda", "-o", "-"], stdout=f, check=True,
                           timeout=SOON)
        os.mkdir(f"{repo.folder}/out")
        target = f"{repo.folder}/out/x.raw"
        process = subprocess.Popen([FLEECECTL, "restore", "-", "-o", target], stdin=subprocess.PIPE,
                                   stderr=subprocess.PIPE, preexec_fn=die_with_parent)
        whole = read(f"{repo.folder}/stream")
        process.stdin.write(whole[:len(whole) // 2])
        process.stdin.flush()
        wait_until(lambda: os.path.exists(f"{target}.partial"), f"{repo.folder}/out")
        process.send_signal(signal.SIGINT)
        assert process.wait(SOON) == 1
        assert b"SIGINT" in process.stderr.read()
        assert os.listdir(f"{repo.folder}/out") == []
        process.stdin.close()
        process.stderr.close()


if __name__ == "__main__":
    main()
