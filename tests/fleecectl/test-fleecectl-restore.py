#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl restore: each point into each kind of target, what it refuses, and what is left when it fails."""

import json
import os
import shutil
import signal
import subprocess

import loop
from fleece import BUILD, FLEECECTL, SANITIZER, SOON, Server, die_with_parent, fleecectl, run, uri
from repository import read, write
from restores import K, M, VDA, as_raw, expected, repository
from rig import assert_same
from tap import main, skip, test

STEPS = f"{BUILD}/tests/fleecectl/.libs/steps.so"


def restore(repo, *args, **kwargs):
    return fleecectl("restore", repo.path, *args, **kwargs)


def refused(repo, words, *args, code=1, **kwargs):
    result = restore(repo, *args, check=False, **kwargs)
    assert result.returncode == code and words in result.stderr and result.stdout == "", result
    return result


# ---- targets ----

@test
def each_point_into_raw_files():
    with repository() as repo:
        for number, disk in ((0, "vda"), (1, "vda"), (2, "vda"), (0, "vdb"), (2, "vdb")):
            target = f"{repo.folder}/{disk}-{number}.raw"
            text = restore(repo, "--until", str(number), "--disk", disk, "-o", target).stdout
            assert text.startswith(f"{disk}: ") and f"backup {number} of " in text, text
            assert_same(read(target), expected(repo, number, disk), f"{disk} {number}")
            assert os.stat(target).st_mode & 0o077 == 0
        # Holes are holes.
        assert os.stat(f"{repo.folder}/vdb-2.raw").st_blocks * 512 <= 256 * K


@test
def into_a_qcow2_file_of_its_own():
    with repository() as repo:
        for args in (["-o", f"{repo.folder}/a.qcow2"], ["-o", f"{repo.folder}/b", "--format", "qcow2"]):
            restore(repo, "--disk", "vda", *args)
            assert_same(as_raw(repo.folder, args[1]), expected(repo, 2, "vda"))
            info = json.loads(run("qemu-img", "info", "--output=json", args[1]).stdout)
            assert "backing-filename" not in info, info


@test
def into_standard_output():
    with repository() as repo:
        for args, reader in ((["--format", "raw"], read), ([], lambda p: as_raw(repo.folder, p))):
            with open(f"{repo.folder}/out", "wb") as f:
                subprocess.run([FLEECECTL, "restore", repo.path, "--disk", "vda", "-o", "-", *args], stdout=f,
                               check=True, timeout=SOON)
            assert_same(reader(f"{repo.folder}/out"), expected(repo, 2, "vda"), str(args))


@test
def what_was_discarded_at_its_source_is_kept():
    with repository() as repo:
        target = f"{repo.folder}/out"
        with open(f"{target}.partial", "w") as f:
            f.write("all there is")
        with open(f"{target}.pull", "w") as f:
            json.dump({"version": 1, "discards": True, "position": 12}, f)
        for format in "raw", "qcow2":
            refused(repo, "has discarded at the source", "--disk", "vda", "-o", target, "--format", format)
        assert read(f"{target}.partial") == b"all there is"


@test
def into_an_nbd_export():
    with repository() as repo, Server("--disk", "vda", "memory", str(VDA)) as s:
        target = uri("vda", unix=s.socket)
        restore(repo, "--disk", "vda", "-o", target, "--connections", "3")
        h = s.nbd("vda")
        assert_same(h.pread(VDA, 0), expected(repo, 2, "vda"))
        # What holds data is not written to, but by --force; then zeroes are written, too.
        refused(repo, "--force", "--disk", "vda", "--until", "0", "-o", target)
        assert_same(h.pread(VDA, 0), expected(repo, 2, "vda"))
        restore(repo, "--disk", "vda", "--until", "1", "-o", target, "--force")
        short = expected(repo, 1, "vda")
        assert_same(h.pread(len(short), 0), short)


