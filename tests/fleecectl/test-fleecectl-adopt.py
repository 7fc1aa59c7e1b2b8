#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl state adopt and forget: disks with other names, images or folders than they had."""

import contextlib
import json
import os
import shutil
import sqlite3

from fleece import fleecectl, nbdfleece, tmpdir
from statectl import K, M, bitmaps_of, ctl, in_order, listed, served, state, told
from tap import main, test


@test
def checkpoints_follow_a_disk_that_is_renamed():
    with state("clean") as folder:
        ctl("state", "adopt", folder, "vda", "root")
        said = told(folder)
        assert [c["disks"] for c in said["checkpoints"]] == [
            [{"disk": "root"}, {"disk": "vdb"}], [{"disk": "root", "bitmap": "missing"}], [],
            [{"disk": "vdc", "bitmap": "missing"}]], said
        assert [c["time-usec"] for c in said["checkpoints"][:2]] == [
            1700000000000000, 1700000001000000], said
        assert [s["disks"] for s in said["sessions"]] == [
            [{"disk": "root"}, {"disk": "vdb"}], [{"disk": "root"}],
            [{"disk": "root"}, {"disk": "vdb"}]], said
        # Nothing but a text: the records of disks with other names stay as they are.
        ctl("state", "adopt", folder, "root", "root")
        assert told(folder)["checkpoints"] == said["checkpoints"]


@test
def records_forget_a_disk_that_is_forgotten():
    """Another disk that gets its name has no part in them. What names no other disk goes."""
    with state("clean") as folder:
        ctl("state", "forget", folder, "vda")
        for name in "vdb", "vda":
            ctl("state", "adopt", folder, "vdb", name)
            said = told(folder)
            assert [(c["name"], [d["disk"] for d in c["disks"]]) for c in said["checkpoints"]] == [
                ("a", [name]), ("odd", []), ("lost", ["vdc"])], said
            assert [(s["id"], s["state"], s["disks"], s.get("reason")) for s in said["sessions"]] == [
                ("s0", "committed", [{"disk": name}], None),
                ("s2", "aborted", [{"disk": name}], "the state folder has forgotten disk vda")], said
        in_order(folder)
        with contextlib.closing(sqlite3.connect(f"{folder}/catalogue.db")) as db:
            [[text]] = db.execute("SELECT text FROM records WHERE name = 'a'").fetchall()
        assert (json.loads(text)["disks"], json.loads(text)["disk-ids"]) == (["vda"], [2]), text


@test
def checkpoints_of_disks_that_exchange_names():
    """The one that was set aside gets its name back: a record names each disk once."""
    with state("failed") as folder:
        ctl("state", "adopt", folder, "vdb", "vda")
        ctl("state", "adopt", folder, "vda-replaced", "vda")
        said = told(folder)
        assert [d["name"] for d in said["disks"]] == ["vda", "vda-replaced"], said
        assert [d["disk"] for d in said["checkpoints"][0]["disks"]] == ["vda"], said


@test
def checkpoints_of_a_disk_that_was_set_aside():
    """A wrong image was served under its name, once. What becomes of that one says nothing of the disk."""
    def parts(folder):
        return [[d["disk"] for d in c["disks"]] for c in told(folder)["checkpoints"]]

    for away in ("forget", "vda"), ("adopt", "vda", "wrong"):
        with tmpdir() as top:
            folder = f"{top}/state"
            with served(top) as s:
                fleecectl("-C", s.qmp_path, "checkpoint", "create", "mon")
            with served(top, image="wrong.raw") as s:
                assert s.qmp().cmd("query-block")
            assert [d["name"] for d in told(folder)["disks"]] == ["vda-replaced", "vda"]
            ctl("state", away[0], folder, *away[1:])
            assert parts(folder) == [["vda"]]
            ctl("state", "adopt", folder, "vda-replaced", "vda")
            assert parts(folder) == [["vda"]]
            with served(top) as s:
                fleecectl("-C", s.qmp_path, "session", "begin", "b", "--since", "mon", "--strict")


@test
def a_checkpoint_of_a_disk_whose_row_is_lost():
    """A disk that is given its name is none of the checkpoint's."""
    with state("clean") as folder:
        ctl("state", "adopt", folder, "vda", "vdc")
        said = told(folder)
        assert [(c["name"], [d["disk"] for d in c["disks"]]) for c in said["checkpoints"]] == [
            ("a", ["vdc", "vdb"]), ("next", ["vdc"]), ("odd", [])], said


