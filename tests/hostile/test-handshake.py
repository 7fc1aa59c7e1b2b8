# SPDX-License-Identifier: BSD-3-Clause
"""Hostile clients, lines 1 to 12 of README.md: before GO."""

import contextlib
import os
import select
import socket
import struct
import time

from fleece import SOON, tmpdir
from harness import *
from tap import main, test

NOISE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"OPTIONS / RTSP/1.0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # a TLS ClientHello
    b"\x00\x00\x00\xa4\xffSMB" + bytes(160),
    b"SSH-2.0-nmap\r\n",
    b"\x80\x00\x00\x28\x72\xfe\x1d\x13" + bytes(36),  # nmap's RPC call
    b"\x00" * 4096,
    b"\xff" * 70000,
    struct.pack(">I", 3) + b"HTTP/1.1 400 Bad Request\r\n\r\n",  # flags, then no option
    struct.pack(">IQ", 3, OPTION_MAGIC + 1) + bytes(8),
)


def option(number, data=b"", length=None):
    return struct.pack(">QII", OPTION_MAGIC, number, len(data) if length is None else length) + data


def expect_gone(c):
    """The server hangs up. What it sends before does not matter."""
    until = time.monotonic() + SOON
    try:
        while c.socket.recv(65536):
            assert time.monotonic() < until
    except ConnectionResetError:
        pass


@test
def line_01_noise_and_resets():
    for tcp in False, True:
        with Ground(tcp=tcp) as g:
            def attack():
                for data in NOISE:
                    with g.client(flags=None) as c:
                        push_all(c.socket, data)
                        with contextlib.suppress(OSError):  # it may have hung up already
                            c.socket.shutdown(socket.SHUT_WR)
                        expect_gone(c)
                    c = g.client(flags=None)
                    push(c.socket, data)
                    rst(c.socket)
                for options in b"", option(OPT_LIST), option(OPT_GO, b"", 1000), b"\x00":
                    c = g.client()
                    c.send(options)
                    rst(c.socket)
            g.endure(attack)


@test
def line_02_the_peer_closes_while_we_send():
    for tcp in False, True:
        with Ground(tcp=tcp) as g:
            def attack():
                for structured in False, True:
                    c = g.user(structured=structured)
                    for _ in range(4):
                        c.request(READ, 0, 32 * MIB)
                    c.receive(100)
                    c.close()
                    c = g.user(structured=structured)
                    c.request(READ, 0, 32 * MIB)
                    c.receive(100)
                    rst(c.socket)
                c = g.client()
                push(c.socket, option(OPT_LIST) * 900)
                c.close()
            g.endure(attack)


def drop_times(clients, trickle, every):
    """Send for each client what its generator in `trickle` gives, once in `every` seconds, until
    the server has dropped all of them. Returns after how many seconds each was dropped."""
    begin = time.monotonic()
    send_at, dropped = begin, {}
    while len(dropped) < len(clients):
        assert time.monotonic() - begin < SOON, "never dropped"
        waiting = {c.socket: c for c in clients if c not in dropped}
        readable = select.select(waiting, [], [], max(0, send_at - time.monotonic()))[0]
        sending = time.monotonic() >= send_at
        send_at += every * sending
        for sock, c in waiting.items():
            try:
                if sock in readable and not sock.recv(65536):
                    raise ConnectionResetError
                if sending:
                    sock.sendall(next(trickle[c]))
            except (BrokenPipeError, ConnectionResetError):
                dropped[c] = time.monotonic() - begin
    return list(dropped.values())


def bytes_of(data):
    while True:
        for b in data:
            yield bytes([b])


def always(data):
    while True:
        yield data


@test
def line_03_the_deadline_is_absolute():
    with Ground("--handshake-timeout", "1") as g:
        greeting = struct.pack(">I", 3)
        ways = (
            (None, always, b""),                                   # silent from the beginning
            (None, bytes_of, greeting + option(OPT_LIST) * 1000),  # byte by byte
            (3, always, b""),                                      # silent after the greeting
            (3, bytes_of, option(99, bytes(65536))),               # one option that never ends
            (3, always, option(OPT_LIST)),                         # good options, and never GO
        )

        def attack():
            clients, trickle = [], {}
            for flags, way, data in ways * 4:
                c = g.client(flags)
                clients.append(c)
                trickle[c] = way(data)
            times = drop_times(clients, trickle, 0.05)
            for c in clients:
                c.close()
            assert min(times) > 0.5, f"dropped after {min(times):.2f} s of 1"
            assert max(times) <= 1 + PATIENCE, f"dropped after {max(times):.2f} s of 1"
        g.endure(attack, rounds=1)


@test
def line_03_silent_clients_keep_nobody_out():
    with Ground("--handshake-timeout", "60", "--max-connections", "8") as g:
        def attack():
            clients = [g.client(flags=None) for _ in range(12)]
            g.newcomer()
            for c in clients:
                c.close()
        g.endure(attack, rounds=1)


