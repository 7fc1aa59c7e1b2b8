#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The transmission phase: the rules of tests/conformance/README.md whose names begin with X."""

import contextlib
import os
import signal

from fleece import Server, tmpdir
from held import Held
from rawnbd import *
from tap import main, test

SIZE = 1 << 20


@contextlib.contextmanager
def serve(*args, structured=True, contexts=()):
    """A server and a client in transmission on the default export."""
    with Server(*(args or ("memory", "1M"))) as s, Client(s.socket) as c:
        if structured:
            c.structured()
        if contexts:
            c.set_contexts("", *contexts)
        yield s, c.go("", (INFO_BLOCK_SIZE,))


def both(function):
    """Decorator: a test that runs with simple and with structured replies."""
    def run():
        for structured in False, True:
            with serve(structured=structured) as (s, c):
                function(s, c)
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return test(run)


@test
def X1_transmission_flags():
    writable = (HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES | SEND_DF |
                CAN_MULTI_CONN | SEND_CACHE)
    with serve() as (s, c):
        assert c.eflags & ~SEND_FAST_ZERO == writable, hex(c.eflags)
    with serve("-r", "memory", "1M") as (s, c):
        assert c.eflags & READ_ONLY and not c.eflags & (
            SEND_TRIM | SEND_WRITE_ZEROES | SEND_FAST_ZERO), hex(c.eflags)
    with serve("--max-connections=1", "memory", "1M", structured=False) as (s, c):
        assert not c.eflags & (CAN_MULTI_CONN | SEND_DF)
    with serve("--max-connections=1", "memory", "1M") as (s, c):
        assert not c.eflags & CAN_MULTI_CONN
    with serve("eval", "get_size=echo 1M", "pread=head -c $3 /dev/zero") as (s, c):
        assert c.eflags & READ_ONLY and not c.eflags & (SEND_TRIM | ROTATIONAL)
    with serve("eval", "get_size=echo 1M", "pread=head -c $3 /dev/zero",
               "is_rotational=exit 0") as (s, c):
        assert c.eflags & ROTATIONAL


@both
def X2_unknown_commands_and_flags(s, c):
    for command in 8, 9, 100, 0xFFFF:
        assert c.do(command, 0, 512) == EINVAL
        c.in_step()
    allowed = {READ: FUA | (DF if c.is_structured else 0), WRITE: FUA, FLUSH: FUA, TRIM: FUA,
               CACHE: FUA, WRITE_ZEROES: FUA | NO_HOLE |
               (FAST_ZERO if c.eflags & SEND_FAST_ZERO else 0), BLOCK_STATUS: 0}
    for command, good in allowed.items():
        for bit in range(16):
            if not good & 1 << bit:
                length = 0 if command == FLUSH else 512
                assert c.do(command, 0, length, flags=1 << bit) == EINVAL, (command, bit)
    c.in_step()


@both
def X3_cookies(s, c):
    for cookie in 0, 1, 0xFFFFFFFFFFFFFFFF, 0x0123456789ABCDEF:
        assert c.result(c.request(READ, 0, 512, cookie=cookie)) == 0
    for i in range(50):
        c.request(READ, i * 512, 512, cookie=7)
    done = 0
    while done < 50:
        reply = c.reply()
        assert reply.cookie == 7
        done += reply.done


@test
def X3_equal_cookies_in_flight():
    with Held() as h, Client(h.server.socket) as c:
        c.go()
        for _ in range(3):
            c.request(READ, 0, 512, cookie=5)
        for _ in range(3):
            h.wait_begun()
        c.request(READ, 512, 512, cookie=5)
        assert c.reply().cookie == 5
        for _ in range(3):
            h.let_go()
        for _ in range(3):
            assert c.reply().cookie == 5


@both
def X4_length_0(s, c):
    for command in COMMANDS:
        for offset in 0, 512, SIZE:
            error = c.do(command, 0 if command == FLUSH else offset, 0)
            assert error in (0, EINVAL), (command, error)
    c.in_step()


@test
def X5_errors_of_the_backend():
    """Whatever error a plugin gives, the client gets only errors of the protocol (X7 too)."""
    table = {"EPERM": EPERM, "EACCES": EPERM, "EROFS": EPERM, "EIO": EIO, "ENOMEM": ENOMEM,
             "EINVAL": EINVAL, "ENOSPC": ENOSPC, "EDQUOT": ENOSPC, "EFBIG": ENOSPC,
             "ESHUTDOWN": ESHUTDOWN, "EBUSY": None, "ENOENT": None, "ENOTSUP": None,
             "EOPNOTSUPP": None, "EOVERFLOW": None}
    with tmpdir() as d:
        path = os.path.join(d, "error")
        fail = f"read e <{path}; echo $e oops >&2; exit 1"
        with serve("eval", "get_size=echo 1048576", f"pread={fail}",
                   f"pwrite=cat >/dev/null; {fail}", f"flush={fail}", f"trim={fail}",
                   "can_write=exit 0", "can_flush=exit 0", "can_trim=exit 0") as (s, c):
            for name, expected in table.items():
                with open(path, "w") as f:
                    f.write(name + "\n")
                for command in READ, WRITE, TRIM, FLUSH:
                    error = c.do(command, 0, 0 if command == FLUSH else 512)
                    assert error in ERRORS and error not in (ENOTSUP, EOVERFLOW), (name, error)
                    # sh and eval know only some names, and map the others themselves.
                    if expected is not None and name not in ("EACCES", "EDQUOT"):
                        assert error == expected, (name, command, error)
            c.nothing_comes()


