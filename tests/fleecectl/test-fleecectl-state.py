#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl state: state folders that no server uses. make-state makes them: its disks and bitmaps
are in tests/rigs/made-state.h."""

import contextlib
import fcntl
import json
import os
import random
import shutil
import sqlite3
import tempfile

from fleece import BUILD, SOON, Server, fleecectl, nbdfleece, run, tmpdir
from tap import main, note, test

K, M = 1 << 10, 1 << 20
MAKE_STATE = os.path.join(BUILD, "tests", "fleecectl", "make-state")
LONG = bool(os.environ.get("FLEECE_LONG"))


@contextlib.contextmanager
def state(kind):
    """A state folder, as a server leaves it."""
    with tmpdir() as top:
        folder = os.path.join(top, "state")
        run(MAKE_STATE, folder, kind)
        try:
            yield folder
        finally:
            run(MAKE_STATE, folder, "forget", check=False)


def ctl(*args, code=0, top=None):
    """Run fleecectl state: (standard output, standard error). top: where it makes its copies."""
    with tempfile.TemporaryDirectory(dir=top) as tmp:
        result = fleecectl(*args, check=False, env={"LC_ALL": "C.UTF-8", "TMPDIR": tmp})
        assert os.listdir(tmp) == [], "copies are left over"
    assert result.returncode == code, (args, result)
    return result.stdout, result.stderr


def listed(folder):
    """{(disk, bitmap): what is said of it}."""
    out, _ = ctl("--json", "state", "list", folder)
    return {(d["name"], b["name"]): b for d in json.loads(out)["disks"] for b in d["bitmaps"]}


def content(folder):
    """Each file and what is in it, but the lock."""
    found = {}
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as f:
                found[os.path.relpath(os.path.join(path, name), folder)] = f.read()
    found.pop("lock")
    return found


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
def checkpoints_follow_a_disk_that_is_renamed():
    with state("clean") as folder:
        ctl("state", "adopt", folder, "vda", "root")
        said = json.loads(ctl("--json", "state", "list", folder)[0])
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
        assert json.loads(ctl("--json", "state", "list", folder)[0])["checkpoints"] == (
            said["checkpoints"])


@test
def records_forget_a_disk_that_is_forgotten():
    """Another disk that gets its name has no part in them. What names no other disk goes."""
    with state("clean") as folder:
        ctl("state", "forget", folder, "vda")
        for name in "vdb", "vda":
            ctl("state", "adopt", folder, "vdb", name)
            said = json.loads(ctl("--json", "state", "list", folder)[0])
            assert [(c["name"], [d["disk"] for d in c["disks"]]) for c in said["checkpoints"]] == [
                ("a", [name]), ("odd", []), ("lost", ["vdc"])], said
            assert [(s["id"], s["state"], s["disks"], s.get("reason")) for s in said["sessions"]] == [
                ("s0", "committed", [{"disk": name}], None),
                ("s2", "aborted", [{"disk": name}], "the state folder has forgotten disk vda")], said
        assert ctl("state", "check", folder)[0].endswith("nothing is wrong\n")
        with contextlib.closing(sqlite3.connect(f"{folder}/catalogue.db")) as db:
            [[text]] = db.execute("SELECT text FROM records WHERE name = 'a'").fetchall()
        assert (json.loads(text)["disks"], json.loads(text)["disk-ids"]) == (["vda"], [2]), text


@test
def checkpoints_of_disks_that_exchange_names():
    """The one that was set aside gets its name back: a record names each disk once."""
    with state("failed") as folder:
        ctl("state", "adopt", folder, "vdb", "vda")
        ctl("state", "adopt", folder, "vda-replaced", "vda")
        said = json.loads(ctl("--json", "state", "list", folder)[0])
        assert [d["name"] for d in said["disks"]] == ["vda", "vda-replaced"], said
        assert [d["disk"] for d in said["checkpoints"][0]["disks"]] == ["vda"], said


@test
def a_checkpoint_of_a_disk_whose_row_is_lost():
    """A disk that is given its name is none of the checkpoint's."""
    with state("clean") as folder:
        ctl("state", "adopt", folder, "vda", "vdc")
        said = json.loads(ctl("--json", "state", "list", folder)[0])
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
def a_damaged_record():
    """It is removed. Nothing else is the worse for it."""
    with state("clean") as folder:
        db = sqlite3.connect(f"{folder}/catalogue.db")
        db.execute("UPDATE records SET text = '{}' WHERE name = 'a'")
        db.commit()
        db.close()
        before = listed(folder)
        what = "checkpoint 'a' (row 1 of the records): its row in the catalogue is damaged"
        _, err = ctl("state", "list", folder)
        assert err == f"fleecectl: {what}\n", err
        out, err = ctl("state", "check", folder, code=1)
        assert f"wrong: {what}\n       --repair does this: a record that is damaged is" in out, out
        assert err == f"fleecectl: state: {folder}: wrong: 1, of which --repair mends 1\n", err
        ctl("state", "check", folder, "--repair")
        out, err = ctl("state", "check", folder)
        assert err == "" and out.endswith("nothing is wrong\n"), out
        said = json.loads(ctl("--json", "state", "list", folder)[0])
        assert [c["name"] for c in said["checkpoints"]] == ["next", "odd", "lost"], said
        assert listed(folder) == before


