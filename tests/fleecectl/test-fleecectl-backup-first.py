#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A first backup that fails: what it has made goes, and nothing else; the next one works."""

import os
import random
import shutil
import signal

from backup_rig import STEPS, BackupRig
from failing_folder import FileSystem
from fleece import SANITIZER, fleecectl, tmpdir
from qmp_exports import closing
from rig import MIB, seed
from tap import main, note, skip, test

# One disk after the other, by one thread: the same steps each time.
IN_ORDER = ["--jobs", "1", "--connections", "1"]


def steps(**variables):
    """An environment in which a run dies, or fails, at a step."""
    if SANITIZER != "no":
        skip("a sanitizer's runtime has to be loaded first")
    return {"LD_PRELOAD": STEPS, **{f"FLEECE_STEP_{k.upper()}": str(v) for k, v in variables.items()}}


def fill(rig, disk="vda", length=MIB):
    with closing(rig.server.nbd(disk)) as h:
        h.pwrite(random.Random(seed()).randbytes(length), 0)


def no_session(rig):
    with rig.qmp() as q:
        assert not [s for s in q.cmd("query-backups") if s["state"] == "active"]


@test
def a_wrong_word_leaves_nothing():
    with BackupRig("vda", size=MIB) as rig:
        for words in (["--include", "nosuch"], ["--level", "inc"], ["--exclude", "vda"], ["--since", "3"]):
            run = rig.backup(*words, check=False)
            assert run.returncode == 1 and not os.path.exists(rig.repo), (run, os.listdir(rig.dir))
        # An empty folder of somebody else stays, and is empty.
        os.mkdir(rig.repo, 0o750)
        run = rig.backup("--include", "nosuch", check=False)
        assert run.returncode == 1 and os.listdir(rig.repo) == [], os.listdir(rig.repo)
        assert os.stat(rig.repo).st_mode & 0o777 == 0o750
        # A repository that was there stays, also an empty one.
        rig.backup()
        rig.backup("--include", "nosuch", check=False)
        rig.check()
        assert len(rig.members()) == 1


@test
def a_folder_of_other_things_gets_no_lock():
    with BackupRig("vda", size=MIB) as rig:
        os.mkdir(rig.repo)
        with open(f"{rig.repo}/holiday.jpg", "wb"):
            pass
        for words in (["backup", "-o"], ["verify"], ["list"], ["prune", "--keep-last", "1"],
                      ["restore", "-o", f"{rig.dir}/x"]):
            run = rig.status(*words, rig.repo, check=False)
            assert run.returncode == 1 and "is no repository" in run.stderr, run
            assert os.listdir(rig.repo) == ["holiday.jpg"], os.listdir(rig.repo)


@test
def a_server_that_dies():
    rng = random.Random(seed())
    with BackupRig("vda", size=MIB) as rig:
        for command, stays in ("query-named-block-nodes", False), ("query-checkpoints", False), ("query-backups", True):
            seen = []

            def die(request):
                seen.append(request["execute"])
                if request["execute"] != command:
                    return request
                rig.kill()
                return None

            run = rig.backup(before=die, check=False)
            assert run.returncode == 4 and command in seen, (run, seen)
            # The next run has to know of a session that may be there.
            assert os.path.exists(f"{rig.repo}/running.json") == os.path.exists(rig.repo) == stays, command
            rig.restart()
        rig.write(rng)
        rig.backup()
        rig.check()


@test
def a_target_that_is_full():
    with tmpdir() as d:
        space = FileSystem(d, "tmpfs", 2 * MIB)
        try:
            with BackupRig("vda", "vdb", size=4 * MIB, repository=f"{space.path}/repo") as rig:
                fill(rig, "vda")
                fill(rig, "vdb", 4 * MIB)
                run = rig.backup(*IN_ORDER, check=False)
                assert run.returncode == 1 and "No space left on device" in run.stderr, run
                assert os.listdir(space.path) == [], os.listdir(space.path)
                no_session(rig)
                rig.backup("--include", "vda")
                rig.check()
        finally:
            space.unmount()


def without_checkpoints(rig):
    """What a repository that is thrown away leaves on the server."""
    with rig.qmp() as q:
        for c in q.cmd("query-checkpoints"):
            q.cmd("checkpoint-delete", name=c["name"])