@test
def a_backup_since_a_checkpoint_whose_disk_was_forgotten():
    """Its name is another disk's, which has a bitmap with the checkpoint's name. That says nothing of what
    has changed since the checkpoint."""
    with tmpdir() as top:
        folder = f"{top}/state"
        with served(top) as s:
            fleecectl("-C", s.qmp_path, "checkpoint", "create", "mon")
            s.nbd("vda").pwrite(b"x" * 4096, 8 * M)
        with served(top, disk="vdb", image="vdb.raw") as s:
            fleecectl("-C", s.qmp_path, "bitmap", "add", "vdb", "mon")
        ctl("state", "forget", folder, "vda")
        ctl("state", "adopt", folder, "vdb", "vda")
        with served(top, image="vdb.raw") as s:
            failed = fleecectl("-C", s.qmp_path, "session", "begin", "b", "--since", "mon",
                               "--strict", check=False)
            assert failed.returncode == 1 and "there is no checkpoint 'mon'" in failed.stderr, failed
            fleecectl("-C", s.qmp_path, "bitmap", "remove", "vda", "mon")


@test
def adopt():
    with state("clean") as folder:
        _, err = ctl("state", "adopt", folder, "vda", "vdb", code=1)
        assert err == ("fleecectl: disk vdb: it has bitmaps of its own, so it cannot take over those "
                       f"of vda (`fleecectl state adopt {folder} vdb NAME` gives it another name)\n"), err
        _, err = ctl("state", "adopt", folder, "vdc", "vdd", code=1)
        assert "the folder has no such disk: there is vda, vdb" in err, err
        before = listed(folder)
        out, err = ctl("state", "adopt", folder, "vda", "web1")
        assert err == "" and "are now those of disk web1" in out, out
        assert listed(folder) == {("web1" if d == "vda" else d, n): b
                                  for (d, n), b in before.items()}
        ctl("state", "adopt", folder, "vdb", "vdb")
        disks = told(folder)["disks"]
        assert {d["name"]: d["adopted"] for d in disks} == {"web1": True, "vdb": True}, disks


@test
def adopt_and_forget_recover_first():
    """What the commands write does not hide that the folder was not left in order."""
    for args in ["adopt", "vda", "web1"], ["forget", "vda"]:
        with state("power") as folder:
            _, err = ctl("state", args[0], folder, *args[1:])
            assert "the folder was not left in order: the machine was restarted" in err, err
            out, err = ctl("state", "list", folder)
            assert "not left in order" not in err, err
        with state("clean") as folder:
            assert ctl("state", args[0], folder, *args[1:])[1] == ""


@test
def an_old_copy_is_noticed_by_adopt():
    """A copy of a folder that was made while a server used it, and is put back after its kill -9."""
    with tmpdir() as top:
        folder = f"{top}/state"
        with served(top) as s:
            fleecectl("-C", s.qmp_path, "bitmap", "add", "vda", "b")
            shutil.copytree(folder, f"{top}/copy")
            fleecectl("-C", s.qmp_path, "bitmap", "clear", "vda", "b")
            s.nbd("vda").pwrite(b"x" * 4096, 8 * M)
            s.kill()
        shutil.rmtree(folder)
        os.rename(f"{top}/copy", folder)
        _, err = ctl("state", "adopt", folder, "vda", "vda")
        assert "not left in order" in err, err
        b = listed(folder)["vda", "b"]
        assert b.get("inconsistent") or b["count"] >= 64 * K, b


@test
def a_disk_is_renamed_and_moved():
    with tmpdir() as top:
        folder = f"{top}/state"
        with served(top) as s:
            fleecectl("-C", s.qmp_path, "bitmap", "add", "vda", "b")
            s.nbd("vda").pwrite(b"x" * 512, 0)
        result = nbdfleece("-U", f"{top}/s", "--state", folder, "--disk", "web1", "file",
                           f"{top}/vda.raw", check=False)
        assert result.returncode == 1, result
        assert f"`fleecectl state adopt {folder} vda web1`" in result.stderr, result.stderr
        ctl("state", "adopt", folder, "vda", "web1")
        with served(top, disk="web1") as s:
            assert bitmaps_of(s)["b"]["count"] == 64 * K and not bitmaps_of(s)["b"]["inconsistent"]
        # A copy is another file, which has to be adopted under the same name.
        shutil.copyfile(f"{top}/vda.raw", f"{top}/copy.raw")
        ctl("state", "adopt", folder, "web1", "web1")
        with served(top, disk="web1", image="copy.raw") as s:
            assert not bitmaps_of(s)["b"]["inconsistent"], bitmaps_of(s)
        # That was for once.
        with served(top, disk="web1", image="vda.raw") as s:
            b = bitmaps_of(s)["b"]
            assert b["inconsistent"] and "the image is another one" in b["inconsistent-reason"], b
            assert b["inconsistent-reason"] in fleecectl("-C", s.qmp_path, "bitmap", "list").stdout


main()
