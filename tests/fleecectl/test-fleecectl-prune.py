#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl prune: what stays reads as before, in random repositories, and when prune dies or fails at any
of its steps."""

import contextlib
import datetime
import fcntl
import json
import os
import random
import re
import shutil
import signal

from fleece import BUILD, SANITIZER, fleecectl, require_program, run, tmpdir
from repository import Disk, Repository, sealed, sha256, read
from tap import main, note, skip, test

K, M = 1 << 10, 1 << 20
STEPS = f"{BUILD}/tests/fleecectl/.libs/steps.so"
LONG = "FLEECE_LONG" in os.environ


@contextlib.contextmanager
def repository():
    for program in "qemu-img", "qemu-io":
        require_program(program)
    with tmpdir() as folder:
        yield Repository(f"{folder}/repo")


def prune(repo, *args, **kwargs):
    return fleecectl("prune", repo.path, *args, **kwargs)


def ids(repo):
    repo.load()
    return [m["id"] for m in repo.members()]


def points(repo):
    """{(ID, disk): content} of all members."""
    repo.load()
    return {(m["id"], d["disk"]): repo.content(m["id"], d["disk"])
            for m in repo.members() for d in m["disks"]}


def parse_sums(text):
    return [(int(at), int(length), digest) for at, length, digest in
            (line.split() for line in text.decode().splitlines())]


def check_file(repo, entry):
    """The file is as the manifest and its checksums have it, and qemu-img finds nothing wrong."""
    path = repo.join(entry["file"])
    data, sums = read(path), read(path + ".sums")
    assert len(data) == entry["bytes"], entry
    assert sha256(sums) == entry["sums"], entry
    end = 0
    for at, length, digest in parse_sums(sums):
        assert at == end and sha256(data[at:at + length]) == digest, (entry, at)
        end = at + length
    assert end == len(data), entry
    run("qemu-img", "check", "-q", "-f", "qcow2", path)


def check(repo, before, kept=None, deep=True):
    """What is in the repository reads as it did, and is whole; all of `kept` is there."""
    repo.load()
    assert read(repo.join("manifest.json")).decode() == sealed_as_read(repo)
    for m in repo.members():
        for d in m["disks"]:
            assert repo.content(m["id"], d["disk"]) == before[m["id"], d["disk"]], (m["id"], d)
            if deep:
                check_file(repo, d)
    left = ids(repo)
    assert set(kept or []) <= set(left), (kept, left)


def sealed_as_read(repo):
    """The manifest with the hash that it should have: only the hash is made anew."""
    text = read(repo.join("manifest.json")).decode()
    body, seal = text.split('  "sha256": "')
    return f'{body}  "sha256": "{sha256(body.encode())}"{seal[64 + 1:]}'


def named_files(repo):
    return {name for m in repo.members() for d in m["disks"]
            for name in (d["file"], d["file"] + ".sums")}


def files(repo):
    """What there is in the folders of disks."""
    return {os.path.relpath(os.path.join(at, name), repo.path)
            for at, _, names in os.walk(repo.path) if at != repo.path for name in names}


def chain(repo):
    """A full backup, and three on it; the third is compressed."""
    repo.add({"vda": Disk(2 * M, [(0, 192 * K, 0x11), (M, 64 * K, 0x12)])})
    repo.add({"vda": Disk(2 * M, [(64 * K, 64 * K, 0x21)], level="inc")})
    repo.add({"vda": Disk(2 * M, [(M, 64 * K, 0x31)], level="inc", compress=True)})
    repo.add({"vda": Disk(2 * M, [(1536 * K, 64 * K, 0x41)], level="inc")})
    return points(repo)


# ---- what stays ----

@test
def rules_say_what_stays():
    with repository() as repo:
        at = datetime.datetime(2026, 11, 23, 3, tzinfo=datetime.timezone.utc)
        for days, hours in ((0, 0), (0, 6), (1, 0), (5, 0), (6, 0), (7, 0)):
            repo.add({"vda": Disk(M, [(0, K, 1)])}, at + datetime.timedelta(days=days, hours=hours))
        before = points(repo)
        utc = {"TZ": "UTC"}
        out = json.loads(prune(repo, "--keep-last", "1", "--keep-daily", "2", "--keep-weekly", "2", "--dry-run",
                               "--json", env=utc).stdout)
        assert out["dry-run"] and [(m["id"], m["kept-as"]) for m in out["members"] if not m["removed"]] == [
            (4, ["daily", "weekly"]), (5, ["last", "daily", "weekly"])], out
        assert ids(repo) == [0, 1, 2, 3, 4, 5]
        text = prune(repo, "--keep-daily", "5", env=utc).stdout
        assert re.search(r"^ 0  2026-11-23 03:00:00  full   goes$", text, re.M), text
        assert "removing 1 of 6 backups" in text, text
        freed = re.search(r"^removed 1 of 6 backups, (.*) freed\n\Z", text, re.M)
        assert freed and freed[1] == "384 KiB", text
        assert ids(repo) == [1, 2, 3, 4, 5]
        check(repo, before)
        assert files(repo) == named_files(repo)


@test
def a_disk_that_is_backed_up_no_more_keeps_its_backups():
    with repository() as repo:
        repo.add({"vda": Disk(M, [(0, K, 1)]), "old": Disk(M, [(0, K, 2)])})
        for _ in range(4):
            repo.add({"vda": Disk(M, [(0, K, 3)], level="inc")})
        before = points(repo)
        prune(repo, "--keep-last", "2")
        assert ids(repo) == [0, 3, 4]
        check(repo, before)


@test
def no_rule_and_wrong_rules_are_refused():
    with repository() as repo:
        before = chain(repo)
        for args, words in (((), "what is to stay?"), (("--keep-last", "0"), "from 1 to"),
                            (("--keep-daily", "x"), "--keep-daily x")):
            result = prune(repo, *args, check=False)
            assert result.returncode == 2 and words in result.stderr, result
        check(repo, before, [0, 1, 2, 3])


@test
def a_dry_run_changes_nothing():
    with repository() as repo:
        chain(repo)
        manifest, there = read(repo.join("manifest.json")), files(repo)
        text = prune(repo, "--keep-last", "2", "--dry-run").stdout
        assert "would remove 2 of 4 backups" in text, text
        assert "vda/00002-inc.qcow2 becomes vda/00002-full.1.qcow2, with what it needs of 2 older files\n" \
            in text, text
        assert "vda/00003-inc.qcow2 becomes vda/00003-inc.1.qcow2, over vda/00002-full.1.qcow2\n" in text, text
        assert read(repo.join("manifest.json")) == manifest and files(repo) == there


# ---- what is written anew ----

@test
def a_chain_is_shortened_again_and_again():
    with repository() as repo:
        before = chain(repo)
        for keep, names in ((3, ["vda/00001-full.1.qcow2", "vda/00002-inc.1.qcow2", "vda/00003-inc.1.qcow2"]),
                            (2, ["vda/00002-full.2.qcow2", "vda/00003-inc.2.qcow2"]),
                            (1, ["vda/00003-full.3.qcow2"])):
            prune(repo, "--keep-last", str(keep))
            check(repo, before, list(range(4 - keep, 4)))
            assert [d["file"] for m in repo.members() for d in m["disks"]] == names
            assert files(repo) == named_files(repo)


@test
def compressed_files_stay_compressed():
    with repository() as repo:
        repo.add({"vda": Disk(8 * M, [(0, 4 * M, 0x11)], compress=True)})
        repo.add({"vda": Disk(8 * M, [(0, 64 * K, 0x22)], level="inc")})
        before = points(repo)
        prune(repo, "--keep-last", "1")
        check(repo, before)
        assert repo.entry(1, "vda")["bytes"] < M, repo.entry(1, "vda")


@test
def what_a_shorter_disk_hid_stays_hidden():
    """The base has data where the disk between had ended: the file that is left must say zeroes there."""
    with repository() as repo:
        repo.add({"vda": Disk(4 * M, [(0, 4 * M, 0x11)])})
        repo.add({"vda": Disk(M + 4 * K, [(0, K, 0x22)], level="inc")})
        repo.add({"vda": Disk(4 * M, [(3 * M, K, 0x33)], level="inc")})
        before = points(repo)
        assert before[2, "vda"][2 * M] == 0
        # Days: the first, and the last two, of which one goes.
        repo.manifest["members"][1]["time"] = "2026-11-03T02:00:00.000000Z"
        repo.save()
        prune(repo, "--keep-daily", "2", env={"TZ": "UTC"})
        assert ids(repo) == [0, 2]
        check(repo, before)
        assert repo.entry(2, "vda")["parent"] == 0


def random_repository(rng, repo):
    size = {}
    for number in range(rng.randrange(4, 9)):
        disks = {}
        for name in rng.sample(["vda", "sda"], rng.choice((1, 1, 2))):
            if name not in size or rng.random() < .3:
                size[name] = rng.randrange(1, 12) * 256 * K + rng.choice((0, 512, 64 * K))
            writes = [(at, min(rng.randrange(1, 40) * 4 * K, size[name] - at), rng.randrange(256))
                      for at in (rng.randrange(0, size[name] // 512) * 512 for _ in range(3))]
            below = [m["id"] for m in repo.members() if any(d["disk"] == name for d in m["disks"])]
            fulls = [i for i in below if repo.entry(i, name)["level"] == "full"]
            level = rng.choice(("full", "inc", "inc", "inc", "diff")) if below else "full"
            parent = rng.choice(fulls) if level == "diff" else rng.choice(below[-2:]) if level == "inc" else None
            disks[name] = Disk(size[name], writes, level, parent)
        repo.add(disks)
        for name, disk in disks.items():
            if rng.random() < .5:
                at = rng.randrange(0, disk.size // 512) * 512
                run("qemu-io", "-f", "qcow2", "-c", f"write -z {at} {min(100 * K, disk.size - at)}",
                    repo.file(number, name))
                repo.reseal(number, name)


def keep_these(rng, repo):
    """Make of the times of members that some stay by --keep-daily: those that are the last of a day."""
    repo.load()
    day, kept = datetime.datetime(2026, 1, 1, 3), []
    for m in repo.members():
        day += datetime.timedelta(seconds=1)
        m["time"] = day.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if m is repo.members()[-1] or rng.random() < .5:
            kept.append(m["id"])
            day += datetime.timedelta(days=1)
    repo.save()
    return kept


@test
def random_repositories_read_as_before():
    seed = random.randrange(1 << 32)
    note(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(40 if LONG else 6):
        with repository() as repo:
            random_repository(rng, repo)
            before = points(repo)
            for _ in range(2):
                kept = keep_these(rng, repo)
                prune(repo, "--keep-daily", "100", env={"TZ": "UTC"})
                check(repo, before, kept)
                assert files(repo) == named_files(repo)


# ---- what goes wrong ----

@test
def damage_is_found_and_not_passed_on():
    """A flipped bit in a file that is taken over: nothing changes, and the file is named."""
    with repository() as repo:
        before = chain(repo)
        path = repo.file(0, "vda")
        data = bytearray(read(path))
        at = data.index(b"\x12" * K)
        data[at + 7] ^= 4
        with open(path, "wb") as f:
            f.write(data)
        manifest = read(repo.join("manifest.json"))
        result = prune(repo, "--keep-last", "3", check=False)
        assert result.returncode == 1 and "vda/00000-full.qcow2" in result.stderr, result
        assert read(repo.join("manifest.json")) == manifest
        assert files(repo) == named_files(repo)
        data[at + 7] ^= 4
        with open(path, "wb") as f:
            f.write(data)
        check(repo, before, [0, 1, 2, 3])


@test
def a_chain_that_is_not_the_manifests_is_refused():
    with repository() as repo:
        chain(repo)
        os.rename(repo.file(1, "vda"), repo.file(1, "vda") + ".x")
        shutil.copy(repo.file(0, "vda"), repo.file(1, "vda"))
        repo.reseal(1, "vda")
        manifest = read(repo.join("manifest.json"))
        result = prune(repo, "--keep-last", "2", check=False)
        assert result.returncode == 1 and 'its backing file is "", and should be "00000-full.qcow2"' \
            in result.stderr, result
        assert read(repo.join("manifest.json")) == manifest


@test
def somebody_who_reads_holds_it_up():
    with repository() as repo:
        before = chain(repo)
        with open(repo.join("lock"), "a+") as f:
            fcntl.flock(f, fcntl.LOCK_SH)
            result = prune(repo, "--keep-last", "1", check=False)
            assert result.returncode == 1 and repo.path in result.stderr, result
        check(repo, before, [0, 1, 2, 3])


@test
def a_backup_that_was_cut_comes_first():
    """It may be resumed: its files stand on others as they are now."""
    with repository() as repo:
        before = chain(repo)
        with open(repo.join("running.json"), "w") as f:
            f.write("{}")
        result = prune(repo, "--keep-last", "1", check=False)
        assert result.returncode == 1 and "is not settled" in result.stderr, result
        check(repo, before, [0, 1, 2, 3])


def need_steps():
    if SANITIZER != "no":
        skip("a library is preloaded, which the sanitizer does not bear")


def prune_at(repo, variable=None, number=None, log=None, **more):
    env = {"LD_PRELOAD": STEPS, "FLEECE_STEP_WRITES": "1", **more}
    if variable:
        env[variable] = str(number)
    if log:
        env["FLEECE_STEPS"] = log
    return prune(repo, "--keep-last", "2", check=False, env=env)


@test
def too_little_space_is_said_before():
    need_steps()
    with repository() as repo:
        before = chain(repo)
        result = prune_at(repo, FLEECE_STEP_FREE="100000")
        assert result.returncode == 1 and "are needed" in result.stderr, result
        assert files(repo) == named_files(repo)
        check(repo, before, [0, 1, 2, 3])


def steps_of(repo):
    """The steps that a prune of a copy takes."""
    log = repo.path + "-log"
    with copy_of(repo) as copy:
        result = prune_at(copy, log=log)
        assert result.returncode == 0, result
        lines = [tuple(line.rstrip("\n").replace(copy.path, "REPO").split(" ", 1)) for line in open(log)]
    os.unlink(log)
    return lines


@contextlib.contextmanager
def copy_of(repo):
    """The same repository once more; files are linked, because nobody may write to one."""
    path = repo.path + "-copy"
    shutil.copytree(repo.path, path, copy_function=os.link)
    copy = object.__new__(Repository)
    copy.path = path
    try:
        yield copy
    finally:
        shutil.rmtree(path)


@test
def names_are_durable_before_the_manifest_and_go_after_it():
    need_steps()
    with repository() as repo:
        chain(repo)
        steps = steps_of(repo)
        switch = steps.index(("rename", "REPO/manifest.json"))
        assert ("fsync", "REPO") in steps[switch:], steps
        durable = switch + steps[switch:].index(("fsync", "REPO"))
        for name in "vda/00002-full.1.qcow2", "vda/00002-full.1.qcow2.sums", "vda/00003-inc.1.qcow2", \
                "vda/00003-inc.1.qcow2.sums":
            named = steps.index(("rename", f"REPO/{name}"))
            partial = [i for i, s in enumerate(steps) if s[1] == f"REPO/{name}.partial"]
            assert steps[partial[-1]][0] in ("fsync", "fdatasync"), (name, steps)
            assert partial[-1] < named < switch, (name, steps)
            assert ("fsync", "REPO/vda") in steps[named:switch], (name, steps)
        removed = [i for i, s in enumerate(steps) if s[0] == "unlink" and s[1].startswith("REPO/vda/")]
        assert len(removed) == 8 and min(removed) > durable, steps


def grid(repo, variable, judge):
    """Let prune die or fail at each of its steps; some of them in a short run."""
    total = len(steps_of(repo))
    seed = random.randrange(1 << 32)
    note(f"{total} steps, seed {seed}")
    rng = random.Random(seed)
    for number in range(1, total + 1) if LONG else sorted(rng.sample(range(1, total + 1), min(total, 20))):
        with copy_of(repo) as copy:
            judge(copy, number, prune_at(copy, variable, number))


@test
def a_kill_at_any_step_leaves_what_stays():
    """Then what stays is there and reads as before, and the next run ends the work."""
    need_steps()
    with repository() as repo:
        before = chain(repo)

        def judge(copy, number, result):
            assert result.returncode == -signal.SIGKILL, (number, result)
            check(copy, before, [2, 3], deep=False)
            assert ids(copy) in ([0, 1, 2, 3], [2, 3]), (number, ids(copy))
            again = prune_at(copy)
            assert again.returncode == 0, (number, again)
            check(copy, before, [2, 3], deep=number % 8 == 0)
            assert ids(copy) == [2, 3], (number, ids(copy))
            assert files(copy) == named_files(copy), number

        grid(repo, "FLEECE_STEP_KILL", judge)


@test
def a_failure_of_any_step_leaves_what_stays():
    need_steps()
    with repository() as repo:
        before = chain(repo)
        codes = set()

        def judge(copy, number, result):
            codes.add(result.returncode)
            assert result.returncode in (0, 1, 3), (number, result)
            check(copy, before, [2, 3], deep=False)
            if result.returncode != 1:
                assert ids(copy) == [2, 3], (number, result)
            again = prune_at(copy)
            assert again.returncode == 0, (number, again)
            check(copy, before, [2, 3], deep=number % 8 == 0)
            assert files(copy) == named_files(copy), number

        grid(repo, "FLEECE_STEP_FAIL", judge)
        assert 1 in codes, codes


main()
