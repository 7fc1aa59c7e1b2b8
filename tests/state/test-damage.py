#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The files of a state folder, and those in memory, are damaged while no server runs. No bitmap is
clean then where the disk has changed; what cannot be known is inconsistent, and says why."""

import glob
import os
import shutil

from failing_folder import kept, one, rig
from fleece import run
from tap import main, note, test


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


@test
def a_catalogue_that_is_damaged():
    """Without it nobody knows which bitmaps there were: the server does not start as if there had
    been none."""
    damage = {"gone": os.unlink, "empty": lambda path: os.truncate(path, 0),
              "cut": lambda path: os.truncate(path, 4096), "flipped": lambda path: flip(path, 3)}
    for what, harm in damage.items():
        with rig() as (r, _, _):
            r.guest.h.shutdown()
            r.server.stop()
            for other in glob.glob(f"{r.state}/catalogue.db-*"):
                os.unlink(other)
            harm(f"{r.state}/catalogue.db")
            refused = run(*r.server.command(), check=False)
            note(f"{what}: {refused.stderr.strip()}")
            assert refused.returncode == 1 and "catalogue" in refused.stderr, (what, refused)


# What happens to the folder while no server runs: {what: (function, must a bitmap be inconsistent
# after a process's death, and after a power loss?)}.
DAMAGE = {
    "the journal is gone": (lambda r: os.unlink(f"{r.state}/intent"), False, True),
    "the journal is empty": (lambda r: os.truncate(f"{r.state}/intent", 0), False, True),
    "the journal is cut": (lambda r: os.truncate(f"{r.state}/intent", 1000), False, True),
    "a bit of the journal flips": (lambda r: flip(f"{r.state}/intent", 100), False, True),
    "the bits are gone": (lambda r: os.unlink(one(r, "bits/*")), True, True),
    "the bits are cut": (lambda r: os.truncate(one(r, "bits/*"), 4096), True, True),
    "a bit in the head of the bits flips": (lambda r: flip(one(r, "bits/*"), 20), True, True),
    "the lease is gone": (lambda r: os.unlink(f"{r.state}/live"), False, True),
    "the bits in memory are gone": (lambda r: os.unlink(kept(r, "bits/*")), False, False),
    "the bits in memory are cut": (lambda r: os.truncate(kept(r, "bits/*"), 4096), False, False),
    "a bit in the head of the bits in memory flips":
        (lambda r: flip(kept(r, "bits/*"), 20), False, False),
    "the note in memory is gone": (lambda r: os.unlink(kept(r, "note")), False, False),
    "a bit of the note in memory flips": (lambda r: flip(kept(r, "note"), 0), False, False),
    "the lines in memory are gone": (lambda r: os.unlink(kept(r, "live")), False, False),
    "the lines in memory are cut": (lambda r: os.truncate(kept(r, "live"), 100), False, False),
}


def damaged(power_lost):
    wrong = []
    for what, (damage, after_death, after_power_loss) in DAMAGE.items():
        with rig() as (r, _, _):
            r.server.kill()
            damage(r)
            if power_lost:
                r.forget()
            r.start()
            b = r.judge()
            if (after_power_loss if power_lost else after_death) and not b.get("inconsistent"):
                wrong.append(f"{what}: not inconsistent")
    note(f"corrupted files: {len(DAMAGE)}, wrong: {len(wrong)}")
    assert not wrong, wrong


@test
def damage_after_a_process_died():
    damaged(False)


@test
def damage_after_a_power_loss():
    damaged(True)


@test
def bits_that_were_changed_after_a_clean_stop():
    with rig() as (r, _, _):
        r.guest.h.shutdown()
        r.server.stop()
        # The guest's first block is in it.
        path = one(r, "bits/*")
        with open(path, "r+b") as f:
            f.seek(4096)
            f.write(bytes(512))
        r.start()
        assert r.judge().get("inconsistent")


@test
def a_folder_of_another_time():
    """The folder is restored from a copy that was made earlier, while the disk went on."""
    with rig() as (r, _, _):
        r.guest.h.shutdown()
        r.server.stop()
        shutil.copytree(r.state, f"{r.folder}/earlier")
        r.start()
        r.guest.h = r.server.nbd("vda")
        for _ in range(3):
            assert r.guest.write() == 0
        r.guest.h.shutdown()
        r.server.stop()
        shutil.rmtree(r.state)
        os.rename(f"{r.folder}/earlier", r.state)
        r.start()
        assert r.judge().get("inconsistent")


main()
