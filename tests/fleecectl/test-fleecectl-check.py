#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl state check: damaged folders, and their repair."""

import contextlib
import json
import os
import random
import shutil
import sqlite3

from fleece import SOON, fleecectl
from statectl import content, ctl, in_order, listed, state, told
from tap import main, note, test

LONG = bool(os.environ.get("FLEECE_LONG"))


def bits_of(folder, disk, bitmap):
    return os.path.join(folder, "bits", listed(folder)[disk, bitmap]["uuid"])


def flip(path, byte, mask=1):
    with open(path, "r+b") as f:
        f.seek(byte)
        old = f.read(1)[0]
        f.seek(byte)
        f.write(bytes([old ^ mask]))


def in_catalogue(folder, statement):
    """Change a folder's catalogue behind its back."""
    with contextlib.closing(sqlite3.connect(f"{folder}/catalogue.db")) as db:
        db.execute(statement)
        db.commit()


def repair(folder):
    """All that is wrong is mended."""
    out, err = ctl("--json", "state", "check", folder, "--repair")
    assert err == "" and all(f["repaired"] for f in json.loads(out)["findings"]), out
    in_order(folder)


@test
def a_damaged_record():
    """It is removed. Nothing else is the worse for it."""
    with state("clean") as folder:
        in_catalogue(folder, "UPDATE records SET text = '{}' WHERE name = 'a'")
        before = listed(folder)
        what = "checkpoint 'a' (row 1 of the records): its row in the catalogue is damaged"
        _, err = ctl("state", "list", folder)
        assert err == f"fleecectl: {what}\n", err
        out, err = ctl("state", "check", folder, code=1)
        assert f"wrong: {what}\n       --repair does this: a record that is damaged is" in out, out
        assert err == f"fleecectl: state: {folder}: wrong: 1, of which --repair mends 1\n", err
        repair(folder)
        said = told(folder)
        assert [c["name"] for c in said["checkpoints"]] == ["next", "odd", "lost"], said
        assert listed(folder) == before


@test
def a_record_that_has_vanished():
    """Other rows may be lost as well: bitmaps are not trusted."""
    with state("clean") as folder:
        in_catalogue(folder, "DELETE FROM records WHERE name = 'a'")
        out, _ = ctl("state", "check", folder, code=1)
        assert "wrong: the catalogue has lost rows of its records: it has 6 of 7\n" in out, out
        assert "not repaired" not in out and "nothing can be done" not in out, out
        repair(folder)
        assert all(b["inconsistent"] for b in listed(folder).values())


@test
def check_and_repair():
    """What is wrong is said and, with --repair, mended; after that nothing is wrong."""
    with state("clean") as folder:
        in_order(folder)
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
        repair(folder)
        assert sorted(name for (disk, name), b in listed(folder).items() if b["inconsistent"]) == [
            "a", "b", "bad", "off"]
        assert not os.path.exists(f"{folder}/bits/0f8fad5b-d9cb-469f-a165-70867728950e")
        assert os.path.exists(f"{folder}/README")


@test
def a_disk_whose_row_is_gone():
    """The rows of its bitmaps belong to nothing. Others are inconsistent: more may be lost."""
    with state("clean") as folder:
        in_catalogue(folder, "DELETE FROM disks WHERE name = 'vda'")
        out, _ = ctl("state", "check", folder, code=1)
        for name in "a", "b", "off", "bad":
            assert f"wrong: bitmap '{name}' (row " in out, out
        assert "not repaired" not in out and "nothing can be done" not in out, out
        repair(folder)
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


main()