@test
def each_step_fails():
    with BackupRig("vda", "vdb", size=MIB) as rig:
        fill(rig)
        for n in range(1, 1000):
            log = f"{rig.dir}/steps{n}"
            run = rig.backup(*IN_ORDER, check=False, env={**steps(fail=n), "FLEECE_STEPS": log})
            with open(log, encoding="utf-8") as f:
                done = f.readlines()
            if len(done) < n:
                assert run.returncode == 0, run
                break
            if done[n - 1].startswith("link "):  # it is done in another way
                assert run.returncode == 0, run
            else:
                assert run.returncode in (1, 3, 4) and run.stderr.startswith("fleecectl: "), (n, run)
            if run.returncode == 1:
                assert not os.path.exists(rig.repo), (n, done[n - 1], run.stderr, os.listdir(rig.repo))
            rig.backup()
            rig.check()
            shutil.rmtree(rig.repo)
            without_checkpoints(rig)
        note(f"{n - 1} steps")
        assert n > 30, n


def linked(rig):
    """The folder of vda is elsewhere: where."""
    there = f"{rig.dir}/there"
    os.makedirs(there, exist_ok=True)
    rig.backup("--include", "vdb")
    os.symlink(there, f"{rig.repo}/vda")
    return there


@test
def a_folder_that_is_a_link_is_cleaned_as_well():
    with BackupRig("vda", "vdb", size=MIB) as rig:
        there = linked(rig)
        named = "00001-full.qcow2"
        for step in f"fsync {rig.repo}/vdb", f"rename {rig.repo}/vdb/00001-inc.qcow2":
            env = steps(fail=step)
            run = rig.backup(*IN_ORDER, check=False, env=env)
            assert run.returncode == 1, run
            assert os.listdir(there) == [] and os.path.islink(f"{rig.repo}/vda"), os.listdir(there)
            rig.check()
        for step in (f"behind rename {rig.repo}/vda/{named}.sums",
                     f"rename {rig.repo}/vdb/00001-inc.qcow2", f"rename {rig.repo}/vda/{named}"):
            run = rig.backup(*IN_ORDER, check=False, env=steps(kill=step))
            assert run.returncode == -signal.SIGKILL and os.listdir(there), (step, run)
            # The next one fails, too, but removes what both have left.
            run = rig.backup(*IN_ORDER, check=False, env=steps(fail=f"rename {rig.repo}/vdb/00001-inc.qcow2"))
            assert run.returncode == 1 and os.listdir(there) == [], (step, run, os.listdir(there))
        # A whole one of which the record does not say that it is done may be somebody else's: it stays.
        run = rig.backup(*IN_ORDER, check=False, env=steps(kill=f"behind rename {rig.repo}/vda/{named}"))
        assert run.returncode == -signal.SIGKILL, run
        run = rig.backup(*IN_ORDER, check=False)
        assert run.returncode == 1 and f"{named}: it exists, and is in no backup" in run.stderr, run
        assert sorted(os.listdir(there)) == [named, f"{named}.sums"], os.listdir(there)
        for name in os.listdir(there):
            os.unlink(f"{there}/{name}")
        rig.backup()
        assert rig.levels() == {"vda": "full", "vdb": "inc"}
        assert sorted(os.listdir(there)) == [named, f"{named}.sums"], os.listdir(there)
        for member in rig.members():
            rig.check_member(member)


@test
def what_was_in_such_a_folder_before_stays():
    with BackupRig("vda", "vdb", size=MIB) as rig:
        there = linked(rig)
        for name in "00001-full.qcow2", "00001-full.qcow2.sums":
            with open(f"{there}/{name}", "w", encoding="utf-8") as f:
                f.write("somebody's")
            for _ in range(2):
                run = rig.backup(*IN_ORDER, check=False)
                assert run.returncode == 1 and f"{name}: it exists" in run.stderr, run
                assert os.listdir(there) == [name], os.listdir(there)
                rig.check()
            os.unlink(f"{there}/{name}")
        # In a folder of another repository it cannot be told whose a file is: it stays.
        other = f"{rig.dir}/other"
        fleecectl("-C", rig.server.qmp_path, "backup", "-o", other, "--include", "vda")
        os.unlink(f"{rig.repo}/vda")
        os.symlink(f"{other}/vda", f"{rig.repo}/vda")
        before = sorted(os.listdir(f"{other}/vda"))
        run = rig.backup(*IN_ORDER, check=False, env=steps(fail=f"rename {rig.repo}/vdb/00001-inc.qcow2"))
        assert run.returncode == 1, run
        named = {"00001-full.qcow2", "00001-full.qcow2.sums"}
        assert set(os.listdir(f"{other}/vda")) == {*before, *named}, os.listdir(f"{other}/vda")
        assert fleecectl("verify", "--deep", other).returncode == 0


if __name__ == "__main__":
    main()