@test
def line_03_a_socket_has_100_clients_at_most():
    """100 is the default. Each socket has a limit of its own."""
    with Ground("--handshake-timeout", "60") as g:
        with g.qmp() as q:
            other = g.server.path("other")
            q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": other}})
            q.cmd("block-export-add", type="nbd", id="e", writable=True, **{"node-name": "vda"})
            before = len(os.listdir(f"/proc/{g.server.pid}/fd"))
            clients = [g.user() for _ in range(100)]
            late = [g.client(flags=None) for _ in range(5)]
            with Client(other) as c:
                c.go("vda").in_step()
            assert len(os.listdir(f"/proc/{g.server.pid}/fd")) - before <= 101
            for c in late:
                assert not select.select([c.socket], [], [], 0)[0], "a 101st client is served"
            clients.pop().close()
            late[0].greet()
            late[0].go("vda").in_step()
            for c in clients + late:
                c.close()
            q.cmd("nbd-server-stop")

        def attack():
            clients = [g.client(flags=None) for _ in range(120)]
            for c in clients:
                c.close()
            g.newcomer()  # behind all of these in the kernel's queue
        g.endure(attack, rounds=2)


@test
def line_05_options_of_4_GiB():
    with Ground() as g:
        def attack():
            for number in list(range(13)) + [99, 0xFFFFFFFF]:
                for length in 0xFFFFFFFF, 0x80000000, (32 << 20) + 1:
                    with g.client() as c:
                        push_all(c.socket, option(number, bytes(1000), length))
                        expect_gone(c)
        calm = g.calm()
        g.endure(attack, rounds=5)
        g.check_peak(calm, 16 * MIB)


@test
def line_06_name_lengths_that_lie():
    with Ground() as g:
        def attack():
            with g.client() as c:
                c.structured()
                for number in OPT_INFO, OPT_GO, OPT_LIST_META, OPT_SET_META:
                    for length in 0xFFFFFFFF, 0xFFFFFFFE, 0x80000000, 0x7FFFFFFF, 1 << 20, 65536:
                        for rest in b"", b"x", b"vda" + bytes(6), b"x" * 60000:
                            final, replies = c.option(number, struct.pack(">I", length) + rest)
                            assert final in (ERR_INVALID, ERR_TOO_BIG) and not replies, hex(final)
                    for length in 4097, 10000, 60000:
                        name = b"x" * length
                        data = (c.go_data(name) if number in (OPT_INFO, OPT_GO) else
                                c.meta_data(name))
                        final, replies = c.option(number, data)
                        assert final in (ERR_INVALID, ERR_TOO_BIG) and not replies, hex(final)
                assert c.info("vda") == REP_ACK
            for length in 1025, 4097, 65536:
                with g.client() as c:
                    push_all(c.socket, option(OPT_EXPORT_NAME, b"x" * length))
                    expect_gone(c)
        g.endure(attack)


