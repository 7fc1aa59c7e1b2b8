# SPDX-License-Identifier: BSD-3-Clause
"""Hostile clients, line 28 of README.md: on the control socket. Guests and other monitors are
served all the time. tests/control/test-qmp-wire.py tests the answers and the limits themselves."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import time

from fleece import SOON
from harness import *
from tap import main, skip, test

BOTH = (Guest, Watcher)


def error_of(q):
    return q.reply()["error"]["desc"]


@test
def line_28_a_line_of_100_MB():
    with Ground(neighbours=BOTH) as g:
        def attack():
            for _ in range(2):  # the second time malloc takes 24 MiB that it never gives back
                with g.qmp() as q:
                    q.write(b"{'execute': '")
                    for _ in range(100):
                        q.write(b"x" * MIB)
                    q.write(b"'}\n")
                    assert error_of(q) == "JSON token size limit exceeded"
        calm = g.calm()
        g.endure(attack, rounds=1)
        g.check_peak(calm, 64 * MIB)


@test
def line_28_100000_deep():
    with Ground(neighbours=BOTH) as g:
        def attack():
            with g.qmp() as q:
                for text in b"[" * 100000, b"{'a':" * 100000, b"[{'a':" * 100000:
                    q.write(text + b"\n")
                    assert error_of(q) == "JSON nesting depth limit exceeded"
                    assert q.cmd("query-name") == {}
        g.endure(attack, rounds=3)


@test
def line_28_bytes_that_are_no_text():
    with Ground(neighbours=BOTH) as g:
        def attack():
            with g.qmp() as q:
                for text in (b"{'a': '\xc3('}", b"{'a': '\xed\xa0\x80'}", b"{'a': '\xf8\x88\x80\x80'}",
                             b"{'execute': '\xff\xfe'}", b"{'a': '\xc0\xaf'}", b"{\xff", b"\x00"):
                    q.write(text + b"\n{'execute': 'query-name', 'id': 1}")
                    errors = 0
                    while "error" in (reply := q.reply()):
                        assert "JSON parse error" in reply["error"]["desc"], (text, reply)
                        errors += 1
                    assert errors > 0 and reply == {"return": {}, "id": 1}, (text, reply)
        g.endure(attack)


@test
def line_28_writers_that_dawdle():
    with Ground(neighbours=BOTH) as g:
        def attack():
            with contextlib.ExitStack() as stack:
                dawdlers = [stack.enter_context(g.qmp()) for _ in range(20)]
                for byte in b"{'execute':":
                    for q in dawdlers:
                        q.write(bytes([byte]))
                    select.select([], [], [], 0.02)  # the harm itself: they send slowly
                with g.qmp() as q:
                    assert q.cmd("query-name") == {}
        g.endure(attack, rounds=2)


@test
def line_28_readers_that_never_read():
    with Ground(neighbours=BOTH) as g:
        def attack():
            calm = g.calm()
            with contextlib.ExitStack() as stack:
                stuck = [stack.enter_context(g.qmp()) for _ in range(5)]
                for q in stuck:
                    asked = b"{'execute': 'query-commands'}" * 200000
                    assert push(q.socket, asked) < len(asked), "the server reads without end"
                with g.qmp() as q:
                    for _ in range(500):
                        q.cmd("block-export-add", type="nbd", id="e", name="e",
                              **{"node-name": "vda"})
                        q.cmd("block-export-del", id="e")
                g.check_peak(calm, len(stuck) * 3 * MIB)
        g.endure(attack, rounds=1, growth=8 * MIB)


@test
def line_28_64_monitors_and_more():
    with Ground(neighbours=BOTH) as g:
        def attack():
            monitors, refused = [], 0
            for _ in range(80):
                s = socket.socket(socket.AF_UNIX)
                s.connect(g.server.qmp_path)  # waits while the kernel's queue is full
                s.settimeout(SOON)
                monitors.append(s)
            for s in monitors:
                try:
                    refused += s.recv(4096) == b""
                except ConnectionResetError:
                    refused += 1
            assert 80 - refused <= 63, f"{80 - refused} monitors besides the watcher's"
            for s in monitors:
                s.close()
            until = time.monotonic() + SOON
            while True:  # there is room again
                try:
                    with g.qmp() as q:
                        assert q.cmd("query-name") == {}
                    break
                except (EOFError, ConnectionResetError, BlockingIOError):
                    assert time.monotonic() < until
        g.endure(attack, rounds=3)


@test
def line_28_monitors_that_go_away():
    with Ground(neighbours=BOTH) as g:
        def attack():
            for data in (b"", b"{'execute': 'query-comm", b"{'execute': 'query-commands'}" * 500,
                         b"GET / HTTP/1.1\r\n\r\n", b"[" * 500, b"\x16\x03\x01\x02\x00"):
                for _ in range(3):
                    q = g.qmp()
                    push(q.socket, data)
                    q.close()
        g.endure(attack, rounds=5)


STRANGER = """
import socket, sys
for _ in range(20):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    try:
        s.send(b"{'execute': 'qmp_capabilities'}{'execute': 'quit'}")
        assert s.recv(100) == b""
    except (BrokenPipeError, ConnectionResetError):
        pass
    s.close()
"""


@test
def line_28_strangers():
    """Another user is turned away, even if the mode of the socket's file lets him connect."""
    if os.geteuid() != 0:
        skip("only root can become another user")
    with Ground(neighbours=BOTH) as g:
        os.chmod(g.server.dir, 0o755)
        os.chmod(g.server.qmp_path, 0o666)

        def attack():
            subprocess.run([sys.executable, "-c", STRANGER, g.server.qmp_path], check=True,
                           user=65534, group=65534, extra_groups=[], timeout=SOON)
        g.endure(attack, rounds=2)


main()
