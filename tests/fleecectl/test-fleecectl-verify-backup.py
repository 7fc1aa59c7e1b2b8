#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl verify, list and report over what fleecectl backup and prune have made."""

import json
import os
import random
import signal
import subprocess

import fleece
from backup_rig import BackupRig
from fleece import fleecectl, run
from rig import seed
from tap import main, note, test


def verify(rig, *options, code=0):
    """{(id, disk): [what is wrong]}"""
    result = fleecectl("--json", "verify", rig.repo, *options, check=False)
    assert result.returncode == code, result
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return {(line["id"], line["disk"]): line["wrong"] for line in lines if "disk" in line}


def keys(rig):
    return {(m["id"], d["disk"]) for m in rig.members() for d in m["disks"]}


def good(rig):
    for options in [], ["--deep"]:
        found = verify(rig, *options)
        assert set(found) == keys(rig) and not any(found.values()), found


def flip(path, bit):
    with open(path, "r+b") as f:
        f.seek(bit // 8)
        byte = f.read(1)[0]
        f.seek(bit // 8)
        f.write(bytes([byte ^ 1 << bit % 8]))


def chain(rig, rng):
    """Six members; the disks are written to before each."""
    for level in "auto", "auto", "diff", "auto", "full", "auto":
        rig.write(rng)
        rig.backup("--level", level)


@test
def what_backup_makes_is_good():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb") as rig:
        chain(rig, rng)
        good(rig)
        told = json.loads(fleecectl("--json", "list", rig.repo).stdout)["members"]
        assert [(m["id"], m["level"]) for m in told] == [
            (0, "full"), (1, "inc"), (2, "diff"), (3, "inc"), (4, "full"), (5, "inc")], told
        assert {d["status"] for m in told for d in m["disks"]} == {"ok"}
        page = fleecectl("report", rig.repo, "--html", "-").stdout
        assert "fleecectl verify has read all files, last at " in page
        assert page.count("<circle class=") == 12 and " bad\"" not in page


@test
def what_prune_makes_is_good():
    """Files that prune has written anew have not been verified; then they are."""
    rng = random.Random(seed())
    with BackupRig("vda", "vdb") as rig:
        chain(rig, rng)
        good(rig)
        fleecectl("prune", rig.repo, "--keep-last", "4")
        page = fleecectl("report", rig.repo, "--html", "-").stdout
        # Member 2 is full now, and what stands on it names its new file.
        assert "fleecectl verify has looked at 4 of 8 files" in page
        good(rig)
        rig.backup()
        good(rig)


@test
def a_flipped_bit_of_any_file():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb") as rig:
        chain(rig, rng)
        files = {(m["id"], d["disk"]): f"{rig.repo}/{d['file']}" for m in rig.members() for d in m["disks"]}
        for _ in range(40):
            key = rng.choice(sorted(files))
            path = files[key] + rng.choice(["", "", "", ".sums"])
            bit = rng.randrange(os.path.getsize(path) * 8)
            note(f"{path}: bit {bit}")
            flip(path, bit)
            found = verify(rig, "--deep", code=1)
            assert any(os.path.basename(files[key]) in text for text in found[key]), found
            flip(path, bit)
        for _ in range(40):
            path = f"{rig.repo}/manifest.json"
            bit = rng.randrange(os.path.getsize(path) * 8)
            note(f"manifest: bit {bit}")
            flip(path, bit)
            result = fleecectl("verify", rig.repo, check=False)
            assert result.returncode == 1 and "manifest.json.old is sound" in result.stderr, result
            flip(path, bit)
        good(rig)


@test
def a_backup_over_a_damaged_one():
    """The next backup does not stand on a file that is missing, and verify tells the two apart."""
    rng = random.Random(seed())
    with BackupRig("vda") as rig:
        rig.backup()
        rig.write(rng)
        rig.backup()
        os.unlink(f"{rig.repo}/{rig.disk('vda')['file']}")
        rig.write(rng)
        rig.backup()
        found = verify(rig, "--deep", code=1)
        assert [key for key, texts in found.items() if texts] == [(1, "vda")], found
        rig.check_member(rig.newest())


@test
def while_a_backup_runs():
    with BackupRig("vda") as rig:
        rig.backup()
        seen = []

        def before(request):
            if request["execute"] == "backup-begin":
                seen.append(fleecectl("verify", rig.repo, check=False))
                seen.append(fleecectl("list", rig.repo, check=False))
            return request

        rig.backup(before=before)
        assert seen[0].returncode == 1 and f"{rig.repo} is in use by process " in seen[0].stderr, seen
        assert seen[1].returncode == 0, seen
        good(rig)


@test
def an_interrupt():
    """It ends in order, and what was found before stays as it was."""
    with BackupRig("vda") as rig:
        rig.backup()
        verify(rig)
        with open(f"{rig.repo}/verify.json", "rb") as f:
            before = f.read()

        def pending():
            """The signal has come before the program begins. (SIGINT may be ignored, as in a background job.)"""
            fleece.die_with_parent()
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            os.kill(os.getpid(), signal.SIGTERM)

        result = subprocess.run([fleece.FLEECECTL, "verify", rig.repo, "--deep"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, preexec_fn=pending, timeout=fleece.SOON,
                                check=False)
        assert result.returncode == 1, result
        assert result.stderr.endswith(f"fleecectl: verify {rig.repo}: interrupted\n"), result
        with open(f"{rig.repo}/verify.json", "rb") as f:
            assert f.read() == before
        good(rig)


@test
def the_tables_are_sound_by_qemu_too():
    rng = random.Random(seed())
    with BackupRig("vda") as rig:
        chain(rig, rng)
        for member in rig.members():
            file = f"{rig.repo}/{rig.disk('vda', member)['file']}"
            assert "No errors were found" in run("qemu-img", "check", file).stdout
            told = json.loads(run("qemu-img", "info", "--backing-chain", "--output=json", file).stdout)
            assert [os.path.realpath(i["filename"]) for i in told][0] == os.path.realpath(file)


main()