@both
def X6_past_the_end(s, c):
    ranges = ((SIZE - 512, 1024), (SIZE, 512), (SIZE + 512, 512), (1 << 63, 512),
              (0xFFFFFFFFFFFFFE00, 512), (0xFFFFFFFFFFFFFFFF, 1), (0xFFFFFFFFFFFFF000, 8192))
    for offset, length in ranges:
        for command in READ, TRIM, CACHE:
            assert c.do(command, offset, length) == EINVAL, (command, offset, length)
        for command in WRITE, WRITE_ZEROES:
            assert c.do(command, offset, length) == ENOSPC, (command, offset, length)
    c.in_step()


@test
def X6_block_status_past_the_end():
    with serve(contexts=["base:allocation"]) as (s, c):
        assert c.do(BLOCK_STATUS, SIZE - 512, 1024) == EINVAL
        assert c.do(BLOCK_STATUS, SIZE, 512) == EINVAL


@test
def X6_misaligned():
    with serve("eval", "get_size=echo 1048576", "pread=head -c $3 /dev/zero",
               "pwrite=cat >/dev/null", "can_write=exit 0", "can_trim=exit 0", "trim=exit 0",
               "can_zero=exit 0", "zero=exit 0", "block_size=echo 4096 65536 1048576",
               "can_cache=echo native", "cache=exit 0", contexts=["base:allocation"]) as (s, c):
        for command in READ, WRITE, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS:
            for offset, length in ((512, 4096), (0, 512), (1, 4096), (4096, 4097)):
                assert c.do(command, offset, length) == EINVAL, (command, offset, length)
            assert c.do(command, 4096, 4096) == 0
        c.nothing_comes()


@test
def X6_read_only():
    with serve("-r", "memory", "1M") as (s, c):
        for command in WRITE, WRITE_ZEROES, TRIM:
            assert c.do(command, 0, 4096) == EPERM, command
        assert c.do(WRITE, 0, 4 << 20) == EPERM
        c.in_step()


@test
def X7_ENOTSUP_only_for_FAST_ZERO():
    with tmpdir() as d:
        path = os.path.join(d, "disk")
        with open(path, "wb") as f:
            f.truncate(SIZE)
        with serve("file", path) as (s, c):
            for flags in 0, NO_HOLE, FUA:
                assert c.do(WRITE_ZEROES, 0, 65536, flags) == 0
            if c.eflags & SEND_FAST_ZERO:
                assert c.do(WRITE_ZEROES, 0, 65536, FAST_ZERO) in (0, ENOTSUP)


@test
def X8_full_disk_only_where_there_was_a_hole():
    """In nbdkit's full plugin every write fails with ENOSPC. So all of the disk is a hole, before
    and after the write."""
    with serve("full", "1M", contexts=["base:allocation"]) as (s, c):
        for _ in range(2):
            assert c.map("base:allocation", 0, SIZE) == [(SIZE, 3)]
            assert c.do(WRITE, 0, 4096) == ENOSPC


@both
def X9_FUA_on_every_command(s, c):
    assert c.eflags & SEND_FUA
    for command in READ, WRITE, TRIM, CACHE, WRITE_ZEROES:
        assert c.do(command, 0, 4096, FUA) == 0, command
    assert c.do(FLUSH, flags=FUA) == 0


@test
def X9_FUA_reply_comes_after_persistence():
    with tmpdir() as d:
        log = os.path.join(d, "log")
        with serve("eval", "get_size=echo 1048576", "pread=head -c $3 /dev/zero",
                   f"pwrite=cat >/dev/null; echo write $5 >>{log}", f"flush=echo flush >>{log}",
                   f"zero=echo zero $5 >>{log}", f"trim=echo trim $5 >>{log}", "can_write=exit 0",
                   "can_flush=exit 0", "can_zero=exit 0", "can_trim=exit 0",
                   "can_fua=echo emulate") as (s, c):
            for command in WRITE, WRITE_ZEROES, TRIM:
                open(log, "w").close()
                assert c.do(command, 0, 4096, FUA) == 0
                with open(log) as f:
                    assert f.read().split()[-1] == "flush", command