@test
def line_07_long_unknown_names():
    with Ground("-v") as g:
        names = [unit * (4096 // len(unit.encode())) for unit in
                 ("x", "\x1b[2J", "\n", "é", "😀", "%s%n", '"', "\x7f", "\u202e")]

        def attack():
            with g.client() as c:
                c.structured()
                for name in names:
                    for number in OPT_INFO, OPT_GO:
                        final, _ = c.option(number, c.go_data(name))
                        assert final == ERR_UNKNOWN, hex(final)
                        assert len(c.message) < 1000 and c.message.isprintable(), repr(c.message)
                    final, _ = c.meta(OPT_SET_META, name, "base:")
                    assert final == ERR_UNKNOWN, hex(final)
                assert c.info("vda") == REP_ACK
        g.endure(attack, rounds=20)
        log = g.server.log()
        assert all(line.isprintable() or not line for line in log.split("\n")), "raw bytes in the log"


def malformed(c):
    """(option, payload): each of them INVALID."""
    good = c.go_data("vda")
    meta = c.meta_data("vda", "base:allocation")
    huge = struct.pack(">I", 3) + b"vda" + struct.pack(">I", 0xFFFFFFFF)
    for number in OPT_LIST, OPT_STRUCTURED_REPLY:
        yield number, b"\0"
        yield number, bytes(65536)
    for number in OPT_INFO, OPT_GO:
        yield number, b""
        yield number, good + b"\0"
        yield number, good + bytes(60000)
        yield number, good[:-1]
        yield number, good[:-2] + b"\xff\xff"
        yield number, c.go_data(b"v\0da")
        yield number, c.go_data(b"vda\0")
        yield number, c.go_data(b"\xff\xfe")
    for number in OPT_LIST_META, OPT_SET_META:
        yield number, b""
        yield number, meta + b"\0"
        yield number, meta + bytes(60000)
        yield number, meta[:-1]
        yield number, c.meta_data(b"v\0da", "base:")
        yield number, c.meta_data("vda", b"base:\0allocation")
        yield number, huge
        yield number, huge + struct.pack(">I", 0xFFFFFFFF)
        yield number, huge + bytes(60000)


@test
def line_08_meta_contexts_longer_than_their_fields():
    with Ground() as g:
        def attack():
            with g.client() as c:
                c.structured()
                for number, data in malformed(c):
                    if number in (OPT_LIST_META, OPT_SET_META):
                        assert c.option(number, data) == (ERR_INVALID, []), (number, data[:40])
                        assert c.list_contexts("vda") == ["base:allocation"]
        g.endure(attack)


@test
def line_09_inner_lengths_that_lie():
    with Ground() as g:
        def attack():
            with g.client() as c:
                c.structured()
                for number, data in malformed(c):
                    assert c.option(number, data) == (ERR_INVALID, []), (number, data[:40])
                c.set_contexts("vda", "base:allocation")
                c.go("vda").block_status(0, MIB)
        calm = g.calm()
        g.endure(attack)
        g.check_peak(calm, 16 * MIB)


@test
def line_10_options_without_end():
    """A client sends as many options as it can until the deadline; they leave nothing behind.
    (tests/nbd/test-many.py tests what limits their bytes without a deadline.)"""
    # Two seconds are enough for neighbours to connect on a busy machine.
    with Ground("--handshake-timeout", "2") as g:
        def attack():
            for data in (option(OPT_LIST), option(OPT_INFO, Client.go_data("vda")),
                         option(OPT_SET_META, Client.meta_data("vda", "base:allocation")),
                         option(OPT_STRUCTURED_REPLY)):
                with g.client() as c:
                    begin, sent, gone = time.monotonic(), 0, False
                    c.structured()
                    while not gone:  # it also reads, so that the server goes on with its options
                        assert time.monotonic() < begin + SOON, "it haggles without end"
                        readable, writable, _ = select.select([c.socket], [c.socket], [], SOON)
                        try:
                            gone = bool(readable) and not c.socket.recv(MIB)
                            if writable:
                                sent += push(c.socket, (data * 4000)[sent % len(data):])
                        except (BrokenPipeError, ConnectionResetError):
                            gone = True
                    took = time.monotonic() - begin
                    assert took > 1, f"dropped after {took:.2f} s of 2"
                    assert took <= 2 + PATIENCE, f"dropped after {took:.2f} s of 2"
        g.endure(attack, rounds=2)


@test
def line_10_contexts_are_replaced():
    with Ground() as g:
        def attack():
            with g.client() as c:
                c.structured()
                for i in range(400):
                    c.set_contexts("vda", *["base:allocation"] * (i % 3))
                assert c.set_contexts("vda", "base:", "base:allocation") != {}
                assert len(c.contexts) == 1
                c.go("vda")
                assert list(c.block_status(0, MIB)) == ["base:allocation"]
        g.endure(attack, rounds=4)


@test
def line_11_contexts_that_do_not_count():
    with Ground("--disk", "vdb", "memory", "1M") as g:
        def attack():
            with g.client() as c:  # for another export
                c.structured()
                c.set_contexts("vdb", "base:allocation")
                assert c.go("vda").do(BLOCK_STATUS, 0, 4096) == EINVAL
                c.in_step()
            with g.client() as c:  # before structured replies
                final, contexts = c.meta(OPT_SET_META, "vda", "base:allocation")
                assert (final, contexts) == (ERR_INVALID, [])
                c.structured()
                assert c.go("vda").do(BLOCK_STATUS, 0, 4096) == EINVAL
                c.in_step()
            with g.client() as c:  # taken back by a later one that fails
                c.structured()
                c.set_contexts("vda", "base:allocation")
                assert c.meta(OPT_SET_META, "none", "base:allocation")[0] == ERR_UNKNOWN
                assert c.go("vda").do(BLOCK_STATUS, 0, 4096) == EINVAL
                c.in_step()
        g.endure(attack, rounds=30)


@test
def line_12_the_plugin_is_opened_at_GO():
    with tmpdir() as d:
        opened = os.path.join(d, "opened")
        with Ground("--disk", "guarded", "eval", f"open=echo >>{opened}", "get_size=echo 1048576",
                    "can_multi_conn=exit 0",
                    "pread=head -c $3 /dev/zero") as g:
            at_start = os.stat(opened).st_size

            def attack():
                with g.client() as c:
                    c.structured()
                    c.list()
                    c.set_contexts("guarded", "base:allocation")
                    c.option(99)
                    assert c.info("guardedx") == ERR_UNKNOWN
                    assert c.option(OPT_ABORT) == (REP_ACK, [])
                with g.client(flags=None):
                    pass
            g.endure(attack, rounds=30)
            assert os.stat(opened).st_size == at_start, "opened for somebody who did not GO"
            with g.user("guarded"):
                assert os.stat(opened).st_size == at_start + 1


main()