@test
def into_a_block_device():
    with repository() as repo:
        path = f"{repo.folder}/backing"
        with open(path, "wb") as f:
            f.truncate(VDA + M)
        with loop.device(path) as device:
            restore(repo, "--disk", "vda", "-o", device)
            assert_same(read(device)[:VDA], expected(repo, 2, "vda"))
            refused(repo, "holds data", "--disk", "vda", "-o", device)
            refused(repo, "as a file", "--disk", "vda", "-o", device, "--format", "qcow2", code=2)
            restore(repo, "--disk", "vda", "--until", "0", "-o", device, "--force")
            assert_same(read(device)[:VDA], expected(repo, 0, "vda"))


@test
def options_that_do_not_fit_the_target():
    live = "nbd://localhost/x"
    with repository() as repo:
        x = f"{repo.folder}/x"
        for args, why in (
                (["--disk", "vda", "-o", live, "--format", "qcow2"], "--format raw"),
                (["--disk", "vda", "-o", live, "--compress"], "--compress is for a qcow2 image"),
                (["--disk", "vda", "-o", x, "--compress"], "--compress is for a qcow2 image"),
                (["--disk", "vda", "-o", x + ".qcow2", "--compress", "--format", "raw"], "--compress is for"),
                (["--disk", "vda", "-o", "-", "--compress"], "--compress is for a qcow2 image"),
                (["-o", x, "--compress"], "--compress is for a qcow2 image"),
                (["-o", x + ".qcow2", "--compress"], "--compress is for a qcow2 image"),  # a folder
                (["--disk", "vda", "-o", "ssh://h/x"], "ssh://h/x: not an NBD URI"),
                (["--disk", "vda", "-o", "file:///x"], "file:///x: not an NBD URI")):
            refused(repo, why, *args, code=2)
        assert os.listdir(repo.folder) == ["repo"], os.listdir(repo.folder)
        result = fleecectl("restore", repo.file(2, "vda"), "-o", live, "--compress", check=False)
        assert result.returncode == 2 and "--compress is for" in result.stderr, result


@test
def all_disks_into_a_folder():
    with repository() as repo:
        target = f"{repo.folder}/out"
        out = json.loads(restore(repo, "-o", target, "--json").stdout.splitlines()[-1])
        assert [(d["disk"], d["target"], d["size"]) for d in out["disks"]] == [
            ("vda", f"{target}/vda.raw", VDA), ("vdb", f"{target}/vdb.raw", M + 100)], out
        assert out["id"] == 2
        for disk in "vda", "vdb":
            assert_same(read(f"{target}/{disk}.raw"), expected(repo, 2, disk), disk)
        # What is there stays, unless it is said.
        refused(repo, "it exists", "--until", "0", "-o", target)
        assert_same(read(f"{target}/vda.raw"), expected(repo, 2, "vda"))
        restore(repo, "--until", "0", "-o", target, "--force", "--jobs", "1")
        assert_same(read(f"{target}/vda.raw"), expected(repo, 0, "vda"))
        # A member of one disk goes into a folder, too.
        restore(repo, "--until", "1", "-o", f"{repo.folder}/one", "--format", "qcow2")
        assert_same(as_raw(repo.folder, f"{repo.folder}/one/vda.qcow2"), expected(repo, 1, "vda"))
        assert os.listdir(f"{repo.folder}/one") == ["vda.qcow2"]


@test
def chains_of_more_files_than_a_process_opens_by_default():
    with repository() as repo:
        run("sh", "-c", 'ulimit -Sn 10; exec "$@"', "-", FLEECECTL, "restore", repo.path, "-o", f"{repo.folder}/out")
        for disk in "vda", "vdb":
            assert_same(read(f"{repo.folder}/out/{disk}.raw"), expected(repo, 2, disk), disk)


