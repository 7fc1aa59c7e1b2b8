# SPDX-License-Identifier: BSD-3-Clause
"""Hostile clients, lines 18 to 26 of README.md: after GO."""

import contextlib
import os
import signal
import socket
import struct

from harness import *
from tap import main, test

# Each read of this disk starts a program, so it is slow, and many are under way at once.
SLOW = ("--disk", "slow", "eval", "get_size=echo 67108864", "can_multi_conn=exit 0",
        "pread=head -c $3 /dev/zero | tr '\\0' s", "can_write=exit 0", "pwrite=cat >/dev/null",
        "thread_model=echo parallel")


def raw_request(type, offset, length, flags=0, cookie=1):
    return struct.pack(">IHHQQI", REQUEST_MAGIC, flags, type, cookie, offset, length)


def until_end(c):
    """All bytes that come before the end."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := c.socket.recv(MIB):
            data += piece
    return bytes(data)


@test
def line_18_queue_many_reads_and_hang_up():
    """New clients get the descriptors' numbers at once, and check their data: a reply of an earlier
    client must not reach them."""
    with Ground(*SLOW) as g:
        def attack():
            for end in (lambda c: rst(c.socket), lambda c: c.close(),
                        lambda c: c.socket.shutdown(socket.SHUT_RDWR)):
                leavers = [g.user("slow"), g.user("slow", structured=True), g.user("vda")]
                for c in leavers:
                    for i in range(32):
                        c.request(READ, i * 65536, 65536)
                for c in leavers:
                    end(c)
                for name, byte in ("slow", b"s"), ("vda", b"\0"):
                    with g.user(name, structured=True) as c:
                        assert c.read(0, 4096) == byte * 4096
                for c in leavers:
                    c.close()
        g.endure(attack, rounds=4)


@test
def line_19_half_close():
    """The client sends no more. It gets all replies, and then the end."""
    for tcp in False, True:
        with Ground(*SLOW, tcp=tcp) as g:
            def attack():
                for name, byte in ("slow", b"s"), ("vda", b"\0"):
                    with g.user(name) as c:
                        cookies = {c.request(READ, i * 65536, 4096) for i in range(8)}
                        c.socket.shutdown(socket.SHUT_WR)
                        for _ in range(8):
                            reply = c.reply()
                            assert reply.data == byte * 4096
                            cookies.remove(reply.cookie)
                        c.expect_end()
                    for partial in b"", bytes(3), raw_request(WRITE, 0, 4096) + bytes(100):
                        with g.user(name) as c:
                            c.send(partial)
                            c.socket.shutdown(socket.SHUT_WR)
                            c.expect_end()
            g.endure(attack, rounds=4)


def stuck_readers(g, export, n):
    """Clients that send requests until the server takes no more, and read nothing."""
    clients = []
    for i in range(n):
        c = g.user(export, structured=i % 2 == 1)
        size = (MIB, 32 * MIB, 4096, 65536)[i % 4]
        sent = push(c.socket, raw_request(READ, 0, size) * 500000)
        assert sent < 28 * 500000, "the server reads on and on"
        clients.append(c)
    return clients


@test
def line_20_never_read_the_replies():
    """The server keeps a limited number of replies and then reads no more requests of theirs. They
    hold nothing that others need: a view of the same disk is made, read and deleted."""
    for tcp in False, True:
        with Ground(*SLOW, tcp=tcp) as g:
            def attack():
                calm = g.calm()
                clients = stuck_readers(g, "vda", 4) + stuck_readers(g, "slow", 1)
                with g.qmp() as q:
                    q.socket.settimeout(PATIENCE)
                    q.transaction(("block-dirty-bitmap-add", {"node": "vda", "name": "b"}),
                                  ("view-create", {"disk": "vda", "name": "v"}))
                    q.cmd("block-export-add", type="nbd", id="v", name="v", **{"node-name": "v"})
                    clients += stuck_readers(g, "v", 2)
                    g.newcomer("v")
                    g.newcomer()
                    # This is enough for a client's buffers, its replies on their way, and the view.
                    g.check_peak(calm, len(clients) * 14 * MIB)
                    q.cmd("block-export-del", id="v", mode="hard")
                    q.wait_event("BLOCK_EXPORT_DELETED")
                    q.cmd("view-delete", name="v")
                    q.cmd("block-dirty-bitmap-remove", node="vda", name="b")
                for c in clients:
                    c.close()
            g.endure(attack, rounds=1, growth=24 * MIB)


@test
def line_20_stop_in_the_middle_of_a_write():
    """An instant does not wait for the rest of a payload."""
    with Ground() as g:
        def attack():
            clients = []
            for size, some in (4096, 0), (4096, 4095), (MIB, 1000), (32 * MIB, 20 * MIB):
                c = g.user()
                c.send(raw_request(WRITE, 0, size) + bytes(some))
                clients.append(c)
            with g.qmp() as q:
                q.socket.settimeout(PATIENCE)
                q.transaction(("view-create", {"disk": "vda", "name": "v"}),
                              ("block-dirty-bitmap-add", {"node": "vda", "name": "b"}))
                q.cmd("block-dirty-bitmap-remove", node="vda", name="b")
                q.cmd("view-delete", name="v")
            for c in clients:
                c.close()
        g.endure(attack, rounds=3)


@test
def line_21_ranges_and_commands_that_are_none():
    with Ground() as g:
        def attack():
            for structured in False, True:
                with g.user(structured=structured) as c:
                    size = c.size
                    for offset, length in ((size, 512), (size - 512, 1024), (1 << 63, 512),
                                           (2**64 - 512, 512), (2**64 - 1, 2), (2**64 - 1, 1),
                                           (0, 64 * MIB + size), (size + MIB, 1 << 16)):
                        for type in READ, TRIM, CACHE, WRITE_ZEROES:
                            error = c.do(type, offset, length)
                            assert error in (EINVAL, ENOSPC, EOVERFLOW), (type, offset, error)
                        if length <= 1 << 16:
                            error = c.do(WRITE, offset, length)
                            assert error in (EINVAL, ENOSPC), (offset, length, error)
                    for type in COMMANDS:
                        c.do(type, 0, 0)
                        c.do(type, size, 0)
                        c.do(type, 2**64 - 1, 0)
                    for type in 8, 99, 0x7FFF, 0xFFFF:
                        assert c.do(type, 0, 0xFFFFFFFF) == EINVAL
                    for flags in 1 << 6, 0x8000:
                        for type in READ, TRIM, FLUSH:
                            assert c.do(type, 0, 512, flags) == EINVAL, (type, flags)
                        assert c.do(WRITE, 0, 512, flags, b"x" * 512) == EINVAL
                    assert c.read(0, 512) == bytes(512)
        g.endure(attack)


@test
def line_22_writes_of_4_GiB():
    with Ground() as g:
        def attack():
            for length in 0xFFFFFFFF, 0x80000000, 128 * MIB, 64 * MIB + 1:
                for some in 0, 1000, 3 * MIB:
                    with g.user() as c:
                        push_all(c.socket, raw_request(WRITE, 0, length) + bytes(some))
                        until_end(c)
        calm = g.calm()
        g.endure(attack, rounds=3)
        g.check_peak(calm, 32 * MIB)


@test
def line_22_a_write_of_64_MIB_takes_no_memory_until_it_comes():
    with Ground("--disk", "sink", "null", "128M") as g:
        def attack():
            with g.user("sink") as c:
                assert c.do(WRITE, 0, 64 * MIB) == 0
            calm = g.calm()
            clients = [g.user("sink") for _ in range(50)]
            for c in clients:
                c.send(raw_request(WRITE, 0, 64 * MIB) + bytes(4096))
            g.newcomer()
            g.check_peak(calm, 50 * 256 * KIB)
            for c in clients:
                c.close()
        g.endure(attack, rounds=2)


@test
def line_23_status_of_4_GiB():
    with Ground("--disk", "huge", "memory", "8T",
                "--disk", "liar", "eval", "get_size=echo 1048576", "can_extents=exit 0",
                "extents=echo 0 0 hole; echo 0 0", "pread=head -c $3 /dev/zero") as g:
        names = [f"qemu:dirty-bitmap:b{i}" for i in range(4)]
        with g.setting() as q:
            for i in range(4):
                q.cmd("block-dirty-bitmap-add", node="huge", name=f"b{i}", granularity=65536 << i)
        huge = 0xFFFFFFFF

        def attack():
            with g.client() as c:
                c.structured()
                c.set_contexts("huge", "base:allocation", *names)
                c.go("huge")
                assert len(c.contexts) == 5
                for offset in 0, 512, 1 << 40, c.size - (5 << 30):
                    for length in huge, huge - 511, huge // 2 + 1:
                        for flags in 0, REQ_ONE:
                            for extents in c.block_status(offset, length, flags).values():
                                assert sum(n for n, _ in extents) <= length
            with g.client() as c:
                c.structured()
                c.set_contexts("liar", "base:allocation")
                c.go("liar")
                for flags in 0, REQ_ONE:
                    error = c.do(BLOCK_STATUS, 0, 1 << 20, flags)
                    assert error == EIO, error
                c.read(0, 512)
        g.endure(attack)


@test
def line_24_what_is_not_allowed():
    with Ground() as g:
        with g.setting() as q:
            q.cmd("view-create", disk="vda", name="v")
            for name, node in ("ro", "vda"), ("v", "v"):
                q.cmd("block-export-add", type="nbd", id=name, name=name, writable=False,
                      **{"node-name": node})

        def attack():
            for name in "ro", "v":
                for structured in False, True:
                    with g.user(name, structured) as c:
                        before = c.read(0, 65536)
                        for type in WRITE, TRIM, WRITE_ZEROES:
                            for length in 512, 65536, 4 * MIB:
                                assert c.do(type, 0, length) == EPERM, (name, type, length)
                        assert c.read(0, 65536) == before
        g.endure(attack, rounds=5)


@test
def line_25_equal_cookies():
    with Ground(*SLOW) as g:
        def attack():
            for name in "slow", "vda":
                for structured in False, True:
                    with g.user(name, structured) as c:
                        for i in range(16):
                            c.request(READ, i * 4096, 4096, cookie=7)
                        done = 0
                        while done < 16:
                            done += c.reply().done
                        c.in_step()
        g.endure(attack, rounds=3)


@test
def line_25_disc_with_requests_in_flight():
    """All requests are completed. For writes, the disk shows it."""
    with Ground(*SLOW) as g:
        def attack():
            data = os.urandom(65536)
            with g.user() as c:
                for i in range(16):
                    c.request(WRITE, i * 65536, 65536, data=data)
                c.request(DISC)
                until_end(c)
            with g.user() as c:
                assert c.read(0, MIB) == data * 16
            with g.user("slow") as c:
                for i in range(16):
                    c.request(READ, i * 65536, 512)
                c.request(DISC)
                assert len(until_end(c)) == 16 * (16 + 512)
        g.endure(attack, rounds=3)


@test
def line_26_a_storm_of_signals():
    with Ground(*SLOW) as g:
        def attack():
            with g.user("slow") as c:
                for i in range(16):
                    c.request(READ, i * 65536, 65536)
                for _ in range(1000):
                    os.kill(g.server.pid, signal.SIGCHLD)
                for _ in range(16):
                    assert c.reply().data == b"s" * 65536
        g.endure(attack, rounds=3)
    # A SIGTERM that comes more than a second after the first ends it at once, others change
    # nothing.
    for _ in range(5):
        with Ground(*SLOW) as g:
            with g.user("slow") as c:
                for i in range(16):
                    c.request(READ, i * 65536, 65536)
                for _ in range(100):
                    for number in signal.SIGCHLD, signal.SIGTERM:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(g.server.pid, number)
                assert g.server.process.wait(END_WITHIN) in (0, 1)
            g.server.process = None
            assert fleece.sanitizer_reports(g.server.dir) == ""


main()
