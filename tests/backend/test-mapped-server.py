#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A disk of a plugin that tells where in a file its bytes are: the server reads and writes them there
by itself, through the wire, beside what goes by the plugin's callbacks, under views and bitmaps."""

import contextlib
import os
import random
import tempfile
import threading

from fleece import BUILD, Server
from tap import main, note, skip, test

from rawnbd import Client, FUA

MAPPED = f"{BUILD}/tests/plugins-src/.libs/mapped.so"
PIECE, PIECES = 128 << 10, 64
SIZE = PIECE * PIECES


@contextlib.contextmanager
def served(*keys):
    if not os.path.exists(MAPPED):
        skip("nbdkit's header is not installed, which test plugins are built with")
    with tempfile.NamedTemporaryFile(dir=".") as file:
        file.truncate(SIZE)
        with Server("--disk", "vda", MAPPED, f"path={file.name}", *keys) as s:
            yield s, file


def connect(s, name="vda", structured=True):
    c = Client(s.socket)
    if structured:
        c.structured()
    c.go(name)
    return c


def in_order(file):
    """The disk, as the file has it."""
    file.seek(0)
    bytes_ = file.read()
    return b"".join(bytes_[(PIECES - 1 - i) * PIECE:(PIECES - i) * PIECE] for i in range(PIECES))


@test
def what_is_told_goes_by_no_callback():
    # The callbacks refuse it: only the file can have it.
    with served("alone=true") as (s, file), connect(s) as c:
        for length in (512, 4096, 100_000, 2 * PIECE):
            data = random.Random(length).randbytes(length)
            c.write(4 * PIECE, data)
            assert c.read(4 * PIECE, length) == data
            assert in_order(file)[4 * PIECE:4 * PIECE + length] == data


@test
def random_reads_and_writes():
    seed = random.randrange(1 << 30)
    note(f"seed {seed}")
    r = random.Random(seed)
    model = bytearray(SIZE)
    with served() as (s, file), connect(s) as c, connect(s, structured=False) as simple:
        for _ in range(600):
            length = r.choice((512, 4096, 70_000, PIECE, 300_000, 700_000))
            offset = r.randrange(SIZE - length + 1)
            if r.random() < 0.4:
                data = r.randbytes(length)
                c.write(offset, data, flags=r.choice((0, 0, 0, FUA)))
                model[offset:offset + length] = data
            else:
                client = r.choice((c, simple))
                assert client.read(offset, length) == model[offset:offset + length], (offset, length)
        assert in_order(file) == model


@test
def a_view_and_a_bitmap():
    seed = random.randrange(1 << 30)
    note(f"seed {seed}")
    r = random.Random(seed)
    with served() as (s, file), connect(s) as c:
        before = r.randbytes(SIZE)
        for at in range(0, SIZE, 1 << 20):
            c.write(at, before[at:at + (1 << 20)])
        with s.qmp() as q:
            q.transaction(
                ("block-dirty-bitmap-add", {"node": "vda", "name": "b", "granularity": 65536}),
                ("view-create", {"disk": "vda", "name": "v"}))
            q.cmd("block-export-add", id="v", type="nbd", **{"node-name": "v"}, name="v")
            after = bytearray(before)
            with connect(s, "v") as view:
                for _ in range(100):
                    offset = r.randrange(SIZE - 5000)
                    data = r.randbytes(5000)
                    c.write(offset, data)
                    after[offset:offset + 5000] = data
                    at = r.randrange(SIZE - 300_000)
                    assert view.read(at, 300_000) == before[at:at + 300_000]
            for at in range(0, SIZE, 1 << 20):
                assert c.read(at, 1 << 20) == after[at:at + (1 << 20)]
            dirty = sum(before[at:at + 65536] != after[at:at + 65536]
                        for at in range(0, SIZE, 65536))
            node = next(n for n in q.cmd("query-named-block-nodes") if n["node-name"] == "vda")
            assert node["dirty-bitmaps"][0]["count"] == dirty * 65536, node["dirty-bitmaps"]


@test
def many_clients_at_once():
    failed = []
    with served() as (s, file):
        def work(i):
            try:
                r = random.Random(i)
                with connect(s) as c:
                    for _ in range(60):
                        # Each has its own quarter of every piece.
                        offset = r.randrange(PIECES) * PIECE + i * PIECE // 4
                        data = r.randbytes(PIECE // 4)
                        c.write(offset, data)
                        assert c.read(offset, len(data)) == data
            except BaseException as e:
                failed.append(e)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not failed, failed


main()
