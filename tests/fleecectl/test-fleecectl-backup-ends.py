#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl backup where not all is as it was: disks that come, go and grow, bases that are gone,
folders and scratch space that are full, two runs at once, servers that are none of ours."""

import glob
import json
import os
import random
import signal
import subprocess
import threading

from backup_rig import BackupRig
from cut_network import CutNetwork
from failing_folder import FileSystem
from fakeqmp import FakeQmp
from fleece import SOON, fleecectl, tmpdir
from qmp_exports import closing
from rig import KIB, MIB, seed
from tap import main, note, test


def run_json(rig, *args, **more):
    return json.loads(rig.backup("--json", *args, **more).stdout.splitlines()[-1])


def fails(rig, *args, code=1, **more):
    """Run it, and it fails: what it says. Nothing is left of it."""
    before = len(rig.members()) if os.path.exists(f"{rig.repo}/manifest.json") else 0
    run = rig.backup(*args, check=False, **more)
    assert run.returncode == code, run
    if code == 1:
        assert len(rig.members()) == before
        rig.check()
    return run.stderr


def put(rig, disk, byte, offset=0, length=64 * KIB):
    with closing(rig.server.nbd(disk)) as h:
        h.pwrite(byte * length, offset)


# ---- disks ----


@test
def a_disk_that_comes_is_full_and_one_that_goes_is_missing():
    with BackupRig("vda", size=MIB) as rig:
        put(rig, "vda", b"a")
        rig.backup()
        rig.restart(vdb=2 * MIB)
        put(rig, "vda", b"b")
        put(rig, "vdb", b"c")
        done = run_json(rig)
        assert rig.levels() == {"vda": "inc", "vdb": "full"} and done["level"] == "inc", done
        assert done["disks"][1]["reason"] == "there is no backup of it yet", done
        del rig.disks["vda"]
        rig.restart()
        put(rig, "vdb", b"d", MIB)
        rig.backup()
        assert rig.levels() == {"vdb": "inc"}
        rig.restart(vda=MIB)  # an empty image that has its name: another disk
        put(rig, "vda", b"e", 512 * KIB)
        done = run_json(rig)
        assert rig.levels() == {"vda": "full", "vdb": "inc"}, done
        rig.check()


@test
def disks_are_chosen():
    with BackupRig("vda", "vdb", "vdc", size=MIB) as rig:
        rig.backup("--include", "vda", "--include", "vdc")
        assert set(rig.levels()) == {"vda", "vdc"}
        rig.backup("--exclude", "vda")
        assert rig.levels() == {"vdb": "full", "vdc": "inc"}
        put(rig, "vda", b"a")
        rig.backup()
        assert rig.levels() == {"vda": "inc", "vdb": "inc", "vdc": "inc"}
        assert [rig.disk(name)["parent"] for name in ("vda", "vdb")] == [0, 1]
        rig.check()
        assert "disk vdx: no such disk; the server has vda, vdb, vdc" in fails(rig, "--include", "vdx")
        words = [w for name in rig.disks for w in ("--exclude", name)]
        assert "there is no disk to be backed up" in fails(rig, *words)


@test
def a_disk_that_is_resized_is_backed_up_with_its_new_size():
    rng = random.Random(seed())
    with BackupRig("vda", size=4 * MIB) as rig, rig.qmp() as q:
        rig.write(rng)
        put(rig, "vda", b"a", 3 * MIB, MIB)
        rig.backup()
        for size in (6 * MIB + 512, 2 * MIB, 4 * MIB, MIB + 64 * KIB - 512, 8 * MIB):
            q.cmd("block_resize", **{"node-name": "vda"}, size=size)
            rig.backup(*rng.choice([[], ["--level", "diff"]]))
            assert rig.disk("vda")["level"] != "full" and rig.disk("vda")["size"] == size
            rig.write(rng)
        # Smaller and larger again between two backups: what was cut off reads as zeroes.
        put(rig, "vda", b"b", 7 * MIB, MIB)
        rig.backup()
        for size in MIB, 8 * MIB:
            q.cmd("block_resize", **{"node-name": "vda"}, size=size)
        rig.backup()
        assert rig.disk("vda")["level"] == "inc"
        rig.check()


@test
def a_disk_that_grows_meanwhile_has_the_size_of_its_instant():
    with BackupRig("vda", size=MIB) as rig:
        def grow(request, reply):
            if request["execute"] == "backup-begin":
                with rig.qmp() as q:
                    q.cmd("block_resize", **{"node-name": "vda"}, size=2 * MIB)
                put(rig, "vda", b"z", MIB)
            return reply

        rig.backup(after=grow)
        assert rig.disk("vda")["size"] == MIB
        rig.backup()
        assert rig.disk("vda")["size"] == 2 * MIB and rig.disk("vda")["level"] == "inc"
        rig.check()


# ---- bases ----


@test
def without_a_state_folder_the_next_server_gives_all_in_full():
    with BackupRig("vda", size=MIB, state=False) as rig:
        rig.backup()
        put(rig, "vda", b"a")
        assert run_json(rig)["level"] == "inc"
        rig.restart()
        put(rig, "vda", b"b")
        done = run_json(rig)
        assert done["level"] == "full", done
        assert "backup 1: the server has no checkpoint backup-" in done["disks"][0]["reason"], done
        assert "no incremental backup is possible" not in fails(rig, "--since", "7")
        rig.restart()
        assert "disk vda: no incremental backup is possible: backup 2: the server has no checkpoint" \
            in fails(rig, "--level", "inc")
        rig.check()


@test
def a_file_that_is_missing_or_cut_is_no_base():
    with BackupRig("vda", "vdb", size=MIB) as rig:
        for byte in b"a", b"b", b"c":
            put(rig, "vda", byte)
            rig.backup()
        file = f"{rig.repo}/{rig.disk('vda')['file']}"
        os.rename(file, f"{rig.dir}/away")
        put(rig, "vda", b"d")
        done = run_json(rig)
        assert [d["parent"] for d in done["disks"]] == [1, 2], done
        assert done["notes"] == ["disk vda: it is put on backup 1, because nothing newer can be used: "
                                 "backup 2: vda/00002-inc.qcow2: No such file or directory"], done
        rig.check_member(rig.newest())
        os.rename(f"{rig.dir}/away", file)
        rig.check()
        # Below the newest, in the chain of them all.
        os.truncate(f"{rig.repo}/vda/00000-full.qcow2", 1000)
        put(rig, "vda", b"e")
        done = run_json(rig)
        assert rig.levels() == {"vda": "full", "vdb": "inc"}, done
        assert "backup 3: vda/00000-full.qcow2 has 1000 bytes, not " in done["disks"][0]["reason"], done
        rig.check_member(rig.newest())


@test
def what_verify_has_found_damaged_is_no_base():
    with BackupRig("vda", "vdb", size=MIB) as rig:
        for byte in b"a", b"b":
            put(rig, "vda", byte)
            rig.backup()

        def flip(member):
            d = rig.disk("vda", rig.members()[member])
            with open(f"{rig.repo}/{d['file']}", "r+b") as f:
                f.seek(d["bytes"] - 1)
                byte = f.read(1)[0]
                f.seek(d["bytes"] - 1)
                f.write(bytes([byte ^ 1]))

        def verify(code):
            assert fleecectl("verify", "--deep", rig.repo, check=False).returncode == code

        flip(1)
        verify(1)
        put(rig, "vda", b"c")
        done = run_json(rig)
        assert [d["parent"] for d in done["disks"]] == [0, 1], done
        note, = done["notes"]
        assert note.startswith("disk vda: it is put on backup 0, because nothing newer can be used: backup 1: "
                               "verify of 20") and note.endswith(" found vda/00001-inc.qcow2 damaged"), note
        rig.check_member(rig.newest())
        # The file below all of them.
        flip(0)
        verify(1)
        run = rig.backup("--level", "inc", check=False)
        assert run.returncode == 1 and "found vda/00000-full.qcow2 damaged" in run.stderr, run
        done = run_json(rig)
        assert rig.levels() == {"vda": "full", "vdb": "inc"}, done
        assert "found vda/00000-full.qcow2 damaged" in done["disks"][0]["reason"], done
        rig.check_member(rig.newest())
        # They are whole again, and verify says so.
        flip(0)
        flip(1)
        verify(0)
        assert run_json(rig, "--since", "1", "--include", "vda", "--level", "auto")["notes"] == []


@test
def a_disk_that_is_not_there_is_neither_included_nor_excluded():
    with BackupRig("vda", size=MIB) as rig:
        rig.backup()
        for word in "--include", "--exclude":
            assert "nosuch" in fails(rig, word, "nosuch"), word


@test
def a_checkpoint_that_is_deleted_meanwhile_makes_it_full():
    """The plan saw it; when the session begins, it is gone."""
    with BackupRig("vda", size=MIB) as rig:
        rig.backup()

        def delete(request):
            if request["execute"] == "backup-begin":
                with rig.qmp() as q:
                    q.cmd("checkpoint-delete", name=rig.newest()["checkpoint"])
            return request

        put(rig, "vda", b"a")
        done = run_json(rig, before=delete)
        assert done["level"] == "full" and "there is no checkpoint" in done["disks"][0]["reason"], done
        rig.check()
        assert "no incremental backup is possible" in fails(rig, "--level", "inc", before=delete)


@test
def checkpoints_that_are_spare_are_deleted():
    with BackupRig("vda", "vdb", size=MIB) as rig, rig.qmp() as q:
        q.cmd("checkpoint-create", name="mine")
        for _ in range(4):
            rig.backup("--checkpoint-keep", "3")
        assert len(q.cmd("query-checkpoints")) == 1 + 4  # the full one's, and three
        rig.backup("--checkpoint-keep", "1", "--include", "vda")
        # Of backup 0 (both full), of 3 (vdb's newest), of 4 (vda's newest).
        left = [m["id"] for m in rig.members() if m["checkpoint"]]
        assert left == [0, 3, 4], left
        names = {c["name"] for c in q.cmd("query-checkpoints")}
        assert names == {"mine"} | {m["checkpoint"] for m in rig.members() if m["checkpoint"]}
        rig.check()
        # One that somebody uses cannot be deleted: the backup is there, and says so.
        q.cmd("backup-begin", id="other", since=rig.newest()["checkpoint"])
        rig.backup("--checkpoint-keep", "1", "--include", "vda", check=False)
        run = rig.backup("--checkpoint-keep", "1", "--include", "vda", check=False)
        assert run.returncode == 3 and "backup 6 is in the repository, but" in run.stderr, run
        q.cmd("backup-end", id="other", result="abort")
        rig.backup("--checkpoint-keep", "1", "--include", "vda")
        assert [m["id"] for m in rig.members() if m["checkpoint"]] == [0, 3, 7]
        rig.check()


@test
def copies_of_a_repository_never_take_one_instant_for_another():
    """Both have the same names for what they do next, but for the part that is drawn."""
    with BackupRig("vda", size=MIB) as rig:
        rig.backup()
        copy = f"{rig.dir}/copy"
        subprocess.run(["cp", "-a", rig.repo, copy], check=True)
        put(rig, "vda", b"a")
        rig.backup()
        first, rig.repo = rig.repo, copy
        put(rig, "vda", b"b", 128 * KIB)
        rig.backup()
        rig.repo = first
        put(rig, "vda", b"c", 256 * KIB)
        done = run_json(rig)
        assert done["disks"][0]["parent"] == 0, done  # the copy has deleted the other's checkpoint
        for member in rig.members():
            rig.check_member(member)


# ---- no room ----


@test
def a_full_repository_fails_and_leaves_nothing():
    rng = random.Random(seed())
    with tmpdir() as d:
        space = FileSystem(d, "tmpfs", 3 * MIB)
        try:
            with BackupRig("vda", "vdb", size=4 * MIB, repository=f"{space.path}/repo") as rig:
                put(rig, "vda", b"a", 0, MIB)
                rig.backup()
                put(rig, "vdb", rng.randbytes(4 * MIB), 0, 1)
                errors = fails(rig)
                assert "disk vdb: " in errors and "No space left on device" in errors, errors
                put(rig, "vdb", b"\0", 0, 4 * MIB)
                put(rig, "vda", b"b")
                assert run_json(rig)["level"] == "inc"
                rig.check()
        finally:
            space.unmount()


@test
def full_scratch_space_fails_with_the_reason():
    rng = random.Random(seed())
    with BackupRig("vda", size=8 * MIB, options=["--scratch-limit", "1M"]) as rig:
        put(rig, "vda", rng.randbytes(4 * MIB), 0, 1)
        rig.backup()
        put(rig, "vda", rng.randbytes(4 * MIB), 0, 1)

        def overwrite(request, reply):
            if request["execute"] == "backup-begin":
                put(rig, "vda", b"x", 0, 4 * MIB)
            return reply

        errors = fails(rig, after=overwrite)
        note(errors)
        assert "scratch" in errors, errors
        assert run_json(rig)["level"] == "inc"
        rig.check()


# ---- the network ----


def through(net):
    """A hook by which the session's exports are read through a network."""
    def change(request, reply):
        if request["execute"] == "query-backups":
            for d in (d for session in reply["return"] for d in session["disks"]):
                d["uri"] = f"{d['uri'].split('socket=')[0]}socket={net.path}"
        return reply

    return change


