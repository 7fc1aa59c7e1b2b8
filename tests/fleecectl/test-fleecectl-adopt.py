#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl state adopt and forget: disks with other names, images or folders than they had."""

import os
import shutil

from fleece import fleecectl, nbdfleece, tmpdir
from statectl import K, M, bitmaps_of, ctl, listed, served, state, told
from tap import main, test


@test
def checkpoints_follow_a_disk_that_is_renamed():
    with state("clean") as folder:
        ctl("state", "adopt", folder, "vda", "root")
        said = told(folder)
        assert [c["disks"] for c in said["checkpoints"]] == [
            [{"disk": "root"}, {"disk": "vdb"}], [{"disk": "root", "bitmap": "missing"}], []], said
        assert [c["time-usec"] for c in said["checkpoints"][:2]] == [
            1700000000000000, 1700000001000000], said
        assert [s["disks"] for s in said["sessions"]] == [
            [{"disk": "root"}, {"disk": "vdb"}], [{"disk": "root"}]], said
        # Nothing but a text: the records of disks with other names stay as they are.
        ctl("state", "adopt", folder, "root", "root")
        assert told(folder)["checkpoints"] == said["checkpoints"]


@test
def checkpoints_forget_the_disk_whose_name_another_gets():
    with state("clean") as folder:
        ctl("state", "forget", folder, "vda")
        ctl("state", "adopt", folder, "vdb", "vda")
        said = told(folder)
        assert [[d["disk"] for d in c["disks"]] for c in said["checkpoints"]] == [
            ["vda"], ["vda"], []], said
        assert [[d["disk"] for d in s["disks"]] for s in said["sessions"]] == [["vda"], ["vda"]], said


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
