#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl verify: whatever becomes of a repository, it is found, and what is good is said to be good."""

import contextlib
import json
import os
import random
import shutil
import subprocess

from fleece import fleecectl, run, tmpdir
from repository import Disk, Repository, read, sha256, write
from tap import main, note, test

K, M = 1 << 10, 1 << 20
ALL = {(0, "vda"), (0, "vdb"), (1, "vda"), (2, "vda"), (2, "vdb")}


@contextlib.contextmanager
def repository():
    """vda: full, inc, inc; vdb: full (compressed), and a diff in member 2."""
    with tmpdir() as top:
        repo = Repository(os.path.join(top, "repo"))
        repo.add({"vda": Disk(4 * M, [(0, 200 * K, 0x11), (2 * M, K, 0x12)]),
                  "vdb": Disk(M, [(64 * K, 128 * K, 0x21)], compress=True)})
        repo.add({"vda": Disk(4 * M, [(M, 3 * K, 0x13)], "inc")})
        repo.add({"vda": Disk(6 * M, [(5 * M, K, 0x14)], "inc"), "vdb": Disk(M, [(0, K, 0x22)], "diff")})
        yield repo


def verify(repo, *options, code=0):
    """What it says: {(id, disk): [what is wrong]}."""
    result = fleecectl("--json", "verify", repo.path, *options, check=False)
    assert result.returncode == code, result
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    found = {(line["id"], line["disk"]): line["wrong"] for line in lines if "disk" in line}
    assert all(line["ok"] == (line["wrong"] == []) for line in lines if "disk" in line)
    return found


def wrong(repo, *options):
    """Those that something is wrong with: {(id, disk): [what]}."""
    found = verify(repo, *options, code=1)
    assert set(found) == ALL, found
    return {key: value for key, value in found.items() if value}


def refused(repo, message, *options):
    """It does not get so far as to look at members."""
    result = fleecectl("verify", repo.path, *options, check=False)
    assert result.returncode == 1 and result.stdout == "", result
    assert message in result.stderr, result.stderr


def good(repo):
    for options in [], ["--deep"]:
        found = verify(repo, *options)
        assert set(found) == ALL and not any(found.values()), found