@test
def connections_that_break_are_made_anew():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb", size=4 * MIB) as rig:
        for disk in rig.disks:
            put(rig, disk, rng.randbytes(4 * MIB), 0, 1)
        with CutNetwork(f"{rig.dir}/net", rig.server.socket, [100_000, 3 * MIB, 6 * MIB]) as net:
            rig.backup("--connections", rng.choice("14"), after=through(net))
            assert net.cuts == 3
        rig.check()


@test
def a_first_connection_that_breaks_is_made_anew():
    with BackupRig("vda", size=MIB) as rig:
        put(rig, "vda", b"a", 0, MIB)
        with CutNetwork(f"{rig.dir}/net", rig.server.socket, [1, 300]) as net:
            rig.backup(after=through(net))
            assert net.cuts == 2
        rig.check()


@test
def a_network_that_stays_away_fails_and_leaves_nothing():
    rng = random.Random(seed())
    with BackupRig("vda", size=4 * MIB) as rig:
        rig.backup()
        put(rig, "vda", rng.randbytes(4 * MIB), 0, 1)
        with CutNetwork(f"{rig.dir}/net", rig.server.socket, [MIB], for_good=True) as net:
            run = rig.backup("--retry", "1", after=through(net), check=False)
        assert run.returncode == 4 and "disk vda: " in run.stderr, run
        assert len(rig.members()) == 1
        rig.check()
        assert run_json(rig)["level"] == "inc"
        rig.check()


