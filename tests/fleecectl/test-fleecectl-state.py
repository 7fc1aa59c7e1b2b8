#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl state: what is shown of state folders that no server uses."""

import fcntl
import json
import os

from fleece import fleecectl, run, tmpdir
from statectl import K, M, bitmaps_of, content, ctl, in_order, listed, served, state, told
from tap import main, test


@test
def list_of_a_folder_that_was_left_in_order():
    with state("clean") as folder:
        before = content(folder)
        out, err = ctl("--json", "state", "list", folder)
        assert err == ""
        vda, vdb = json.loads(out)["disks"]
        assert (vda["name"], vda["size"], vda["state"], vda["adopted"]) == (
            "vda", 64 * M, "clean", False), vda
        assert (vdb["name"], vdb["size"]) == ("vdb", 10 * M + 1), vdb
        a, b, off, bad = vda["bitmaps"]
        assert len(a.pop("uuid")) == 36
        assert a == {"name": "a", "count": 3 * 64 * K, "granularity": 64 * K, "recording": True,
                     "persistent": True, "inconsistent": False}, a
        assert b["count"] == 2 * 64 * K and not off["recording"] and off["count"] == 8 * K
        assert bad["inconsistent"] and bad["inconsistent-reason"] == "it was made so"
        assert "count" not in bad
        lines = ctl("state", "list", folder)[0].splitlines()
        assert lines[1].split() == ["vda", "64", "MiB", "clean"], lines
        assert lines[5].split() == ["vda", "a", "192", "KiB", "64", "KiB", "recording", "-"], lines
        assert lines[8].split()[-4:] == ["it", "was", "made", "so"], lines
        assert content(folder) == before


@test
def list_of_checkpoints_and_sessions():
    """What their records say, as far as it can be read; bitmaps that a checkpoint lacks."""
    with state("clean") as folder:
        out, err = ctl("--json", "state", "list", folder)
        assert err == "", err
        said = json.loads(out)
        assert said["checkpoints"] == [
            {"name": "a", "state": "kept", "time-usec": 1700000000000000,
             "disks": [{"disk": "vda"}, {"disk": "vdb"}]},
            {"name": "next", "state": "pending", "time-usec": 1700000001000000,
             "disks": [{"disk": "vda", "bitmap": "missing"}]},
            {"name": "odd", "state": "unreadable", "disks": []},
            {"name": "lost", "state": "kept", "time-usec": 1700000002000000,
             "disks": [{"disk": "vdc", "bitmap": "missing"}]}], said
        assert said["sessions"] == [
            {"id": "s0", "state": "committed", "time-usec": 1700000000000000,
             "disks": [{"disk": "vda"}, {"disk": "vdb"}]},
            {"id": "s1", "state": "aborted", "time-usec": 1700000001000000,
             "reason": "it was made so", "disks": [{"disk": "vda"}]},
            {"id": "s2", "state": "active", "time-usec": 1700000002000000,
             "disks": [{"disk": "vda"}, {"disk": "vdb"}]}], said
        lines = [line.split() for line in ctl("state", "list", folder)[0].splitlines()]
        assert ["CHECKPOINT", "TIME", "STATE", "DISKS", "REASON"] in lines, lines
        assert lines[-3][0] == "s0" and lines[-3][-4:] == ["committed", "vda,", "vdb", "-"], lines
        assert any(line[:1] == ["next"] and line[-4:] == ["pending", "vda", "(missing)", "-"]
                   for line in lines), lines


@test
def after_a_crash():
    """Exact after the process's death, wider after a power loss, and the folder stays as it is."""
    with state("killed") as folder:
        before = content(folder)
        out, err = ctl("--json", "state", "list", folder)
        assert "the server died: the bits are exact" in err, err
        assert json.loads(out)["disks"][0]["bitmaps"][0]["count"] == 3 * 64 * K
        assert content(folder) == before
        # A copy on another file system counts as the folder itself.
        _, err = ctl("state", "list", folder, top="/dev/shm")
        assert "the bits are exact" in err, err
    with state("power") as folder:
        before = content(folder)
        out, err = ctl("--json", "state", "list", folder)
        assert "the machine was restarted" in err and "4 MiB" in err, err
        assert listed(folder)["vda", "a"]["count"] == 3 * 64 * K + 4 * M
        assert listed(folder)["vda", "off"]["count"] == 8 * K
        assert listed(folder)["vdb", "a"]["count"] == 64 * K
        assert json.loads(out)["disks"][0]["state"] == "crashed"
        out, err = ctl("state", "export", folder, "vda", "a")
        assert "the machine was restarted" in err
        assert {"offset": 20 * M, "length": 4 * M, "type": 1, "description": "dirty"} in \
            json.loads(out), out
        out, err = ctl("state", "check", folder)
        assert "nothing is wrong" in out and "not left in order: the machine was restarted" in out
        assert content(folder) == before
        ctl("state", "check", folder, "--repair")
        out, err = ctl("--json", "state", "check", folder)
        assert err == "" and "recovery" not in json.loads(out), out
        assert listed(folder)["vda", "a"]["count"] == 3 * 64 * K + 4 * M
    with state("failed") as folder:
        bitmaps = listed(folder)
        assert all(b["inconsistent"] for b in bitmaps.values()), bitmaps
        assert "failed" in bitmaps["vda", "a"]["inconsistent-reason"]
    with state("noted") as folder:
        for _ in range(2):  # looking takes no note away
            bitmaps = listed(folder)
            assert all(b["inconsistent"] for b in bitmaps.values()), bitmaps
        ctl("state", "check", folder, "--repair")
        assert "failed" in listed(folder)["vda", "a"]["inconsistent-reason"]