@test
def X10_FLUSH():
    with serve() as (s, c), Client(s.socket) as other:
        other.go()
        c.write(0, b"x" * 4096)
        assert other.do(FLUSH) == 0
        assert other.read(0, 4096) == b"x" * 4096
        for offset, length in ((512, 0), (0, 512)):
            assert c.do(FLUSH, offset, length) == EINVAL
        c.in_step()


@both
def X11_NO_HOLE_and_FAST_ZERO(s, c):
    c.write(0, b"x" * 65536)
    assert c.do(WRITE_ZEROES, 0, 4096, NO_HOLE) == 0
    assert c.read(0, 8192) == bytes(4096) + b"x" * 4096
    if c.eflags & SEND_FAST_ZERO:
        error = c.do(WRITE_ZEROES, 4096, 4096, FAST_ZERO)
        assert error in (0, ENOTSUP)
        assert c.read(4096, 4096) == (bytes(4096) if error == 0 else b"x" * 4096)


@test
def X11_NO_HOLE_without_TRIM():
    with serve("eval", "get_size=echo 1048576", "pread=head -c $3 /dev/zero",
               "pwrite=cat >/dev/null", "can_write=exit 0") as (s, c):
        assert not c.eflags & SEND_TRIM and c.eflags & SEND_WRITE_ZEROES
        assert c.do(WRITE_ZEROES, 0, 65536, NO_HOLE) == 0
        assert c.do(TRIM, 0, 65536) == EINVAL


@test
def X11_flags_reach_the_plugin():
    """Each flag of WRITE_ZEROES reaches the plugin, as from nbdkit. Without NO_HOLE the plugin may
    trim."""
    with tmpdir() as d:
        log = os.path.join(d, "log")
        with serve("eval", "get_size=echo 1048576", "pread=head -c $3 /dev/zero",
                   "pwrite=cat >/dev/null", "can_zero=exit 0", "can_fast_zero=exit 0",
                   "can_fua=echo native", f"zero=echo $5 >>{log}") as (s, c):
            for flags in 0, NO_HOLE, FAST_ZERO, NO_HOLE | FAST_ZERO, FUA, NO_HOLE | FUA:
                assert c.do(WRITE_ZEROES, 0, 4096, flags) == 0, flags
        with open(log) as f:
            told = [set(line.strip().split(",")) - {""} for line in f]
        assert told == [{"may_trim"}, set(), {"may_trim", "fast"}, {"fast"}, {"may_trim", "fua"},
                        {"fua"}], told


@test
def X12_large_effect_lengths():
    with serve("memory", "6G") as (s, c):
        for command in TRIM, WRITE_ZEROES, CACHE:
            assert c.do(command, 0, 0xFFFFF000) in (0, EINVAL, EOVERFLOW), command
            assert c.do(command, 4096, OUR_MAX_PAYLOAD + 4096) in (0, EINVAL, EOVERFLOW), command
        c.in_step()


@test
def X13_DISC_finishes_what_is_outstanding():
    with Held() as h, Client(h.server.socket) as c:
        c.go()
        cookie = c.request(READ, 0, 512)
        h.wait_begun()
        c.request(DISC)
        h.let_go()
        assert c.result(cookie) == 0
        c.expect_end()


@test
def X13_DISC_alone():
    with serve() as (s, c):
        c.request(DISC)
        c.expect_end()


@test
def X13_shutdown():
    with Held() as h, Client(h.server.socket) as c, Client(h.server.socket) as idle:
        c.go()
        idle.go()
        cookie = c.request(READ, 0, 512)
        h.wait_begun()
        os.kill(h.server.pid, signal.SIGTERM)
        idle.expect_end()  # it has nothing under way; so the server has seen the signal
        for command in READ, WRITE:
            late = c.request(command, 4096, 512, data=bytes(512) if command == WRITE else b"")
            reply = c.reply()
            assert (reply.cookie, reply.error) == (late, ESHUTDOWN), reply
        h.let_go()
        assert c.result(cookie) == 0
        c.expect_end()
        h.server.wait()


@test
def X14_view_that_may_be_discarded():
    with Server("memory", "1M") as s:
        q = s.qmp()
        q.cmd("view-create", disk="disk0", name="v")
        q.cmd("block-export-add", type="nbd", id="e", **{"node-name": "v"}, name="v")
        with Client(s.socket) as c:
            c.go("v")
            assert c.eflags & READ_ONLY and not c.eflags & SEND_TRIM
            for command in WRITE, WRITE_ZEROES, TRIM:
                assert c.do(command, 0, 4096) == EPERM
        q.cmd("block-export-add", type="nbd", id="d", **{"node-name": "v"}, name="d", discard=True)
        with Client(s.socket) as c:
            c.go("d")
            assert c.eflags & SEND_TRIM and not c.eflags & (READ_ONLY | SEND_WRITE_ZEROES)
            for command in WRITE, WRITE_ZEROES:
                assert c.do(command, 0, 4096) == EPERM
            assert c.do(TRIM, 0, 4096) == 0


main()