@test
def by_time():
    with repository() as repo:
        for until, number in (("2026-11-01", 0), ("2026-11-02 12:00", 1), ("2030-01-01", 2)):
            target = f"{repo.folder}/{number}.raw"
            text = restore(repo, "--until", until, "--disk", "vda", "-o", target, env={"TZ": "UTC"}).stdout
            assert f"backup {number} of " in text, text
            assert_same(read(target), expected(repo, number, "vda"))
        refused(repo, "2026", "--until", "2020-01-01", "--disk", "vda", "-o", f"{repo.folder}/x")
        # The newest that has the disk, not after that backup.
        text = restore(repo, "--until", "1", "--disk", "vdb", "-o", f"{repo.folder}/b").stdout
        assert "backup 0 of " in text, text
        assert_same(read(f"{repo.folder}/b"), expected(repo, 0, "vdb"))


@test
def an_image_that_is_no_repository():
    with repository() as repo:
        image = f"{repo.folder}/s.qcow2"
        restore(repo, "--disk", "vda", "-o", image)
        wanted = expected(repo, 2, "vda")
        fleecectl("restore", image, "-o", f"{repo.folder}/a.raw")
        assert_same(read(f"{repo.folder}/a.raw"), wanted)
        with open(image, "rb") as f:
            fleecectl("restore", "-", "-o", f"{repo.folder}/b.raw", stdin=f)
        assert_same(read(f"{repo.folder}/b.raw"), wanted)
        write(f"{repo.folder}/raw", b"x" * 4096)
        result = fleecectl("restore", f"{repo.folder}/raw", "-o", f"{repo.folder}/c.raw", check=False)
        assert result.returncode == 1 and "qcow2" in result.stderr, result
        assert not os.path.exists(f"{repo.folder}/c.raw")


# ---- what is refused ----

@test
def words_that_do_not_fit():
    with repository() as repo:
        out = f"{repo.folder}/x"
        for code, words, args in (
                (2, "-o TARGET", []), (2, "which disk?", ["-o", "-"]), (2, "which disk?", ["-o", "nbd://localhost"]),
                (2, "--format vmdk", ["-o", out, "--format", "vmdk"]), (2, "--jobs 0", ["-o", out, "--jobs", "0"]),
                (2, "--json", ["-o", "-", "--disk", "vda", "--json"]), (1, "vdz", ["-o", out, "--disk", "vdz"]),
                (1, "7", ["-o", out, "--until", "7"]), (4, "", ["--disk", "vda", "-o", f"nbd+unix:///?socket={out}"])):
            refused(repo, words, *args, code=code)
            assert not os.path.exists(out)
        write(out, b"x")
        refused(repo, "not a folder", "-o", out)
        refused(repo, "it exists", "--disk", "vda", "-o", out)
        assert read(out) == b"x"
        restore(repo, "--disk", "vda", "-o", out, "--force")
        assert_same(read(out), expected(repo, 2, "vda"))


@test
def a_target_that_is_too_small():
    with repository() as repo, Server("--disk", "vda", "memory", str(VDA - 512)) as s:
        for force in [], ["--force"]:
            result = restore(repo, "--disk", "vda", "-o", uri("vda", unix=s.socket), *force, check=False)
            assert result.returncode == 1 and str(VDA) in result.stderr, result
        assert not any(s.nbd("vda").pread(VDA - 512, 0))


def flip(path, needle):
    data = bytearray(read(path))
    data[data.index(needle) + 5] ^= 1
    write(path, data)