@test
def export_has_the_shape_of_nbdinfo():
    with state("clean") as folder:
        out, err = ctl("state", "export", folder, "vda", "a")
        assert err == ""
        assert out == (
            "[\n"
            '{ "offset": 0, "length": 1048576, "type": 0, "description": "clean"},\n'
            '{ "offset": 1048576, "length": 131072, "type": 1, "description": "dirty"},\n'
            '{ "offset": 1179648, "length": 7208960, "type": 0, "description": "clean"},\n'
            '{ "offset": 8388608, "length": 65536, "type": 1, "description": "dirty"},\n'
            '{ "offset": 8454144, "length": 58654720, "type": 0, "description": "clean"}\n'
            "]\n"), out
        # The last extent ends where the disk does.
        assert json.loads(ctl("state", "export", folder, "vdb", "a")[0])[-1] == {
            "offset": 10 * M, "length": 1, "type": 1, "description": "dirty"}
        out, err = ctl("state", "export", folder, "vda", "bad", code=1)
        assert out == "" and err == ("fleecectl: Bitmap 'bad' is inconsistent and cannot be used: "
                                     "it was made so\n"), err
        _, err = ctl("state", "export", folder, "vda", "c", code=1)
        assert err == ("fleecectl: disk vda: bitmap c: the disk has no such bitmap: there is a, b, "
                       "off, bad\n"), err
        _, err = ctl("state", "export", folder, "vdc", "a", code=1)
        assert err == "fleecectl: disk vdc: the folder has no such disk: there is vda, vdb\n", err


@test
def folders_that_are_refused():
    with tmpdir() as top:
        _, err = ctl("state", "list", f"{top}/none", code=1)
        assert f"state: {top}/none: it is no state folder: catalogue.db: " in err, err
        _, err = ctl("state", "check", top, code=1)
        assert "it is no state folder" in err and os.listdir(top) == [], err
    with state("clean") as folder:
        os.chmod(folder, 0o770)
        _, err = ctl("state", "list", folder, code=1)
        assert "others can write to it (mode 0770)" in err, err
        os.chmod(folder, 0o700)
        with open(f"{folder}/lock", "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            for command in (["list", folder], ["check", folder], ["check", "--repair", folder],
                            ["export", folder, "vda", "a"], ["adopt", folder, "vda", "vdc"]):
                _, err = ctl("state", *command, code=1)
                assert err == (f"fleecectl: state: {folder}: in use by process {os.getpid()}\n"), err


@test
def folders_of_a_server():
    """What a server leaves, by a stop and by kill -9, is what the commands show, and what the server
    shows at its next start."""
    with tmpdir() as top:
        folder = f"{top}/state"
        with served(top) as s:
            fleecectl("-C", s.qmp_path, "bitmap", "add", "vda", "kept", "--granularity", "64k")
            fleecectl("-C", s.qmp_path, "bitmap", "add", "vda", "lost", "--persistent", "off")
            bitmaps = bitmaps_of(s)
            assert bitmaps["kept"]["persistent"] and not bitmaps["lost"]["persistent"], bitmaps
            s.nbd("vda").pwrite(b"x" * 4096, 8 * M)
            _, err = ctl("state", "list", folder, code=1)
            assert f"in use by process {s.process.pid}" in err, err
        assert {n: b["count"] for (_, n), b in listed(folder).items()} == {"kept": 64 * K}
        in_order(folder)
        with served(top) as s:
            assert bitmaps_of(s)["kept"]["count"] == 64 * K
            h = s.nbd("vda")
            h.pwrite(b"x" * 4096, 16 * M)
            shown = run("nbdinfo", "--map=qemu:dirty-bitmap:kept", "--json", s.uri("vda")).stdout
            s.kill()
        out, err = ctl("state", "export", folder, "vda", "kept")
        assert out == shown and "the server died: the bits are exact" in err, (out, err)
        in_order(folder)
        with served(top) as s:
            assert bitmaps_of(s)["kept"]["count"] == 128 * K


main()