# ---- others ----


@test
def a_session_that_somebody_ends_fails_with_the_reason():
    with BackupRig("vda", size=4 * MIB) as rig:
        put(rig, "vda", b"a", 0, 4 * MIB)
        rig.backup()
        put(rig, "vda", b"b", 0, 4 * MIB)

        def abort(request, reply):
            if request["execute"] == "query-backups" and len(rig.truth) == 2:
                with rig.qmp() as q:
                    for s in q.cmd("query-backups"):
                        if s["state"] == "active":
                            q.cmd("backup-end", id=s["id"], result="abort")
            return reply

        errors = fails(rig, after=abort)
        note(errors)
        assert "session" in errors or "export" in errors, errors
        assert run_json(rig)["level"] == "inc"
        rig.check()


@test
def a_session_that_is_being_ended_is_waited_for():
    """The server has begun to end it, refuses backup-end, and ends it then. The proxy plays that."""
    with BackupRig("vda", size=MIB) as rig, rig.qmp() as q:
        rig.backup()
        refused = []

        def hold_back(request):
            if request["execute"] == "backup-end" and not refused:
                refused.append(request["arguments"]["id"])
                return {"execute": "query-version"}
            return request

        def refuse(request, reply):
            if request["execute"] == "backup-begin":
                rig.process.send_signal(signal.SIGINT)
            elif request["execute"] == "backup-end" and "qemu" in reply.get("return", ""):
                return {"error": {"class": "GenericError", "desc": "is being aborted: no space"}}
            elif request["execute"] == "query-backups" and refused:
                # The event of its end comes behind this reply.
                q.cmd("backup-end", id=refused[0], result="abort")
            return reply

        with rig.running(before=hold_back, after=refuse) as process:
            _, errors = process.communicate(timeout=SOON)
        assert process.returncode == 1 and "is being aborted: no space" in errors, errors
        rig.check()


