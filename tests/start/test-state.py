#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""--state: bitmaps that are there again after the server's end and after its death, and what is said
of images that are not as they were left."""

import os
import pwd
import select
import shutil
import sqlite3
import stat
import subprocess

import nbd

from fleece import NBDFLEECE, SOON, Qmp, Server, fleecectl, nbdfleece, require_plugin, require_program, tmpdir
from state_rig import ENDS, MIB, Stateful, wait_clock, write_behind
from tap import main, skip, test


@test
def bitmaps_survive_exactly():
    """Every end, twice, with changes in between; each bitmap is what it was."""
    for end in ENDS:
        with Stateful("vda", "vdb") as s:
            s.add("vda", "a")
            s.add("vda", "fine", granularity=4096)
            s.add("vdb", "b", granularity=512)
            s.write("vda", 70000, 10)
            s.write("vdb", 512, 1024)
            with s.qmp() as q:
                q.cmd("block-dirty-bitmap-disable", node="vda", name="fine")
            s.write("vda", 300000, 10)
            s.again(end)
            assert s.dirty("vda", "a") == [(65536, 65536), (262144, 65536)]
            assert s.dirty("vda", "fine") == [(69632, 4096)]
            assert s.dirty("vdb", "b") == [(512, 1024)]
            assert not s.bitmap("vda", "fine")["recording"]
            assert s.bitmap("vda", "a") == {
                "name": "a", "count": 131072, "granularity": 65536, "recording": True, "busy": False,
                "persistent": True, "inconsistent": False}
            s.write("vda", 0, 1)
            with s.qmp() as q:
                q.cmd("block-dirty-bitmap-remove", node="vdb", name="b")
            s.again(end)
            assert s.dirty("vda", "a") == [(0, 131072), (262144, 65536)]
            assert s.bitmap("vdb", "b") is None


@test
def what_was_recovered_is_said():
    with Stateful("vda") as s:
        assert s.recovery("vda") == "new", s.recovery("vda")
        s.add("vda", "b")
        s.write("vda", 0, 1)
        s.again()
        assert s.recovery("vda") == "exact", s.recovery("vda")
        s.again(Server.kill)
        assert s.recovery("vda") == "exact", s.recovery("vda")
        log = s.log()
        for line in "new; 0 bitmaps", "exact; 1 bitmap":
            assert f"disk vda: state: {line}\n" in log, log
        assert "views of no backup session are transient" in log and "dirty bitmaps and views" not in log
        assert "cannot be seen" not in log


@test
def transient_bitmaps_end_with_the_server():
    for end in ENDS:
        with Stateful("vda") as s:
            s.add("vda", "t", persistent=False)
            s.add("vda", "p", persistent=True)
            s.again(end)
            assert s.bitmap("vda", "t") is None
            assert s.bitmap("vda", "p")


@test
def somebody_elses_write_is_noticed():
    """While the server was down: after a stop at any time; after a crash as soon as the clock has gone
    on."""
    for end in ENDS:
        with Stateful("vda", "vdb") as s:
            s.add("vda", "b")
            s.add("vdb", "b")
            s.write("vda", 0, 1)
            end(s)
            if end == Server.kill:
                wait_clock(s.image("vda"))
            write_behind(s.image("vda"), 524288, b"foreign")
            s.start()
            reason = s.reason("vda", "b")
            assert s.bitmap("vdb", "b")["inconsistent"] is False
            assert s.dirty("vdb", "b") == []
            assert f"disk vda: bitmap 'b' is inconsistent: {reason}\n" in s.log(), s.log()
            # It stays so, and nobody is offered its context.
            s.again()
            assert s.reason("vda", "b") == reason
            h = s.nbd("vda", contexts=["qemu:dirty-bitmap:b"])
            assert not h.can_meta_context("qemu:dirty-bitmap:b")
            h.shutdown()


@test
def a_clear_makes_it_good():
    for end in ENDS:
        with Stateful("vda") as s:
            s.add("vda", "b")
            s.write("vda", 0, 1)
            s.stop()
            write_behind(s.image("vda"), 524288, b"foreign")
            s.start()
            s.reason("vda", "b")
            with s.qmp() as q:
                q.cmd("block-dirty-bitmap-clear", node="vda", name="b")
            assert s.bitmap("vda", "b")["inconsistent"] is False
            assert s.bitmap("vda", "b")["recording"] is True
            s.write("vda", 131072, 1)
            s.again(end)
            assert s.dirty("vda", "b") == [(131072, 65536)]


@test
def another_image_or_size_is_noticed():
    for end in ENDS:
        with Stateful("vda", "vdb") as s:
            s.add("vda", "b")
            s.add("vdb", "b")
            s.write("vda", 0, 1)
            s.write("vdb", 0, 1)
            end(s)
            os.truncate(s.image("vda"), 2 * MIB)
            shutil.copy(s.image("vdb"), s.path("copy"))
            os.rename(s.path("copy"), s.image("vdb"))
            s.start()
            s.reason("vda", "b")
            s.reason("vdb", "b")


@test
def bytes_that_end_with_the_process():
    require_plugin("memory")
    for end in ENDS:
        with Stateful("vda", ["vdm", "memory", "1M"]) as s:
            s.add("vdm", "b")
            s.add("vda", "b")
            s.write("vdm", 0, 1)
            assert s.dirty("vdm", "b") == [(0, 65536)]
            assert "warning: disk vdm: the bytes of plugin memory end with this server" in s.log()
            s.again(end)
            s.reason("vdm", "b")
            assert s.bitmap("vda", "b")["inconsistent"] is False


@test
def a_foreign_plugin_is_said_to_be_blind():
    """Bitmaps of an image behind nbdkit's own file plugin survive; what others write is not seen, and
    the log says so. Another file is another image."""
    require_plugin("file")
    plugin = os.path.join(os.environ["NBDKIT_PLUGINDIR"], "nbdkit-file-plugin.so")
    with tmpdir() as d:
        for name in "one", "two":
            with open(f"{d}/{name}", "wb") as f:
                f.truncate(MIB)
        with Stateful(["vda", plugin, f"file={d}/one"], ["vdb", plugin, f"file={d}/two"]) as s:
            assert s.log().count("cannot be seen") == 1 and "do not tell: vda, vdb\n" in s.log()
            s.add("vda", "b")
            s.write("vda", 0, 1)
            for end in ENDS:
                s.again(end)
                assert s.dirty("vda", "b") == [(0, 65536)]
            s.stop()
            write_behind(f"{d}/one", 524288, b"unseen")
            s.start()
            assert s.dirty("vda", "b") == [(0, 65536)]
            s.stop()
            with open(f"{d}/three", "wb") as f:
                f.truncate(MIB)
            s.disks[0][2] = f"file={d}/three"
            s.again()
            s.reason("vda", "b")


@test
def the_users_folder():
    """With -u the folder is opened as that user."""
    if os.geteuid() != 0:
        skip("only root can become another user")
    nobody = pwd.getpwnam("nobody").pw_uid
    with Stateful("vda") as s:
        s.stop()
        shutil.rmtree(s.state)
        os.mkdir(s.state, 0o700)
        os.chown(s.state, nobody, -1)
        os.chown(s.dir, nobody, -1)
        os.chmod(s.dir, 0o755)
        s.options = ["-u", "nobody"]
        s.set_args()
        s.start()
        s.add("vda", "b")
        s.write("vda", 0, 1)
        for end in ENDS:
            s.again(end)
            assert s.dirty("vda", "b") == [(0, 65536)]
        assert os.stat(f"{s.state}/catalogue.db").st_uid == nobody
        # Whom the folder does not belong to cannot use it.
        s.stop()
        s.options = ["-u", "daemon"]
        s.set_args()
        assert s.state in s.fails_to_start()


@test
def folders_that_others_can_write():
    with Stateful("vda") as s:
        assert stat.S_IMODE(os.stat(s.state).st_mode) == 0o700
        s.stop()
        for mode in 0o770, 0o702:
            os.chmod(s.state, mode)
            text = s.fails_to_start()
            assert s.state in text and "write" in text, text
        os.chmod(s.state, 0o755)
        s.start()


@test
def one_server_a_folder():
    with Stateful("vda") as s, Stateful("vda") as other:
        other.stop()
        other.state = s.state
        other.set_args()
        text = other.fails_to_start()
        assert s.state in text and str(s.pid) in text, text
        s.add("vda", "b")
        s.again()
        assert s.bitmap("vda", "b")


@test
def one_server_an_image():
    with Stateful("vda") as s, Stateful("vda") as other:
        other.stop()
        other.disks = [["vda", "file", s.image("vda")]]
        other.set_args()
        text = other.fails_to_start()
        assert "has this image open" in text, text
        for command in (["qemu-io", "-f", "raw", "-c", "write 0 512"],
                        ["qemu-img", "resize", "-f", "raw", "--shrink"]):
            require_program(command[0])
            size = ["512k"] if command[0] == "qemu-img" else []
            r = subprocess.run([*command, s.image("vda"), *size], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, timeout=SOON)
            assert r.returncode != 0 and "lock" in r.stdout, r


@test
def a_newer_format_is_refused():
    with Stateful("vda") as s:
        s.add("vda", "b")
        s.stop()
        db = sqlite3.connect(os.path.join(s.state, "catalogue.db"))
        version, = db.execute("PRAGMA user_version").fetchone()
        db.execute("PRAGMA user_version = 99")
        db.commit()
        db.close()
        text = s.fails_to_start()
        assert "made by a newer version (format 99;" in text, text
        db = sqlite3.connect(os.path.join(s.state, "catalogue.db"))
        db.execute(f"PRAGMA user_version = {version}")
        db.commit()
        db.close()
        s.start()
        assert s.bitmap("vda", "b")


@test
def a_renamed_disk_is_named():
    """Its bitmaps are not silently gone: the server says what to do, and starts when it is done."""
    with Stateful("vda") as s:
        s.add("vda", "b")
        s.write("vda", 0, 1)
        s.stop()
        s.disks[0][0] = "disk"
        s.set_args()
        text = s.fails_to_start()
        assert "vda" in text and "fleecectl state adopt" in text, text
        # Under its old name all is as it was.
        s.disks[0][0] = "vda"
        s.set_args()
        s.start()
        assert s.dirty("vda", "b") == [(0, 65536)]
        s.stop()
        fleecectl("state", "adopt", s.state, "vda", "disk")
        s.disks[0][0] = "disk"
        s.set_args()
        s.start()
        assert s.dirty("disk", "b") == [(0, 65536)]


@test
def resized_by_us():
    for end in ENDS:
        with Stateful("vda") as s:
            s.add("vda", "b")
            s.write("vda", 0, 1)
            with s.qmp() as q:
                q.cmd("block_resize", **{"node-name": "vda", "size": 2 * MIB})
            s.again(end)
            assert s.dirty("vda", "b") == [(0, 65536), (MIB, MIB)]
            with s.qmp() as q:
                q.cmd("block_resize", **{"node-name": "vda", "size": MIB // 2})
            s.again(end)
            assert s.dirty("vda", "b") == [(0, 65536)]
            assert s.bitmap("vda", "b")["count"] == 65536


@test
def read_only():
    """Bitmaps are shown, can be changed by commands, and are good again when the disk is written to
    later."""
    for end in ENDS:
        with Stateful("vda") as s:
            s.add("vda", "b")
            s.write("vda", 0, 1)
            end(s)
            s.options = ["-r"]
            s.set_args()
            s.start()
            assert s.dirty("vda", "b") == [(0, 65536)]
            s.add("vda", "other")
            end(s)
            s.options = []
            s.set_args()
            s.start()
            assert s.bitmap("vda", "other")["count"] == 0
            s.write("vda", 131072, 1)
            assert s.dirty("vda", "b") == [(0, 65536), (131072, 65536)]


@test
def written_to_while_we_only_read_it():
    """Somebody who ignores locks writes to the image of a disk that is served read-only."""
    with Stateful("vda") as s:
        s.add("vda", "b")
        s.stop()
        s.options = ["-r"]
        s.set_args()
        s.start()
        write_behind(s.image("vda"), 524288, b"foreign")
        s.again()
        s.reason("vda", "b")


@test
def scratch_is_in_the_folder():
    with Stateful("vda") as s:
        with s.qmp() as q:
            q.cmd("view-create", disk="vda", name="v")
        s.write("vda", 0, 65536)
        assert any(name.startswith(".nbdfleece-scratch-") for name in os.listdir(s.state))


@test
def every_way_to_run():
    """As a daemon, from a relative path; with --run; from a key file; with -s."""
    with tmpdir() as d:
        with open(f"{d}/disk", "wb") as f:
            f.truncate(MIB)
        common = ["--state", "state", "file", "disk"]
        nbdfleece("--run", "true", *common, cwd=d)
        assert os.path.exists(f"{d}/state/catalogue.db")
        with open(f"{d}/keys", "w") as f:
            f.write("[nbdfleece]\nstate = state\ndurability = process\n"
                    "on-state-error = break-guest-write\n[disk disk0]\nplugin = file\nfile = disk\n")
        nbdfleece("--config", "keys", "--run", "true", cwd=d)
        # To the background, where the folder is /.
        nbdfleece("-U", f"{d}/sock", "-C", f"{d}/qmp", "-P", f"{d}/pid", *common, cwd=d)
        with open(f"{d}/pid", encoding="ascii") as f:
            pid = int(f.read())
        pidfd = os.pidfd_open(pid)
        with Qmp(f"{d}/qmp") as q:
            q.cmd("block-dirty-bitmap-add", node="disk0", name="b")
            q.cmd("quit")
        assert select.select([pidfd], [], [], SOON)[0], "it does not end"
        os.close(pidfd)
        out = nbdfleece("--run", 'nbdinfo "$uri"', *common, cwd=d).stdout
        assert "qemu:dirty-bitmap:b" in out, out
        h = nbd.NBD()
        h.add_meta_context("qemu:dirty-bitmap:b")
        h.connect_command([NBDFLEECE, "-s", "--state", f"{d}/state", "file", f"{d}/disk"])
        assert h.can_meta_context("qemu:dirty-bitmap:b")
        h.pwrite(b"x", 70000)
        h.shutdown()
        del h  # waits for the server
        out = nbdfleece("--run", 'nbdinfo --map=qemu:dirty-bitmap:b "$uri"', *common, cwd=d).stdout
        assert out.split() == ["0", "65536", "0", "clean", "65536", "65536", "1", "dirty",
                               "131072", "917504", "0", "clean"], out


@test
def a_folder_that_cannot_be():
    with tmpdir() as d:
        for path in f"{d}/none/state", "/dev/null":
            r = nbdfleece("-f", "-U", "-", "--state", path, "null", check=False)
            assert r.returncode == 1 and path in r.stderr, r


main()
