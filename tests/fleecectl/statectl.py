# SPDX-License-Identifier: BSD-3-Clause
"""What tests of `fleecectl state` share: folders, and what the commands say of them. make-state makes
folders: its disks and bitmaps are in tests/rigs/made-state.h."""

import contextlib
import json
import os
import tempfile

from fleece import BUILD, Server, fleecectl, run, tmpdir

K, M = 1 << 10, 1 << 20
MAKE_STATE = os.path.join(BUILD, "tests", "fleecectl", "make-state")


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


def told(folder):
    """What `state list` says of it."""
    return json.loads(ctl("--json", "state", "list", folder)[0])


def listed(folder):
    """{(disk, bitmap): what is said of it}"""
    return {(disk["name"], b["name"]): b for disk in told(folder)["disks"] for b in disk["bitmaps"]}


def content(folder):
    """Each file and what is in it, but the lock."""
    found = {}
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as f:
                found[os.path.relpath(os.path.join(path, name), folder)] = f.read()
    found.pop("lock")
    return found


def in_order(folder):
    """A check finds nothing wrong."""
    out, err = ctl("state", "check", folder)
    assert err == "" and out.endswith("nothing is wrong\n"), (out, err)


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