@test
def two_runs_at_once_are_one():
    with BackupRig("vda", size=MIB) as rig:
        rig.backup()
        waiting, go_on = threading.Event(), threading.Event()

        def hold(request, reply):
            if request["execute"] == "backup-begin":
                waiting.set()
                assert go_on.wait(SOON)
            return reply

        with rig.running(after=hold) as process:
            try:
                assert waiting.wait(SOON)
                second = rig.status("backup", "-o", rig.repo, check=False)
                assert second.returncode == 1 and str(process.pid) in second.stderr, second
            finally:
                go_on.set()
            assert process.wait(SOON) == 0
        rig.check()


@test
def a_lease_is_renewed():
    with BackupRig("vda", size=4 * MIB) as rig:
        put(rig, "vda", b"a", 0, 4 * MIB)
        renewed = threading.Event()

        def look(request):
            if request["execute"] == "backup-renew":
                renewed.set()
            return request

        with rig.running("--lease", "20", "--rate-limit", "256K", before=look) as process:
            assert renewed.wait(SOON)
            process.send_signal(signal.SIGINT)
            assert process.wait(SOON) == 1
        assert json.loads(rig.status("--json", "session", "list").stdout)[-1]["lease"] == 20
        with rig.running("--lease", "0", "--rate-limit", "64M", before=look) as process:
            assert process.wait(SOON) == 0
        rig.check()


