#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A repository as it lives: backups while guests write, prunes in between, restores; each point that is
there is the disk of its instant, always."""

import os
import random

from backup_rig import BackupRig
from fleece import fleecectl
from rig import MIB, assert_same, content, seed
from tap import main, note, test

LONG = "FLEECE_LONG" in os.environ


def restore_one(rig, rng):
    """One point, by restore."""
    member = rng.choice(rig.members())
    disk = rng.choice(member["disks"])["disk"]
    target = f"{rig.dir}/restored.{rng.choice(('raw', 'qcow2'))}"
    fleecectl("restore", rig.repo, "--until", str(member["id"]), "--disk", disk, "-o", target, "--force")
    if target.endswith(".qcow2"):
        raw = f"{rig.dir}/again.raw"
        fleecectl("restore", target, "-o", raw, "--force")
        os.unlink(target)
        target = raw
    assert_same(content(target), rig.truth[member["session"]][disk], f"{member['id']} {disk}")
    os.unlink(target)


def members_with(rig, disk):
    return [m["id"] for m in rig.members() if any(d["disk"] == disk for d in m["disks"])]


def prune_some(rig, rng):
    keep = rng.randrange(1, 5)
    kept = {disk: members_with(rig, disk)[-keep:] for disk in rig.disks}
    fleecectl("prune", rig.repo, "--keep-last", str(keep))
    for disk, ids in kept.items():
        assert members_with(rig, disk)[-keep:] == ids, (disk, ids)


def back_up(rig, rng):
    rig.write(rng, most=8)
    args = ["--level", rng.choice(("auto", "auto", "auto", "diff", "full"))]
    if rng.random() < .3:
        args += ["--include", rng.choice(list(rig.disks))]
    rig.backup(*args)
    rig.check_server()


@test
def backups_prunes_and_restores_in_any_order():
    rng = random.Random(seed())
    with BackupRig({"vda": 4 * MIB, "vdb": 3 * MIB + 512}) as rig:
        back_up(rig, rng)
        for _ in range(120 if LONG else 12):
            step = rng.choice((back_up, back_up, back_up, prune_some, restore_one))
            note(step.__name__)
            step(rig, rng)
            rig.check_files()
        prune_some(rig, rng)
        for member in rig.members():
            rig.check_member(member)
        fleecectl("verify", rig.repo, "--deep")


@test
def an_increment_is_an_increment_after_a_prune():
    """What the next backup stands on is what prune has left, and no more is read than was written."""
    rng = random.Random(seed())
    with BackupRig("vda") as rig:
        for _ in range(4):
            rig.write(rng, most=4)
            rig.backup()
        fleecectl("prune", rig.repo, "--keep-last", "1")
        assert [d["file"] for m in rig.members() for d in m["disks"]] == ["vda/00003-full.1.qcow2"]
        rig.write(rng, most=1)
        rig.backup()
        assert rig.levels() == {"vda": "inc"} and rig.disk("vda")["parent"] == 3, rig.disk("vda")
        rig.check_files()
        for member in rig.members():
            rig.check_member(member)
        rig.check_server()
        # The checkpoint of a member that is gone is no base any more.
        fleecectl("prune", rig.repo, "--keep-last", "1")
        rig.backup()
        assert rig.levels() == {"vda": "inc"} and rig.disk("vda")["parent"] == 4, rig.disk("vda")
        rig.check()


main()
