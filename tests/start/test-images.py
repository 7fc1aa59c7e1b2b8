#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""--state: which bitmaps a disk gets when names and images do not go together as they did."""

import json
import os
import shutil
import subprocess

from fleece import SOON, Server, fleecectl, require_program
from state_rig import ENDS, MIB, Stateful, wait_clock, write_behind
from tap import main, skip, test


def set_image(s, disk, path):
    """The next start serves the disk with this image."""
    for d in s.disks:
        if d[0] == disk:
            d[2] = path


def make_image(path, data=b""):
    with open(path, "wb") as f:
        f.write(data)
        f.truncate(MIB)
    return path


def names_in(folder):
    """The disks of a folder that nobody uses."""
    return sorted(d["name"] for d in
                  json.loads(fleecectl("--json", "state", "list", folder).stdout)["disks"])


def refused(s):
    s.set_args()
    return s.fails_to_start()


@test
def a_slip_costs_no_bitmap():
    """A disk is served with a wrong image, is written to, and gets its own again."""
    for end in ENDS:
        with Stateful("vda") as s:
            s.add("vda", "b")
            s.write("vda", 0, 1)
            end(s)
            set_image(s, "vda", make_image(s.path("wrong.raw")))
            s.set_args()
            s.start()
            reason = s.reason("vda", "b")
            assert "the image is another one" in reason and "that of disk vda-replaced" in reason, reason
            assert s.recovery("vda") == "inconsistent: " + reason, s.recovery("vda")
            log = s.log()
            assert "disk vda: its image is another one: the bitmaps of the former one are kept" in log
            assert "keeps 1 bitmap of disk vda-replaced, which is not served" in log, log
            s.write("vda", 131072, 1)
            end(s)
            assert "vda-replaced" in names_in(s.state)
            set_image(s, "vda", s.image("vda"))
            s.again()
            assert s.dirty("vda", "b") == [(0, 65536)]
            assert s.recovery("vda") == "exact", s.recovery("vda")
            s.stop()
            # The folder goes on to know that it has written to the other image.
            assert names_in(s.state) == ["vda", "vda-replaced"]


@test
def a_checkpoint_of_the_name_on_the_other_image():
    """A checkpoint is deleted and made anew while the disk has another image. What has changed on the
    former image since its own, older one is no backup since the new one."""
    for end in ENDS:
        with Stateful("vda") as s:
            with s.qmp() as q:
                q.cmd("checkpoint-create", name="mon", disks=["vda"])
                q.cmd("checkpoint-create", name="tue", disks=["vda"])
            s.write("vda", 0, 1)
            end(s)
            set_image(s, "vda", make_image(s.path("other.raw")))
            s.again()
            with s.qmp() as q:
                q.cmd("checkpoint-delete", name="mon")
                q.cmd("checkpoint-create", name="mon", disks=["vda"])
            s.write("vda", 131072, 1)
            end(s)
            set_image(s, "vda", s.image("vda"))
            s.again()
            why = "a bitmap of its name has begun anew on another image of disk vda"
            assert s.reason("vda", "mon") == why
            assert s.bitmap("vda", "tue")["count"] == 65536
            with s.qmp() as q:
                got, = q.cmd("backup-begin", id="b", since="mon")
                assert got["mode"] == "full" and why in got["reason"], got
                q.cmd("backup-end", id="b", result="abort")
                got, = q.cmd("backup-begin", id="c", since="tue")
                assert got["mode"] == "incremental", got
                q.cmd("backup-end", id="c", result="abort")


@test
def what_comes_back_is_looked_at():
    with Stateful("vda") as s:
        s.add("vda", "b")
        s.stop()
        set_image(s, "vda", make_image(s.path("wrong.raw")))
        s.again()
        s.stop()
        write_behind(s.image("vda"), 524288, b"foreign")
        set_image(s, "vda", s.image("vda"))
        s.again()
        assert "was changed while it was not served" in s.reason("vda", "b")


@test
def what_was_written_meanwhile_is_not_adopted():
    """An image is moved, and its disk is adopted too late: its guest has written to it by then."""
    with Stateful("vda") as s:
        s.add("vda", "b")
        s.stop()
        moved = s.path("moved.raw")
        shutil.copy(s.image("vda"), moved)
        set_image(s, "vda", moved)
        s.again()
        s.reason("vda", "b")
        s.write("vda", 131072, 1)
        s.stop()
        fleecectl("state", "adopt", s.state, "vda-replaced", "vda")
        s.again()
        assert "its image is not adopted" in s.log(), s.log()
        s.reason("vda", "b")


@test
def a_moved_image_is_adopted_before():
    for end in ENDS:
        with Stateful("vda") as s:
            s.add("vda", "b")
            s.write("vda", 0, 1)
            end(s)
            moved = s.path("moved.raw")
            os.rename(s.image("vda"), s.path("gone.raw"))
            shutil.copy(s.path("gone.raw"), moved)
            set_image(s, "vda", moved)
            fleecectl("state", "adopt", s.state, "vda", "vda")
            s.again()
            assert s.dirty("vda", "b") == [(0, 65536)]