@test
def a_session_that_is_resumed_is_renewed_by_its_own_lease():
    with BackupRig("vda", size=4 * MIB) as rig:
        put(rig, "vda", b"a", 0, 4 * MIB)

        def interrupt(request, reply):
            if request["execute"] == "backup-begin":
                rig.process.send_signal(signal.SIGINT)
            return reply

        with rig.running("--lease", "32", "--resume", after=interrupt) as process:
            assert process.wait(SOON) == 1
        times, renewed = [], threading.Event()

        def look(request):
            if request["execute"] == "backup-renew":
                times.append(request)
                if len(times) == 2:
                    renewed.set()
            return request

        # By the lease of this run's own, the second renewal would come after a quarter of an hour.
        with rig.running("--lease", "3600", "--resume", "--rate-limit", "256K", before=look) as process:
            assert renewed.wait(SOON)
            process.send_signal(signal.SIGTERM)
            assert process.wait(SOON) == 1
        rig.backup("--resume")
        rig.check()


@test
def other_servers_are_refused_in_plain_words():
    with tmpdir() as d:
        with FakeQmp() as fake:
            run = fleecectl("-C", fake.path, "backup", "-o", f"{d}/repo", check=False)
            assert run.returncode == 1 and "has no backup sessions" in run.stderr, run
        run = fleecectl("-C", f"{d}/none", "backup", "-o", f"{d}/repo", check=False)
        assert run.returncode == 4, run
        assert glob.glob(f"{d}/repo/*.partial") == []


@test
def wrong_command_lines_are_refused():
    for words in ([], ["-o", "r", "--level", "most"], ["-o", "r", "--jobs", "0"],
                  ["-o", "r", "--rate-limit", "fast"], ["-o", "r", "--since", "-1"],
                  ["-o", "r", "--level", "full", "--since", "1"],
                  ["-o", "r", "--checkpoint-keep", "0"], ["-o", "r", "word"]):
        run = fleecectl("-C", "/nonexistent", "backup", *words, check=False)
        assert run.returncode == 2, (words, run)


if __name__ == "__main__":
    main()