@test
def damage_is_found_before_anything_is_written():
    def cut(repo):
        os.truncate(repo.file(0, "vda"), repo.entry(0, "vda")["bytes"] - 512)

    def lose(repo):
        os.unlink(repo.file(0, "vda"))

    def replace_by_a_fifo(repo):
        lose(repo)
        os.mkfifo(repo.file(0, "vda"))

    def replace(repo):
        """The middle one is another disk's."""
        shutil.copy(repo.file(0, "vda"), repo.file(1, "vda"))
        repo.reseal(1, "vda")

    def leave_out(repo):
        """The newest stands on the first."""
        run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "00000-full.qcow2", repo.file(2, "vda"))
        repo.reseal(2, "vda")

    def shrink(repo):
        repo.entry(1, "vda")["size"] -= 512
        repo.save()

    def leave_the_repository(repo):
        run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "/etc/passwd", repo.file(1, "vda"))
        repo.reseal(1, "vda")

    def edit(repo):
        text = read(repo.join("manifest.json")).replace(b"00000-full", b"00000-fulk")
        write(repo.join("manifest.json"), text)

    for damage, words in ((cut, "00000-full.qcow2"), (lose, "/repo/vda/00000-full.qcow2: it is missing"), (replace_by_a_fifo, "not a regular file"),
                          (replace, "00001-inc.qcow2: it is of a disk of"), (leave_out, "its backing file is"),
                          (shrink, "00001-inc.qcow2"),
                          (leave_the_repository, "and should be"), (edit, "manifest.json")):
        with repository() as repo:
            damage(repo)
            for args in ["-o", f"{repo.folder}/out"], ["--disk", "vda", "-o", f"{repo.folder}/out"]:
                refused(repo, words, *args)
                assert not os.path.exists(f"{repo.folder}/out"), damage


@test
def verify_reads_the_whole_chain_first():
    with repository() as repo:
        restore(repo, "-o", f"{repo.folder}/fine", "--verify")
        flip(repo.file(0, "vda"), b"\x12" * K)
        refused(repo, f"{repo.path}/vda/00000-full.qcow2", "-o", f"{repo.folder}/out", "--verify")
        assert not os.path.exists(f"{repo.folder}/out")
        restore(repo, "--disk", "vdb", "-o", f"{repo.folder}/vdb", "--verify")


@test
def what_verify_has_found_damaged_needs_force():
    with repository() as repo:
        data = bytearray(read(repo.file(1, "vda")))
        data[-1] ^= 1
        write(repo.file(1, "vda"), data)
        assert fleecectl("verify", "--deep", repo.path, check=False).returncode == 1
        found, out = "found vda/00001-inc.qcow2 damaged", f"{repo.folder}/out"
        for args in [], ["--disk", "vda"], ["--until", "1"]:
            refused(repo, found, "-o", out, *args)
            assert not os.path.exists(out)
        # What is not on the chain is as good as ever.
        for disk, until in ("vda", "0"), ("vdb", "2"):
            result = restore(repo, "--disk", disk, "--until", until, "-o", f"{repo.folder}/{disk}")
            assert "damaged" not in result.stderr, result
        result = restore(repo, "-o", out, "--force")
        assert "fleecectl: warning: disk vda: " in result.stderr and found in result.stderr, result
        assert sorted(os.listdir(out)) == ["vda.raw", "vdb.raw"]
        for command in (["mount", repo.path], ["diff", repo.path, "0", "2", "--disk", "vda"]):
            result = fleecectl(*command)
            assert "warning" in result.stderr and found in result.stderr, result
        data[-1] ^= 1
        write(repo.file(1, "vda"), data)
        fleecectl("verify", "--deep", repo.path)
        assert_same(read(f"{repo.folder}/vda"), expected(repo, 0, "vda"))
        assert "damaged" not in restore(repo, "-o", f"{repo.folder}/good").stderr
        assert_same(read(f"{repo.folder}/good/vda.raw"), expected(repo, 2, "vda"))


@test
def disks_that_only_older_backups_have_are_told_of():
    with repository() as repo:
        result = restore(repo, "--until", "1", "-o", f"{repo.folder}/out")
        assert "note: disk vdb is not restored: backup 1 does not have it; the newest before it that has is " \
            "backup 0" in result.stderr, result
        assert os.listdir(f"{repo.folder}/out") == ["vda.raw"]
        assert "note" not in restore(repo, "-o", f"{repo.folder}/all").stderr
        assert "note" not in restore(repo, "--until", "1", "--disk", "vda", "-o", f"{repo.folder}/one").stderr


# ---- what is left ----

