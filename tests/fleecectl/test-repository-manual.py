#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What nbdfleece-repository(5) tells people to run: it works, on what is good and on what is not."""

import json
import os
import re
import sys
import textwrap

from fleece import SOURCE, fleecectl, run, tmpdir
from repository import Disk, Repository, read, write
from tap import main, test

K, M = 1 << 10, 1 << 20


def program(name):
    """A program of the manual."""
    with open(os.path.join(SOURCE, "man", "nbdfleece-repository.pod"), encoding="utf-8") as f:
        text = f.read()
    return textwrap.dedent(re.search(rf"^=for test {name}\n\n((?: .*\n|\n)+)", text, re.M)[1])


def make(top):
    repo = Repository(os.path.join(top, "repo"))
    repo.add({"vda": Disk(4 * M, [(0, 300 * K, 1)]), "vdb": Disk(M)})
    repo.add({"vda": Disk(4 * M, [(M, K, 1)], "inc")})
    repo.add({"vda": Disk(4 * M, [(2 * M, K, 1)], "inc"), "vdb": Disk(M, [(0, K, 1)], "diff")})
    return repo


def check(repo, code=0):
    """The manual's own check: what it prints, without why a file cannot be read."""
    result = run(sys.executable, "-c", program("check"), repo.path, check=False)
    assert result.returncode == code and "Traceback" not in result.stderr, result
    return [line for line in result.stdout.splitlines() if "No such file" not in line] or result.stderr


@test
def a_check_in_python():
    with tmpdir() as top:
        repo = make(top)
        assert check(repo) == ["0 vda good", "0 vdb good", "1 vda good", "2 vda good", "2 vdb good"]
        data = bytearray(read(repo.file(1, "vda")))
        data[-1] ^= 1
        write(repo.file(1, "vda"), data)
        damaged = ["0 vda good", "0 vdb good", "1 vda DAMAGED", "2 vda good", "2 vdb good"]
        assert check(repo, 1) == damaged
        os.unlink(repo.file(1, "vda"))
        assert check(repo, 1) == damaged
        os.unlink(repo.file(0, "vdb") + ".sums")
        damaged[1] = "0 vdb DAMAGED"
        assert check(repo, 1) == damaged
        text = read(repo.join("manifest.json"))
        write(repo.join("manifest.json"), text.replace(b'"id": 1', b'"id": 2'))
        assert check(repo, 1) == "manifest.json is damaged, or was edited\n"
        os.unlink(repo.join("manifest.json"))
        assert "No such file" in check(repo, 1)


@test
def an_edited_manifest():
    """The newest member is taken out, the hash written anew; fleecectl takes it."""
    with tmpdir() as top:
        repo = make(top)
        manifest = json.loads(read(repo.join("manifest.json")))
        manifest["members"].pop()
        write(repo.join("manifest.json"), json.dumps(manifest).encode())
        assert fleecectl("list", repo.path, check=False).returncode == 1
        run(sys.executable, "-c", program("reseal"), repo.path)
        told = json.loads(fleecectl("--json", "list", repo.path).stdout)
        assert [m["id"] for m in told["members"]] == [0, 1]
        fleecectl("verify", repo.path, "--deep")
        assert len(check(repo)) == 3


@test
def any_member_is_a_disk():
    """qemu-img alone reads each as what was written up to it."""
    with tmpdir() as top:
        repo = make(top)
        want = bytearray(4 * M)
        for number, (at, length) in enumerate(((0, 300 * K), (M, K), (2 * M, K))):
            want[at:at + length] = b"\1" * length
            assert repo.content(number, "vda") == want
            assert "corrupt" not in run("qemu-img", "check", repo.file(number, "vda")).stdout
        over = os.path.join(top, "try.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", repo.file(2, "vda"), over)
        run("qemu-img", "compare", "-q", over, repo.file(2, "vda"))


main()