@test
def a_record_that_has_vanished():
    """Other rows may be lost as well: bitmaps are not trusted."""
    with state("clean") as folder:
        db = sqlite3.connect(f"{folder}/catalogue.db")
        db.execute("DELETE FROM records WHERE name = 'a'")
        db.commit()
        db.close()
        out, _ = ctl("state", "check", folder, code=1)
        assert "wrong: the catalogue has lost rows of its records: it has 6 of 7\n" in out, out
        assert "not repaired" not in out and "nothing can be done" not in out, out
        ctl("state", "check", folder, "--repair")
        out, err = ctl("state", "check", folder)
        assert err == "" and out.endswith("nothing is wrong\n"), out
        assert all(b["inconsistent"] for b in listed(folder).values())


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


def bits_of(folder, disk, bitmap):
    return os.path.join(folder, "bits", listed(folder)[disk, bitmap]["uuid"])


def flip(path, byte, mask=1):
    with open(path, "r+b") as f:
        f.seek(byte)
        old = f.read(1)[0]
        f.seek(byte)
        f.write(bytes([old ^ mask]))


@test
def check_and_repair():
    """What is wrong is said and, with --repair, mended; after that nothing is wrong."""
    with state("clean") as folder:
        out, err = ctl("state", "check", folder)
        assert err == "" and out.endswith("nothing is wrong\n"), (out, err)
        a, b, off = (bits_of(folder, "vda", name) for name in ("a", "b", "off"))
        flip(a, 4096 + 100)
        os.truncate(b, 4096)
        os.unlink(off)
        with open(f"{folder}/bits/0f8fad5b-d9cb-469f-a165-70867728950e", "w", encoding="ascii"):
            pass
        with open(f"{folder}/README", "w", encoding="ascii"):
            pass
        before = content(folder)
        out, err = ctl("state", "check", folder, code=1)
        assert err == f"fleecectl: state: {folder}: wrong: 4, of which --repair mends 4\n", err
        for line in (f"wrong: disk vda: bitmap a: state: {folder}/bits/{os.path.basename(a)}: "
                     "its bits are not those that the last stop left",
                     f"wrong: disk vda: bitmap b: state: {folder}/bits/{os.path.basename(b)}: "
                     "it is cut short",
                     f"wrong: disk vda: bitmap off: state: {folder}/bits/{os.path.basename(off)}: "
                     "it is missing",
                     "wrong: bits/0f8fad5b-d9cb-469f-a165-70867728950e: no bitmap has it",
                     "       --repair does this: the file is removed",
                     "note: README: no file of a state folder; it stays"):
            assert line in out.splitlines(), (line, out)
        assert content(folder) == before
        # Export never shows as good what is damaged.
        _, err = ctl("state", "export", folder, "vda", "a", code=1)
        assert "Bitmap 'a' is inconsistent and cannot be used" in err, err
        out, err = ctl("--json", "state", "check", folder, "--repair")
        assert err == "" and all(f["repaired"] for f in json.loads(out)["findings"]), out
        out, err = ctl("state", "check", folder)
        assert out.endswith("nothing is wrong\n") and err == "", out
        assert sorted(name for (disk, name), b in listed(folder).items() if b["inconsistent"]) == [
            "a", "b", "bad", "off"]
        assert not os.path.exists(f"{folder}/bits/0f8fad5b-d9cb-469f-a165-70867728950e")
        assert os.path.exists(f"{folder}/README")