@test
def a_signal_ends_it_in_order():
    with repository() as repo:
        process = subprocess.Popen([FLEECECTL, "restore", repo.path, "--disk", "vda", "-o", "-", "--format", "raw"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=die_with_parent)
        assert len(process.stdout.read(1)) == 1  # and no more: it waits for us
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON) == 1
        assert b"SIGTERM" in process.stderr.read()
        process.stdout.close()
        process.stderr.close()


@test
def a_target_has_its_name_when_it_is_whole():
    """Killed at any step."""
    if SANITIZER != "no":
        skip("a library is preloaded, which the sanitizer does not bear")
    with repository() as repo:
        wanted, target = expected(repo, 2, "vda"), f"{repo.folder}/out.raw"
        env = {"LD_PRELOAD": STEPS, "FLEECE_STEP_WRITES": "1"}
        seen = set()
        for step in range(1, 1000):
            result = restore(repo, "--disk", "vda", "-o", target, check=False,
                             env={**env, "FLEECE_STEP_KILL": str(step)})
            seen.add(os.path.exists(target))
            if os.path.exists(target):
                assert_same(read(target), wanted, f"step {step}")
                os.unlink(target)
            if result.returncode == 0:
                break
            assert result.returncode == -signal.SIGKILL, result
        assert seen == {False, True} and step > 4, step
        assert not os.path.exists(f"{target}.partial")


@test
def what_fails_is_removed():
    if SANITIZER != "no":
        skip("a library is preloaded, which the sanitizer does not bear")
    with repository() as repo:
        log = f"{repo.folder}/log"
        env = {"LD_PRELOAD": STEPS, "FLEECE_STEP_WRITES": "1", "FLEECE_STEPS": log}
        restore(repo, "-o", f"{repo.folder}/out", "--jobs", "1", env=env)
        steps = [line.split() for line in open(log)]
        # Of the second disk a write, and the last sync: the first one is restored by then.
        of_vdb = [i for i, s in enumerate(steps, 1) if s[1].endswith("vdb.raw.partial")]
        writes = [i for i in of_vdb if steps[i - 1][0].startswith("pwrite")]
        for number in writes[0], of_vdb[-1]:
            target = f"{repo.folder}/out{number}"
            result = restore(repo, "-o", target, "--jobs", "1", check=False,
                             env={**env, "FLEECE_STEP_FAIL": str(number)})
            assert result.returncode == 3 and "1 of 2 disks are restored" in result.stderr, result
            assert result.stdout.startswith("vda: ") and "vdb" not in result.stdout, result
            assert os.listdir(target) == ["vda.raw"]
        result = restore(repo, "--disk", "vda", "-o", f"{repo.folder}/a/b", check=False)
        assert result.returncode == 1, result


@test
def nothing_in_a_repository_is_written_over():
    """Neither by its name nor by another one, of this repository or another."""
    words = "it is in a repository, in which nothing is written over"
    with repository() as repo:
        shutil.copytree(repo.path, f"{repo.folder}/copy")
        os.link(repo.file(0, "vda"), f"{repo.folder}/linked")
        os.symlink(repo.file(1, "vda"), f"{repo.folder}/to")
        before = {path: read(path) for path in (repo.file(0, "vda"), repo.file(1, "vda"), repo.path + "/manifest.json")}
        for target in (*before, f"{repo.folder}/linked", f"{repo.folder}/to", f"{repo.folder}/copy/vda/00000-full.qcow2",
                       repo.file(0, "vda") + ".sums"):
            refused(repo, words, "--disk", "vda", "--force", "-o", target)
        for target in before:
            result = fleecectl("restore", f"{repo.folder}/copy/vda/00000-full.qcow2", "--force", "-o", target, check=False)
            assert result.returncode == 1 and words in result.stderr, result
        assert before == {path: read(path) for path in before}
        # What is not in one is written over as ever.
        write(f"{repo.folder}/out.raw", b"x")
        restore(repo, "--disk", "vda", "--force", "-o", f"{repo.folder}/out.raw")
        assert_same(read(f"{repo.folder}/out.raw"), expected(repo, 2, "vda"), "out.raw")


main()
