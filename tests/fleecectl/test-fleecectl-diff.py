#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl diff: what changed between two members."""

import contextlib
import json
import os

from fleece import fleecectl, require_program, tmpdir
from repository import Disk, Repository
from tap import main, test

K, M = 1 << 10, 1 << 20


@contextlib.contextmanager
def repository():
    for program in "qemu-img", "qemu-io":
        require_program(program)
    with tmpdir() as folder:
        yield Repository(f"{folder}/repo")


def diff(repo, *args, **kwargs):
    return fleecectl("diff", repo.path, *args, **kwargs)


def changed(repo, a, b, *args):
    """[(offset, length)] of what changed. Checks that extents are in order and that the sums are right."""
    m = json.loads(diff(repo, "--json", str(a), str(b), *args).stdout)
    at, sums = 0, [0, 0]
    for e in m["extents"]:
        assert e["start"] == at and e["type"] == ("unchanged", "changed")[e["flags"]], e
        at += e["length"]
        sums[e["flags"]] += e["length"]
    assert at == m["size"] and m["context"] == "changed", m
    assert {t["flags"]: t["bytes"] for t in m["totals"]} == {f: n for f, n in enumerate(sums) if n}, m
    flags = [e["flags"] for e in m["extents"]]
    assert all(x != y for x, y in zip(flags, flags[1:])), m
    return [(e["start"], e["length"]) for e in m["extents"] if e["flags"]]


@test
def on_one_chain_what_was_written():
    with repository() as repo:
        repo.add({"vda": Disk(4 * M, [(0, M, 0x11)])})
        repo.add({"vda": Disk(4 * M, [(2 * M, 64 * K, 0x22)], level="inc")})
        repo.add({"vda": Disk(4 * M, [(2 * M, 64 * K, 0x22), (3 * M, K, 0x33)], level="inc")})
        repo.add({"vda": Disk(4 * M, [(0, K, 0)], level="inc", compress=False)})
        assert changed(repo, 0, 1) == [(2 * M, 64 * K)]
        # Written with the same data is written.
        assert changed(repo, 1, 2) == [(2 * M, 64 * K), (3 * M, 64 * K)]
        assert changed(repo, 2, 3) == [(0, 64 * K)]
        assert changed(repo, 0, 3) == changed(repo, 3, 0) == [(0, 64 * K), (2 * M, 64 * K), (3 * M, 64 * K)]
        assert changed(repo, 2, 2) == []
        assert changed(repo, "2026-11-02", "2026-11-04") == [(0, 64 * K), (2 * M, 64 * K), (3 * M, 64 * K)]


@test
def on_a_chain_of_another_size():
    with repository() as repo:
        repo.add({"vda": Disk(2 * M, [(0, 2 * M, 0x11)])})
        repo.add({"vda": Disk(M, [], level="inc")})
        repo.add({"vda": Disk(3 * M, [(2 * M + M // 2, K, 0x22)], level="inc")})
        assert changed(repo, 0, 1) == []
        # Where the disk had ended there are zeroes now.
        assert changed(repo, 0, 2) == [(M, 2 * M)]
        assert changed(repo, 1, 2) == [(2 * M + M // 2, 64 * K)]


@test
def on_two_chains_what_differs():
    with repository() as repo:
        repo.add({"vda": Disk(3 * M + 512, [(0, M, 0x11), (M + 4 * K, K, 0x12)])})
        repo.add({"vda": Disk(4 * M, [(0, M, 0x11), (M + 4 * K, K, 0x13), (3 * M + 512, K, 0x14), (2 * M, M, 0),
                                      (M + 512 * K, K, 0x15)])})
        assert changed(repo, 0, 1) == [(M, 64 * K), (M + 512 * K, 64 * K), (3 * M, 64 * K)]
        # Differences of one full one are on two chains, too.
        repo.add({"vda": Disk(4 * M, [(64 * K, K, 1), (M, 64 * K, 2)], level="diff", parent=1)})
        repo.add({"vda": Disk(4 * M, [(128 * K, K, 1), (M, 64 * K, 2)], level="diff", parent=1)})
        assert changed(repo, 2, 3) == [(64 * K, 128 * K)]
        assert changed(repo, 1, 3) == [(128 * K, 64 * K), (M, 64 * K)]


@test
def several_disks_and_pictures():
    with repository() as repo:
        repo.add({"vda": Disk(M, [(0, M, 1)]), "vdb": Disk(M), "gone": Disk(M)})
        repo.add({"vda": Disk(M, [(0, 64 * K, 2)], level="inc"), "vdb": Disk(M, [], level="inc")})
        lines = diff(repo, "0", "1", "--json", "--summary").stdout.splitlines()
        assert [json.loads(line)["name"] for line in lines] == ["vda 0..1", "vdb 0..1"], lines
        text = diff(repo, "1", "0", "--ascii", env={"LC_ALL": "C"}).stdout
        assert "vda 0..1  changed" in text and "vdb 0..1  changed" in text and "# changed" in text, text
        assert text.count("\n    changed") == 1 and text.count("\n  unchanged") == 2, text
        page = repo.path + ".html"
        diff(repo, "0", "1", "--disk", "vda", "--html", page)
        with open(page, encoding="utf-8") as f:
            assert "changed" in f.read()
        for args, code, words in ((["--html", page], 2, "--disk"), (["--html", page, "--json"], 2, "--html"),
                                  (["--disk", "gone"], None, ""), (["--disk", "x"], 1, "x")):
            result = diff(repo, "0", "1", *args, check=False)
            assert code is None or result.returncode == code and words in result.stderr, result
        result = diff(repo, "0", "9", check=False)
        assert result.returncode == 1 and "9" in result.stderr, result


@test
def damage_is_an_error():
    with repository() as repo:
        repo.add({"vda": Disk(M, [(0, M, 1)])})
        repo.add({"vda": Disk(M, [(0, 64 * K, 2)], level="inc")})
        os.unlink(repo.file(0, "vda"))
        result = diff(repo, "0", "1", check=False)
        assert result.returncode == 1 and "00000-full.qcow2" in result.stderr, result


main()