@test
def a_disk_whose_row_is_gone():
    """The rows of its bitmaps belong to nothing. Others are inconsistent: more may be lost."""
    with state("clean") as folder:
        db = sqlite3.connect(f"{folder}/catalogue.db")
        db.execute("DELETE FROM disks WHERE name = 'vda'")
        db.commit()
        db.close()
        out, _ = ctl("state", "check", folder, code=1)
        for name in "a", "b", "off", "bad":
            assert f"wrong: bitmap '{name}' (row " in out, out
        assert "not repaired" not in out and "nothing can be done" not in out, out
        out, err = ctl("--json", "state", "check", folder, "--repair")
        assert err == "" and all(f["repaired"] for f in json.loads(out)["findings"]), out
        out, err = ctl("state", "check", folder)
        assert err == "" and out.endswith("nothing is wrong\n"), out
        bitmaps = listed(folder)
        assert list(bitmaps) == [("vdb", "a")] and bitmaps["vdb", "a"]["inconsistent"], bitmaps
        assert len(os.listdir(f"{folder}/bits")) == 1


@test
def a_catalogue_that_cannot_be_read():
    with state("clean") as folder:
        path = f"{folder}/catalogue.db"
        with open(path, "r+b") as f:
            f.write(b"nonsense" * 8)
        for options in [], ["--repair"]:
            _, err = ctl("state", "check", folder, *options, code=1)
            assert err.startswith(f"fleecectl: state: {folder}") and "/nbdfleece-state" not in err, err
            assert len(err.splitlines()) == 1, err


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
        disks = json.loads(ctl("--json", "state", "list", folder)[0])["disks"]
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
def damage_is_found():
    """Cut at each 512 bytes, or a bit flipped anywhere: a check says what is wrong, or all bitmaps
    are as before; it never crashes. Export gives what was there, or nothing."""
    seed = int(os.environ.get("FLEECE_SEED", random.randrange(1 << 30)))
    note(f"seed {seed}")
    rng = random.Random(seed)
    with state("clean") as folder:
        good = listed(folder)
        export = ctl("state", "export", folder, "vda", "a")[0]
        names = ["catalogue.db"] + [os.path.relpath(bits_of(folder, d, n), folder) for d, n in good]
        damages = [(name, "cut", at) for name in names
                   for at in range(0, os.path.getsize(f"{folder}/{name}"), 512)]
        damages += [(name, "flip", rng.randrange(8 * os.path.getsize(f"{folder}/{name}")))
                    for name in names for _ in range(200)]
        rng.shuffle(damages)
        for name, what, where in damages if LONG else damages[:60]:
            copy = folder + ".copy"
            shutil.copytree(folder, copy)
            if what == "cut":
                os.truncate(f"{copy}/{name}", where)
            else:
                flip(f"{copy}/{name}", where // 8, 1 << where % 8)
            check_damaged(copy, good, export, (seed, name, what, where))
            shutil.rmtree(copy)


def check_damaged(copy, good, export, damage):
    check = fleecectl("--json", "state", "check", copy, check=False, timeout=SOON)
    assert check.returncode in (0, 1), (damage, check)
    if check.returncode == 0:
        assert listed(copy) == good, damage
    exported = fleecectl("state", "export", copy, "vda", "a", check=False, timeout=SOON)
    assert exported.returncode in (0, 1), (damage, exported)
    if exported.returncode == 0:
        assert exported.stdout == export, damage


@contextlib.contextmanager
def served(top, *options, disk="vda", image="vda.raw", **kwargs):
    """A server with a state folder and one disk, whose image is made if it is not there."""
    path = os.path.join(top, image)
    if not os.path.exists(path):
        with open(path, "wb") as f:
            f.truncate(64 * M)
    with Server("--state", f"{top}/state", *options, "--disk", disk, "file", path, **kwargs) as s:
        yield s


def bitmaps_of(server):
    out = fleecectl("-C", server.qmp_path, "--json", "bitmap", "list").stdout
    return {b["name"]: b for b in json.loads(out)}


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
        assert ctl("state", "check", folder)[0].endswith("nothing is wrong\n")
        with served(top) as s:
            assert bitmaps_of(s)["kept"]["count"] == 64 * K
            h = s.nbd("vda")
            h.pwrite(b"x" * 4096, 16 * M)
            shown = run("nbdinfo", "--map=qemu:dirty-bitmap:kept", "--json", s.uri("vda")).stdout
            s.kill()
        out, err = ctl("state", "export", folder, "vda", "kept")
        assert out == shown and "the server died: the bits are exact" in err, (out, err)
        out, err = ctl("state", "check", folder)
        assert err == "" and out.endswith("nothing is wrong\n"), (out, err)
        with served(top) as s:
            assert bitmaps_of(s)["kept"]["count"] == 128 * K


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