@test
def names_are_exchanged():
    with Stateful("vda", "vdb") as s:
        s.add("vda", "b")
        s.add("vdb", "b")
        s.write("vda", 0, 1)
        s.write("vdb", 131072, 1)
        s.stop()
        set_image(s, "vda", s.image("vdb"))
        set_image(s, "vdb", s.image("vda"))
        text = refused(s)
        assert "its image is that of disk" in text and "fleecectl state adopt" in text, text
        # To take the images as they are is not what was meant.
        for disk in "vda", "vdb":
            fleecectl("state", "adopt", s.state, disk, disk)
        text = refused(s)
        assert "its image is not adopted" in text and "its image is that of disk" in text, text
        assert names_in(s.state) == ["vda", "vdb"]
        r = fleecectl("state", "adopt", s.state, "vda", "vdb", check=False)
        assert r.returncode == 1 and "gives it another name" in r.stderr, r
        for old, new in ("vda", "tmp"), ("vdb", "vda"), ("tmp", "vdb"):
            fleecectl("state", "adopt", s.state, old, new)
        s.start()
        assert s.dirty("vdb", "b") == [(0, 65536)]
        assert s.dirty("vda", "b") == [(131072, 65536)]


@test
def a_known_name_for_the_image_of_another():
    """The folder knows both names, and only one disk has bitmaps."""
    with Stateful("vda", "vdb") as s:
        s.add("vda", "b")
        s.write("vda", 0, 1)
        s.stop()
        disks = s.disks
        s.disks = [["vdb", "file", s.image("vda")]]
        text = refused(s)
        assert "disk vdb: its image is that of disk vda" in text, text
        fleecectl("state", "adopt", s.state, "vda", "vdb")
        s.start()
        assert s.dirty("vdb", "b") == [(0, 65536)]
        s.stop()
        # What vdb was before is not mixed up with it.
        assert names_in(s.state) == ["vdb", "vdb-replaced"]
        s.disks = [["vdc", "file", disks[1][2]]]
        s.again()
        assert "keeps 1 bitmap of disk vdb, which is not served" in s.log(), s.log()


@test
def moved_and_renamed():
    """Nothing tells that it is the same disk: the log says which bitmaps are not served."""
    with Stateful("vda") as s:
        s.add("vda", "b")
        s.stop()
        shutil.copy(s.image("vda"), s.path("web.raw"))
        s.disks = [["web", "file", s.path("web.raw")]]
        s.again()
        line = (f"state: {s.state}: keeps 1 bitmap of disk vda, which is not served: `fleecectl state "
                f"adopt {s.state} vda NEW` gives them to a disk that was renamed or moved, before it is "
                "served; new to the folder: web\n")
        assert s.log().count(line) == 1, s.log()
        s.again()
        assert s.log().count(line.replace("; new to the folder: web", "")) == 1, s.log()


@test
def a_copy_taken_in_use():
    """The folder is copied while the server uses it, and the copy takes its place after kill -9. What
    has happened since is not in it: no bitmap says that such a block is clean."""
    names = ("kept", "cleared", "disabled", "removed")
    with Stateful("vda", size=8 * MIB) as s:
        for name in names:
            s.add("vda", name)
        s.write("vda", 0, 1)
        copy = s.path("copy")
        subprocess.run(["cp", "-a", s.state, copy], check=True, timeout=SOON)
        with s.qmp() as q:
            for command, name in ("clear", "cleared"), ("disable", "disabled"), ("remove", "removed"):
                q.cmd(f"block-dirty-bitmap-{command}", node="vda", name=name)
        wait_clock(s.image("vda"))
        s.write("vda", 131072, 1)
        s.write("vda", 6 * MIB, 1)
        s.kill()
        os.rename(s.state, s.path("gone"))
        os.rename(copy, s.state)
        s.start()
        for name in names:
            b = s.bitmap("vda", name)
            if not b["inconsistent"]:
                dirty = s.dirty("vda", name)
                for at in 0, 131072, 6 * MIB:
                    assert any(start <= at < start + length for start, length in dirty), (name, at, dirty)


@test
def a_disk_is_forgotten():
    with Stateful("vda", "vdb") as s:
        s.add("vda", "b")
        s.add("vdb", "b")
        s.write("vdb", 0, 1)
        for end in ENDS:
            end(s)
            if end == Server.stop:
                r = fleecectl("state", "forget", s.state, "vdc", check=False)
                assert r.returncode == 1 and "no such disk: there is vda, vdb" in r.stderr, r
                s.start()
        out = fleecectl("state", "forget", s.state, "vda").stdout
        assert out == "Disk vda is forgotten, with 1 bitmap.\n", out
        assert len(os.listdir(f"{s.state}/bits")) == 1
        s.start()
        assert s.recovery("vda") == "new" and s.bitmap("vda", "b") is None
        assert s.dirty("vdb", "b") == [(0, 65536)]


@test
def a_block_device_is_said_to_be_blind():
    """What others write to a block device is not seen. The log says so once."""
    if os.geteuid() != 0:
        skip("only root can make loop devices")
    require_program("losetup")
    with Stateful("vda") as s:
        s.stop()
        r = subprocess.run(["losetup", "--find", "--show", make_image(s.path("device"))],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=SOON)
        if r.returncode != 0:
            skip(f"no loop device can be made here: {r.stderr.strip()}")
        device = r.stdout.strip()
        try:
            set_image(s, "vda", device)
            s.again()
            log = s.log()
            assert log.count("cannot be seen") == 1 and "do not tell: vda\n" in log, log
            s.add("vda", "b")
            s.write("vda", 0, 1)
            s.stop()
            write_behind(device, 524288, b"unseen")
            s.start()
            assert s.dirty("vda", "b") == [(0, 65536)]
            s.stop()
        finally:
            subprocess.run(["losetup", "-d", device], check=True, timeout=SOON)


main()
