#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Maps of huge images with hardly any data: a hole of any size takes one system call."""

import contextlib
import json
import os
import tempfile

from fleece import Server, fleecectl, require_plugin, uri
from tap import main, skip, test

import calls
from rawnbd import Client, TRIM, WRITE_ZEROES, FAST_ZERO

BASE = "base:allocation"
DATA, HOLE = 0, 3
MIB, TIB = 1 << 20, 1 << 40


@contextlib.contextmanager
def sparse(size, *written):
    """A sparse file of `size` bytes with a MiB of data at each offset of `written`. It is in
    memory, because a file there may be as large as the kernel allows."""
    try:
        file = tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="fleece-map-")
    except OSError as e:
        skip(f"no /dev/shm: {e}")
    with file:
        try:
            file.truncate(size)
        except OSError as e:
            skip(f"no file of {size} bytes in /dev/shm: {e}")
        for at in written:
            os.pwrite(file.fileno(), b"x" * MIB, at)
        yield file.name


def connect(s, name="", extended=True):
    c = Client(s.socket)
    c.extended() if extended else c.structured()
    c.set_contexts(name, BASE)
    return c.go(name)


@test
def one_reply_maps_2_56_bytes():
    size = 1 << 56
    with sparse(size, size // 2) as path, calls.server(path, "file", path) as (s, seen):
        c = connect(s)
        seen()
        extents = c.block_status(0, size)[BASE]
        assert extents == [(size // 2, HOLE), (MIB, DATA), (size // 2 - MIB, HOLE)], extents
        assert len(seen()) <= 6  # one for every 4 GiB would be 2^24


@test
def the_largest_file_that_can_be():
    # It ends a page before the last offset. The second map begins and ends inside extents.
    size = (1 << 63) - 4096
    with sparse(size, 0) as path, calls.server(path, "file", path) as (s, seen):
        c = connect(s)
        seen()
        assert c.block_status(0, size)[BASE] == [(MIB, DATA), (size - MIB, HOLE)]
        assert c.block_status(MIB // 2, size - MIB)[BASE] == [(MIB // 2, DATA),
                                                               (size - MIB - MIB // 2, HOLE)]
        assert len(seen()) <= 10


@test
def compact_headers_get_all_that_they_ask_for():
    size, most = 1 << 56, (1 << 32) - 4096
    with sparse(size, MIB) as path, calls.server(path, "file", path) as (s, seen):
        c = connect(s, extended=False)
        seen()
        assert c.block_status(0, most)[BASE] == [(MIB, HOLE), (MIB, DATA), (most - 2 * MIB, HOLE)]
        assert c.block_status(TIB, most)[BASE] == [(most, HOLE)]
        assert len(seen()) <= 6


@test
def a_view_of_16_TiB():
    size = 16 * TIB
    with sparse(size, TIB) as path, calls.server(path, "--disk", "vda", "file", path) as (s, seen):
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="v")
        q.cmd("block-export-add", **{"type": "nbd", "id": "e", "node-name": "v", "name": "v"})
        # The view's map does not change when the disk is written.
        connect(s, "vda").write(TIB, b"y" * 4096)
        connect(s, "vda").write(2 * TIB, b"y" * 4096)
        seen()
        extents = connect(s, "v").block_status(0, size)[BASE]
        assert extents == [(TIB, HOLE), (MIB, DATA), (15 * TIB - MIB, HOLE)], extents
        assert len(seen()) <= 10


@test
def clearing_holes_under_a_view():
    size = 16 * TIB
    with sparse(size, TIB) as path, calls.server(path, "--disk", "vda", "file", path) as (s, seen):
        s.qmp().cmd("view-create", disk="vda", name="v")
        c = connect(s, "vda")
        seen()
        assert c.do(TRIM, 0, size) == 0
        asked = [call for call in seen() if call.name == "lseek"]
        assert len(asked) <= 30, len(asked)  # one for every GiB would be 16384
        assert c.block_status(0, size)[BASE] == [(size, HOLE)]
        seen()
        assert c.do(WRITE_ZEROES, 0, size, FAST_ZERO) == 0
        asked = [call for call in seen() if call.name == "lseek"]
        assert len(asked) <= 30, len(asked)


@test
def a_foreign_plugin_may_tell_more_than_it_was_asked():
    require_plugin("null")
    size = (1 << 63) - 1
    with Server("null", str(size)) as s:
        assert connect(s).block_status(0, size)[BASE] == [(size, HOLE)]


@test
def fleecectl_maps_a_TiB():
    with sparse(TIB, MIB) as path, calls.server(path, "file", path) as (s, seen):
        told = json.loads(fleecectl("--json", "map", uri(unix=s.socket)).stdout)
        assert [(e["length"], e["flags"]) for e in told["extents"]] == [
            (MIB, HOLE), (MIB, DATA), (TIB - 2 * MIB, HOLE)], told
        # A libnbd that only knows compact headers sends a request for every 4 GiB. Each may take
        # two calls.
        assert len(seen()) <= 600


main()
