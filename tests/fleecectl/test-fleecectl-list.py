#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl list: what is in a repository, for people and as JSON."""

import json
import os

from fleece import fleecectl, tmpdir
from repository import Disk, Repository, write
from tap import main, test

K, M = 1 << 10, 1 << 20
UTC = {"TZ": "UTC"}


def ctl(*args):
    result = fleecectl(*args, env=UTC)
    assert result.stderr == ""
    return result.stdout


def make(top):
    repo = Repository(os.path.join(top, "repo"))
    repo.add({"vda": Disk(4 * M, [(0, K, 1)]), "vdb": Disk(M)})
    repo.add({"vda": Disk(4 * M, [(M, K, 1)], "inc")}, checkpoint=False)
    repo.add({"vda": Disk(4 * M, [(M, K, 1)], "inc"), "vdb": Disk(M, [(0, K, 1)], "diff")})
    return repo


@test
def as_text():
    with tmpdir() as top:
        repo = make(top)
        assert [line.split() for line in ctl("list", repo.path).splitlines()] == [
            ["ID", "TIME", "DISK", "LEVEL", "PARENT", "SIZE", "BYTES", "CHECKPOINT", "STATUS"],
            ["0", "2026-11-01", "03:00:00", "vda", "full", "-", "4", "MiB", "384", "KiB", "backup-00000", "ok"],
            ["0", "2026-11-01", "03:00:00", "vdb", "full", "-", "1", "MiB", "192", "KiB", "backup-00000", "ok"],
            ["1", "2026-11-02", "03:00:00", "vda", "inc", "0", "4", "MiB", "384", "KiB", "-", "ok"],
            ["2", "2026-11-03", "03:00:00", "vda", "inc", "1", "4", "MiB", "384", "KiB", "backup-00002", "ok"],
            ["2", "2026-11-03", "03:00:00", "vdb", "diff", "0", "1", "MiB", "384", "KiB", "backup-00002", "ok"]]


@test
def as_json():
    with tmpdir() as top:
        repo = make(top)
        told = json.loads(ctl("--json", "list", repo.path))
        assert list(told) == ["members"]
        assert [(m["id"], m["time"], m["level"], m["checkpoint"], m["since"]) for m in told["members"]] == [
            (0, "2026-11-01T03:00:00.000000Z", "full", "backup-00000", None),
            (1, "2026-11-02T03:00:00.000000Z", "inc", None, "backup-00000"),
            (2, "2026-11-03T03:00:00.000000Z", "diff", "backup-00002", None)]
        assert told["members"][2]["disks"] == [
            {"disk": "vda", "file": "vda/00002-inc.qcow2", "level": "inc", "parent": 1, "since": "backup-00001",
             "reason": None, "size": 4 * M, "bytes": 384 * K, "status": "ok"},
            {"disk": "vdb", "file": "vdb/00002-diff.qcow2", "level": "diff", "parent": 0,
             "since": "backup-00000", "reason": None, "size": M, "bytes": 384 * K, "status": "ok"}]


@test
def what_is_wrong():
    with tmpdir() as top:
        repo = make(top)
        os.unlink(repo.file(0, "vda"))
        write(repo.file(2, "vda"), b"")
        told = json.loads(ctl("--json", "list", repo.path))
        assert {(m["id"], d["disk"]): d["status"] for m in told["members"] for d in m["disks"]} == {
            (0, "vda"): "missing", (0, "vdb"): "ok", (1, "vda"): "broken chain", (2, "vda"): "wrong size",
            (2, "vdb"): "ok"}


@test
def an_empty_one():
    with tmpdir() as top:
        repo = Repository(top)
        assert len(ctl("list", repo.path).splitlines()) == 1
        assert json.loads(ctl("--json", "list", repo.path)) == {"members": []}


@test
def none():
    with tmpdir() as top:
        for path, message in ((top, f"{top} is no repository: there is no manifest.json in it"),
                              (top + "/x", "No such file or directory")):
            result = fleecectl("list", path, check=False)
            assert result.returncode == 1 and message in result.stderr, result
            assert os.listdir(top) == [], "it leaves nothing"


@test
def names_that_mean_harm():
    """A disk's name does not act on the terminal."""
    with tmpdir() as top:
        repo = make(top)
        repo.member(1)["disks"][0]["disk"] = repo.member(0)["disks"][0]["disk"] = "\x1b[2J\u202e"
        repo.member(2)["disks"].pop(0)
        repo.save()
        out = ctl("list", repo.path)
        assert "\x1b" not in out and "\u202e" not in out and "\\u{1b}[2J" in out, out


main()
