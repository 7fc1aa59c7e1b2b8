#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Each flag of a request, from the wire to the system call. A flag that gets lost on the way
changes no byte, so no other test would notice.

Our file plugin is used in both ways: the server works on the descriptor that the plugin lends it,
or, with direct I/O, it calls the plugin. Another plugin writes down the flags that it gets."""

import contextlib
import os

from fleece import Server, require_plugin, tmpdir
from tap import main, skip, test

import calls
from rawnbd import *  # noqa: F403

BASE = "base:allocation"
SIZE = 8 << 20
PIECE = 64 << 10
WAYS = {"descriptor": (), "plugin": ("direct=true",)}


def has_direct_io(path):
    try:
        os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
        return True
    except OSError:
        return False


@contextlib.contextmanager
def serve(way, env=None):
    """Gives the path of a file that is full of data, a client in transmission, and the function
    that tells the system calls."""
    with tmpdir() as folder:
        path = os.path.join(folder, "disk")
        with open(path, "wb") as f:
            f.write(b"\x55" * SIZE)
            f.flush()
            os.fsync(f.fileno())
        if way == "plugin" and not has_direct_io(path):
            skip("this file system has no direct I/O")
        with calls.server(path, "file", path, *WAYS[way], env=env) as (s, seen):
            with Client(s.socket) as c:
                c.structured()
                c.set_contexts("", BASE)
                c.go()
                seen()
                c.server = s
                yield path, c, seen


def is_durable(seen):
    """Is the last change on the disk, by a write that goes through or by a sync behind it?"""
    changes = [i for i, call in enumerate(seen) if call.name.startswith("pwrite") or
               call.name == "fallocate"]
    assert changes, seen
    last = seen[changes[-1]]
    through = all(call.name == "pwritev2" and call.flags & calls.RWF_DSYNC
                  for call in seen if call.name.startswith("pwrite"))
    return (last.name != "fallocate" and through or
            any(call.name in ("fdatasync", "fsync") for call in seen[changes[-1]:]))


def allocated(path):
    return os.stat(path).st_blocks * 512


def on_both_ways(check):
    """A test for each way."""
    for way in WAYS:
        def run(way=way):
            check(way)
        run.__name__ = f"{check.__name__}_by_{way}"
        run.__doc__ = check.__doc__
        test(run)
    return check


@on_both_ways
def FUA_of_WRITE(way):
    with serve(way) as (path, c, seen):
        c.write(PIECE, b"a" * PIECE)
        assert not is_durable(seen())
        c.write(PIECE, b"b" * PIECE, FUA)
        assert is_durable(seen())
        # This is longer than one receive, and than any piece that the server cuts it into.
        c.write(0, b"c" * SIZE, FUA)
        assert is_durable(seen())
        assert c.do(FLUSH) == 0
        assert [call.name for call in seen()] == ["fdatasync"]


@on_both_ways
def FUA_of_WRITE_ZEROES(way):
    for hole in (0, NO_HOLE):
        with serve(way) as (path, c, seen):
            assert c.do(WRITE_ZEROES, 0, PIECE, hole) == 0
            assert not is_durable(seen())
            assert c.do(WRITE_ZEROES, PIECE, PIECE, FUA | hole) == 0
            assert is_durable(seen())


@on_both_ways
def FUA_of_zeroes_that_are_written(way):
    with serve(way, env={"FLEECE_NO_FALLOCATE": "1"}) as (path, c, seen):
        assert c.do(WRITE_ZEROES, 0, 3 * PIECE) == 0
        assert not is_durable(seen())
        assert c.do(WRITE_ZEROES, 0, 3 * PIECE, FUA) == 0
        assert is_durable(seen())


@on_both_ways
def FUA_of_TRIM(way):
    with serve(way) as (path, c, seen):
        assert c.do(TRIM, 0, PIECE) == 0
        assert not is_durable(seen())
        assert c.do(TRIM, PIECE, PIECE, FUA) == 0
        assert is_durable(seen())


@on_both_ways
def FUA_of_what_is_cleared_under_a_view(way):
    # A long range is cleared piece by piece. The second and the third request meet holes, of which
    # no old data has to be kept.
    with serve(way) as (path, c, seen):
        c.server.qmp().cmd("view-create", disk="disk0", name="v")
        for type in TRIM, WRITE_ZEROES, TRIM:
            assert c.do(type, 0, SIZE, FUA) == 0
            assert is_durable(seen())


@on_both_ways
def NO_HOLE_keeps_the_space(way):
    with serve(way) as (path, c, seen):
        before = allocated(path)
        assert c.do(WRITE_ZEROES, 0, SIZE // 2, NO_HOLE) == 0
        assert c.read(0, SIZE // 2) == bytes(SIZE // 2)
        assert allocated(path) >= before
        assert c.do(WRITE_ZEROES, 0, SIZE // 2) == 0
        assert allocated(path) <= before - SIZE // 2
        assert any(call.flags & calls.PUNCH_HOLE for call in seen() if call.name == "fallocate")


@on_both_ways
def FAST_ZERO_writes_nothing(way):
    with serve(way, env={"FLEECE_NO_FALLOCATE": "1"}) as (path, c, seen):
        assert c.do(WRITE_ZEROES, 0, PIECE, FAST_ZERO) == ENOTSUP
        assert not [call for call in seen() if call.name.startswith("pwrite")]
        assert c.read(0, PIECE) == b"\x55" * PIECE
        seen()
        assert c.do(WRITE_ZEROES, 0, PIECE) == 0
        assert [call for call in seen() if call.name.startswith("pwrite")]
        assert c.read(0, PIECE) == bytes(PIECE)


@on_both_ways
def REQ_ONE_asks_for_one_extent(way):
    with serve(way) as (path, c, seen):
        assert c.do(TRIM, PIECE, PIECE) == 0
        assert c.do(TRIM, 3 * PIECE, PIECE) == 0
        seen()
        assert len(c.block_status(0, SIZE)[BASE]) == 5
        all_of_it = len(seen())
        assert c.block_status(0, SIZE, REQ_ONE)[BASE] == [(PIECE, 0)]
        assert len(seen()) <= 2 < all_of_it


@on_both_ways
def CACHE_is_told_to_the_kernel(way):
    with serve(way) as (path, c, seen):
        assert c.do(CACHE, PIECE, 2 * PIECE) == 0
        assert calls.Call("fadvise", PIECE, 2 * PIECE, calls.WILLNEED) in seen()


@on_both_ways
def DF_is_one_chunk(way):
    with serve(way) as (path, c, seen):
        pieces = [m for m in c.replies(c.request(READ, 0, SIZE)) if m.type == TYPE_DATA]
        one = [m for m in c.replies(c.request(READ, 0, SIZE, DF)) if m.type == TYPE_DATA]
        assert len(one) == 1 < len(pieces)


# ---- another plugin's calls ----

@contextlib.contextmanager
def eval_plugin():
    """A client, and a function that tells the plugin's calls since it was last asked, each with its
    flags."""
    require_plugin("eval")
    with tmpdir() as folder:
        log = os.path.join(folder, "log")
        scripts = {
            "get_size": "echo 1M", "can_fua": "echo native", "can_cache": "echo native",
            "pread": "dd if=/dev/zero count=$3 iflag=count_bytes status=none",
            "pwrite": f"cat >/dev/null; echo pwrite $5 >>{log}",
            "zero": f"echo zero $5 >>{log}", "trim": f"echo trim $5 >>{log}",
            "flush": f"echo flush >>{log}", "cache": f"echo cache $3 $4 >>{log}",
            "extents": f"echo extents $5 >>{log}; echo 0 1M hole,zero",
        }
        for can in "write", "zero", "fast_zero", "trim", "flush", "extents":
            scripts["can_" + can] = "exit 0"

        def seen():
            with open(log, "a+") as f:
                f.seek(0)
                lines = f.read().splitlines()
                f.truncate(0)
            return [" ".join([name] + sorted(",".join(rest).split(","))).strip()
                    for name, *rest in map(str.split, lines)]

        with Server("eval", *(f"{k}={v}" for k, v in scripts.items())) as s:
            with Client(s.socket) as c:
                c.structured()
                c.set_contexts("", BASE)
                c.go()
                seen()
                yield c, seen


@test
def every_flag_reaches_a_plugin():
    rows = [
        (WRITE, 0, "pwrite"), (WRITE, FUA, "pwrite fua"),
        (WRITE_ZEROES, NO_HOLE, "zero"), (WRITE_ZEROES, 0, "zero may_trim"),
        (WRITE_ZEROES, FUA | NO_HOLE, "zero fua"), (WRITE_ZEROES, FUA, "zero fua may_trim"),
        (WRITE_ZEROES, FAST_ZERO | NO_HOLE, "zero fast"),
        (WRITE_ZEROES, FAST_ZERO | FUA, "zero fast fua may_trim"),
        (TRIM, 0, "trim"), (TRIM, FUA, "trim fua"),
        (CACHE, 0, "cache 4096 8192"), (BLOCK_STATUS, 0, "extents"),
        (BLOCK_STATUS, REQ_ONE, "extents req_one"),
    ]
    with eval_plugin() as (c, seen):
        for type, flags, expected in rows:
            assert c.do(type, 8192, 4096, flags) == 0
            assert seen() == [expected], f"command {type}, flags {flags}: not {expected}"
        assert c.do(FLUSH) == 0
        assert seen() == ["flush"]


main()