def flip(path, bit):
    data = bytearray(read(path))
    data[bit // 8] ^= 1 << bit % 8
    write(path, data)


@test
def nothing_is_wrong():
    with repository() as repo:
        good(repo)
        out = fleecectl("verify", repo.path).stdout
        assert out.startswith("member 0, ") and out.endswith("\n5 files: nothing is wrong\n"), out
        for jobs in "1", "64":
            verify(repo, "--deep", "--jobs", jobs)
        found = verify(repo, "1")
        assert set(found) == {(0, "vda"), (1, "vda")}, found


@test
def a_flipped_bit():
    """Anywhere in any file, header and tables included, a deep look finds it; what stands on the file is
    said to be broken, and nothing else is."""
    seed = random.randrange(1 << 32)
    note(f"seed {seed}")
    chance = random.Random(seed)
    below = {(0, "vda"): {(1, "vda"), (2, "vda")}, (0, "vdb"): {(2, "vdb")}, (1, "vda"): {(2, "vda")}}
    with repository() as repo:
        for _ in range(40):
            key = chance.choice(sorted(ALL))
            path = repo.file(*key)
            bit = chance.randrange(os.path.getsize(path) * 8)
            note(f"{key}: bit {bit}")
            flip(path, bit)
            found = wrong(repo, "--deep")
            assert set(found) == {key} | below.get(key, set()), found
            assert os.path.basename(path) in found[key][0], found
            for broken in below.get(key, set()):
                assert any("which is not good" in text for text in found[broken]), found
            flip(path, bit)
        good(repo)


@test
def a_flipped_bit_of_the_sums():
    with repository() as repo:
        path = repo.file(1, "vda") + ".sums"
        for bit in 0, 8 * 10 + 3, 8 * (os.path.getsize(path) - 1):
            flip(path, bit)
            for options in [], ["--deep"]:
                found = wrong(repo, *options)
                assert "it is not the one that the manifest knows" in found[1, "vda"][0], found
                assert set(found) == {(1, "vda"), (2, "vda")}, found
            flip(path, bit)
        os.unlink(path)
        assert "No such file" in wrong(repo)[1, "vda"][0]


@test
def a_cut_file():
    with repository() as repo:
        path = repo.file(0, "vdb")
        whole = read(path)
        for length in 0, 100, len(whole) // 2, len(whole) - 1:
            write(path, whole[:length])
            found = wrong(repo)
            assert found[0, "vdb"] == [f"vdb/00000-full.qcow2: it has {length} bytes, and should have "
                                       f"{len(whole)}"], found
            assert set(found) == {(0, "vdb"), (2, "vdb")}, found
        write(path, whole + b"x")
        assert f"it has {len(whole) + 1} bytes" in wrong(repo)[0, "vdb"][0]
        write(path, whole)
        good(repo)


@test
def a_missing_file():
    with repository() as repo:
        os.unlink(repo.file(1, "vda"))
        found = wrong(repo)
        assert found == {(1, "vda"): ["vda/00001-inc.qcow2: it is missing"],
                         (2, "vda"): ["it stands on vda/00001-inc.qcow2, which is not good"]}, found
        # What does not stand on it is good, and what does is told of by its ID, too.
        verify(repo, "0")
        result = fleecectl("verify", repo.path, "2", check=False)
        assert result.returncode == 1, result
        assert "\n  vda: wrong: vda/00001-inc.qcow2: it is missing\n" in result.stdout, result.stdout
        assert result.stderr == f"fleecectl: verify {repo.path}: wrong: 2 of 5 files\n", result.stderr
        os.mkdir(repo.file(1, "vda"))
        assert "it is not a regular file" in wrong(repo)[1, "vda"][0]


@test
def swapped_members():
    """Two files of the same size and the same disk, one in the place of the other."""
    with repository() as repo:
        one, two = repo.file(1, "vda"), repo.join("vda/00003-inc.qcow2")
        repo.add({"vda": Disk(6 * M, [(3 * M, K, 0x15)], "inc"), "vdb": Disk(M, [(K, K, 0x23)], "diff", 0)})
        assert os.path.getsize(one) == os.path.getsize(two)
        os.rename(one, one + ".x")
        os.rename(two, one)
        os.rename(one + ".x", two)
        found = {key for key, texts in verify(repo, code=1).items() if texts}
        assert {(1, "vda"), (2, "vda"), (3, "vda")} <= found, found


@test
def swapped_members_that_look_alike():
    """Even their headers and the files of checksums are swapped: the manifest knows."""
    with repository() as repo:
        repo.add({"vdb": Disk(M, [(K, K, 0x23)], "diff", 0)})
        one, two = repo.file(2, "vdb"), repo.file(3, "vdb")
        for suffix in "", ".sums":
            os.rename(one + suffix, one + ".x")
            os.rename(two + suffix, one + suffix)
            os.rename(one + ".x", two + suffix)
        found = {key for key, texts in verify(repo, code=1).items() if texts}
        assert found == {(2, "vdb"), (3, "vdb")}, found


@test
def another_backing_file():
    """Its checksums and the manifest were made to fit: the chain is another all the same."""
    with repository() as repo:
        for options, message in (
                (["-b", "00000-full.qcow2"],
                 'its backing file is "00000-full.qcow2", and should be "00001-inc.qcow2"'),
                (["-b", ""], 'its backing file is "", and should be "00001-inc.qcow2"')):
            run("qemu-img", "rebase", "-u", "-F", "qcow2", "-f", "qcow2", *options, repo.file(2, "vda"))
            repo.reseal(2, "vda")
            found = wrong(repo)
            assert list(found) == [(2, "vda")] and message in found[2, "vda"][0], found


@test
def a_file_that_is_a_link():
    """What a restore refuses does not pass."""
    with repository() as repo:
        os.rename(repo.file(0, "vda"), repo.path + "/../elsewhere")
        os.symlink("../../elsewhere", repo.file(0, "vda"))
        assert "does not lie below the folder" in str(wrong(repo, "--deep")[2, "vda"])
        result = fleecectl("restore", repo.path, "--force", "--disk", "vda", "-o", repo.path + "/../out.raw", check=False)
        assert result.returncode == 1 and "does not lie below the folder" in result.stderr, result


@test
def a_folder_that_is_a_link():
    with repository() as repo:
        os.rename(repo.path + "/vda", repo.path + "/../elsewhere")
        os.symlink("../elsewhere", repo.path + "/vda")
        good(repo)
        fleecectl("restore", repo.path, "--disk", "vda", "-o", repo.path + "/../out.raw")


@test
def another_size():
    with repository() as repo:
        run("qemu-img", "resize", "-q", "-f", "qcow2", repo.file(2, "vda"), "7M")
        repo.reseal(2, "vda")
        found = wrong(repo)
        assert found == {(2, "vda"): ["vda/00002-inc.qcow2: it is of a disk of 7340032 bytes, and should "
                                      "be of 6291456"]}, found


@test
def a_file_that_is_not_sound():
    """Damage from before the checksums were made: the tables tell."""
    with repository() as repo:
        path = repo.file(1, "vda")
        data = bytearray(read(path))
        l1 = int.from_bytes(data[40:48], "big")
        data[l1 + 1] = 0xff  # the only L2 table is far behind the end of the file
        write(path, data)
        repo.reseal(1, "vda")
        assert run("qemu-img", "check", path, check=False).returncode != 0
        verify(repo)
        assert set(wrong(repo, "--deep")) == {(1, "vda"), (2, "vda")}


@test
def compressed_data_that_cannot_be_unpacked():
    """Damage from before the checksums were made: each compressed cluster is unpacked."""
    with repository() as repo:
        path = repo.file(0, "vdb")
        data = bytearray(read(path))
        l1 = int.from_bytes(data[40:48], "big")
        l2 = int.from_bytes(data[l1:l1 + 8], "big") & 0x00fffffffffffe00
        entry = int.from_bytes(data[l2 + 8:l2 + 16], "big")
        assert entry >> 62 == 1, hex(entry)
        host = entry & (1 << 54) - 1
        data[host:host + 8] = b"\xff" * 8
        write(path, data)
        repo.reseal(0, "vdb")
        verify(repo)
        assert set(wrong(repo, "--deep")) == {(0, "vdb"), (2, "vdb")}


@test
def an_edited_manifest():
    with repository() as repo:
        path = repo.join("manifest.json")
        whole = read(path)
        for old, new in (b'"level": "inc"', b'"level": "full"'), (b'"parent": 0', b'"parent": null'), \
                (b'"id": 1', b'"id": 7'), (b"backup-00001", b"backup-00009"), (b"\n", b"\r\n"):
            assert old in whole
            write(path, whole.replace(old, new, 1))
            refused(repo, 'its "sha256" does not fit it: it is damaged, or was edited')
        write(path, whole[:-10])
        refused(repo, "it is damaged, or was edited")
        for length in 0, 200, len(whole) // 2:
            write(path, whole[:length])
            refused(repo, "it is cut short, or was edited")
        os.unlink(path)
        refused(repo, "is no repository: there is no manifest.json in it")


@test
def an_edited_manifest_with_its_hash():
    """Who also mends the hash is held to the rules, and to the files."""
    with repository() as repo:
        repo.entry(1, "vda")["file"] = "../vda/00001-inc.qcow2"
        repo.save()
        refused(repo, "is no name for a file of a repository")
        repo.entry(1, "vda")["file"] = "vda/00001-inc.qcow2"
        repo.member(0)["disks"].pop(0)  # vda
        repo.save()
        refused(repo, "member 1: disk vda: its parent, member 0, does not have the disk")
    with repository() as repo:
        repo.entry(2, "vda")["parent"] = 0
        repo.save()
        assert list(wrong(repo)) == [(2, "vda")]
        repo.entry(2, "vda")["parent"] = 1
        repo.entry(2, "vda")["sums"] = sha256(b"")
        repo.save()
        assert list(wrong(repo)) == [(2, "vda")]


@test
def a_quick_look_does_not_hide_what_a_deep_one_found():
    with repository() as repo:
        path = repo.file(1, "vda")
        flip(path, os.path.getsize(path) * 8 - 1)
        verify(repo)
        assert statuses(repo) == {"ok"}
        wrong(repo, "--deep")
        assert status(repo, 1, "vda") == "damaged" and status(repo, 2, "vda") == "broken chain"
        assert status(repo, 0, "vda") == status(repo, 2, "vdb") == "ok"
        verify(repo)
        assert status(repo, 1, "vda") == "damaged"
        flip(path, os.path.getsize(path) * 8 - 1)
        verify(repo, "1", "--deep")
        assert status(repo, 1, "vda") == "ok"


def status(repo, number, disk):
    told = json.loads(fleecectl("--json", "list", repo.path).stdout)
    return next(d["status"] for m in told["members"] if m["id"] == number
                for d in m["disks"] if d["disk"] == disk)


def statuses(repo):
    told = json.loads(fleecectl("--json", "list", repo.path).stdout)
    return {d["status"] for m in told["members"] for d in m["disks"]}


@test
def usage():
    with repository() as repo:
        for args, code, message in (
                (["--jobs", "0"], 2, "--jobs 0: not a number from 1 to 64"),
                (["--jobs", "x"], 2, "--jobs x: not a number from 1 to 64"),
                (["x"], 2, '"x" is no ID of a member'), (["-1"], 2, ""),
                (["9"], 1, "there is no member 9: the members are 0, of 2026-11-01T03:00:00.000000Z, to 2")):
            result = fleecectl("verify", repo.path, *args, check=False)
            assert result.returncode == code and message in result.stderr, result
        result = fleecectl("verify", repo.path + "x", check=False)
        assert result.returncode == 1 and "No such file" in result.stderr, result


@test
def while_somebody_writes():
    """A backup that runs holds the lock: verify says whose it is."""
    with repository() as repo:
        with subprocess.Popen(["flock", "-x", repo.join("lock"), "sh", "-c", "echo; read x"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout.readline() == b"\n"
            refused(repo, f"{repo.path} is in use by another process")
            holder.communicate(b"\n")
        good(repo)


@test
def a_copy_that_cannot_be_written_to():
    """Its folder is of another user, say: it is verified, and nothing is kept of that."""
    with repository() as repo:
        shutil.rmtree(repo.join("verify.json"), ignore_errors=True)
        os.mkdir(repo.join("verify.json.partial"))
        good(repo)
        assert not os.path.exists(repo.join("verify.json"))


main()
