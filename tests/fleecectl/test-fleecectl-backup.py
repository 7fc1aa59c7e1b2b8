#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl backup: chains of backups under writes, each the disks of its instant."""

import contextlib
import json
import random

from backup_rig import BackupRig
from qmp_exports import closing
from rig import KIB, MIB, seed
from tap import main, note, test


def result(process):
    """What --json has printed at its end."""
    return json.loads(process.stdout.splitlines()[-1])


def run_json(rig, *args, **more):
    return result(rig.backup("--json", *args, **more))


@test
def the_first_is_full_and_the_next_has_what_has_changed():
    with BackupRig("vda", "vdb") as rig, closing(rig.server.nbd("vda")) as h:
        h.pwrite(b"a" * MIB, 0)
        first = run_json(rig)
        assert first["id"] == 0 and first["level"] == "full", first
        assert rig.levels() == {"vda": "full", "vdb": "full"}
        assert [d["read"] for d in first["disks"]] == [MIB, 0], first
        assert first["disks"][0]["file"] == "vda/00000-full.qcow2", first
        assert first["disks"][0]["reason"] == "there is no backup of it yet", first
        h.pwrite(b"b" * 512, 3 * MIB)
        h.zero(64 * KIB, 0)
        second = run_json(rig)
        assert second["id"] == 1 and rig.levels() == {"vda": "inc", "vdb": "inc"}, second
        # Zeroes are not read.
        assert [d["read"] for d in second["disks"]] == [64 * KIB, 0], second
        assert [d["parent"] for d in second["disks"]] == [0, 0], second
        assert second["disks"][0]["since"] == first["checkpoint"], second
        rig.check()
        text = rig.backup().stdout
        assert "backup       2, of 20" in text and "vda/00002-inc.qcow2" in text, text
        rig.check()


@test
def a_chain_of_twenty_under_writes_is_each_instant():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb") as rig:
        with contextlib.ExitStack() as stack:
            for disk in rig.disks:
                hot = [(0, 2 * MIB), (5 * MIB, 6 * MIB)]
                stack.enter_context(rig.writer(disk, random.Random(rng.random()), depth=2, hot=hot))
            for _ in range(21):
                rig.backup()
        levels = [m["level"] for m in rig.members()]
        assert levels == ["full"] + 20 * ["inc"], levels
        assert len({t["vda"] for t in rig.truth.values()}) == 21, "the guest did not write"
        rig.check()
        # Of the server's checkpoints there are the newest two, and the full backup's.
        names = [m["checkpoint"] for m in rig.members() if m["checkpoint"]]
        assert names == [rig.members()[i]["session"] for i in (0, 19, 20)], names


@test
def levels_in_any_order_are_each_instant():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=4 * MIB) as rig:
        rig.backup()
        for _ in range(25):
            rig.write(rng, most=rng.randrange(1, 20))
            level = rng.choice(["auto", "auto", "full", "inc", "diff"])
            words = ["--level", level, "--checkpoint-keep", str(rng.randrange(1, 4))]
            if level != "full" and rng.random() < 0.3:
                words += ["--since", str(rng.choice([m["id"] for m in rig.members()
                                                     if m["checkpoint"]]))]
                words[1] = "auto" if level == "diff" else level
            if rng.random() < 0.2:
                words += ["--exclude", rng.choice(["vda", "vdb"])]
            before = rig.members()
            if rig.backup(*words, check=False).returncode != 0:
                # A base that the excluded disk's backups have is none for the other.
                assert level == "inc" and "--since" in words, words
                assert rig.members() == before
                continue
            note(f"{' '.join(words)}: {rig.levels()}")
            if level == "diff" and "--since" not in words:
                parents = {d["parent"] for d in rig.newest()["disks"]}
                assert parents <= {m["id"] for m in rig.members()
                                   if "full" in rig.levels(m).values()}, parents
        rig.check()


@test
def compression_and_many_connections_make_no_difference():
    rng = random.Random(seed())
    with BackupRig({"vda": 8 * MIB + 512, "vdb": 64 * KIB - 512, "vdc": 3 * MIB}) as rig:
        for words in (["--connections", "1"], ["--jobs", "3", "--connections", "8"],
                      ["--jobs", "1"], ["--rate-limit", "64M"], ["--compress"],
                      ["--compress=zlib:9"], ["--compress", "--level", "full"]):
            rig.write(rng)
            rig.backup(*words)
        rig.check()
        sizes = [rig.disk("vda", m)["bytes"] for m in rig.members()]
        rig.backup("--level", "full")
        assert sizes[-1] < rig.disk("vda")["bytes"], sizes


if __name__ == "__main__":
    main()
