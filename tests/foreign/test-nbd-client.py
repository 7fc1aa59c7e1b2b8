#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbd-client without the kernel's nbd device: it lists exports, and it negotiates before it opens
the device. Instead of a device it gets a plain file, and ends with an error there."""

import re

from fleece import Server, require_program, run, tmpdir
from tap import main, test

DISKS = ("--disk", "vda", "memory", "8M", "--disk", "vdb", "memory", "1000")


def nbd_client(*args):
    require_program("nbd-client")
    result = run("nbd-client", *args, check=False)
    return result, result.stdout + result.stderr


def negotiate(s, d, *args):
    """Let it negotiate, until it fails at the device. Returns what it said, and our log."""
    with open(f"{d}/device", "wb"):
        pass
    result, said = nbd_client("-L", "-n", "-unix", s.socket, *args, f"{d}/device")
    assert result.returncode != 0, "a plain file is no device"
    return said, s.log()


@test
def it_lists_the_exports():
    with Server(*DISKS) as s:
        result, said = nbd_client("-l", "-unix", s.socket)
        assert result.returncode == 0, said
        assert said.splitlines()[1:] == ["vda", "vdb"], said


@test
def it_lists_an_export_with_its_description():
    with Server(*DISKS) as s:
        s.qmp().cmd("block-export-add", type="nbd", id="e", name="more", **{"node-name": "vda"},
                    description="what it is")
        _, said = nbd_client("-l", "-unix", s.socket)
        assert "more" in said and "what it is" in said, said


@test
def it_negotiates_an_export():
    with tmpdir() as d, Server("-v", *DISKS) as s:
        said, log = negotiate(s, d, "-N", "vda")
        assert re.search(r"size = 8MB", said), said
        assert 'uses export "vda"' in log


@test
def it_is_told_that_there_is_no_such_export():
    with tmpdir() as d, Server("-v", *DISKS) as s:
        said, log = negotiate(s, d, "-N", "nope")
        assert 'there is no export named "nope"' in said, said
        assert "uses export" not in log


main()
