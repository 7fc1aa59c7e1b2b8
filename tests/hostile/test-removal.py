# SPDX-License-Identifier: BSD-3-Clause
"""Hostile clients, line 4 of README.md: exports, listeners and the server end in time, whatever
clients do."""

import contextlib
import signal
import socket
import struct
import time

from fleece import tmpdir
from harness import *
from tap import main, note, test


def crowd(where, export):
    """Clients in all states in which one may be stuck: ([before GO], [after GO])."""
    def negotiating(data=b"", flags=FIXED_NEWSTYLE | NO_ZEROES):
        c = Client(where, flags)
        c.send(data)
        return c

    def using(data=b"", structured=False):
        c = Client(where)
        if structured:
            c.structured()
        c.go(export)
        push(c.socket, data)
        return c

    def request(type, length, rest=b""):
        return struct.pack(">IHHQQI", REQUEST_MAGIC, 0, type, 1, 0, length) + rest

    before_go = [
        negotiating(flags=None),
        negotiating(),
        negotiating(b"IHAVEOPT"),
        negotiating(struct.pack(">QII", OPTION_MAGIC, OPT_GO, 65536) + bytes(100)),
    ]
    after_go = [
        using(),
        using(bytes(3)),
        using(request(WRITE, 4096)[:20]),
        using(request(WRITE, 65536, bytes(1000))),
        using(request(WRITE, 32 * MIB, bytes(3 * MIB))),
        using(request(READ, 4096) * 100),
        using(request(READ, 32 * MIB) * 100),
        using(request(READ, 65536) * 20000, structured=True),
        using(request(READ, MIB) * 1000, structured=True),
    ]
    return before_go, after_go


def gone(c):
    """Wait until the server has hung up. What it sends before does not matter."""
    with contextlib.suppress(ConnectionResetError):
        while c.socket.recv(MIB):
            pass


def close(clients):
    for c in clients:
        c.close()


@test
def line_04_an_export_is_removed():
    for tcp in False, True:
        with Ground(tcp=tcp) as g:
            worst = 0

            def attack():
                nonlocal worst
                with g.qmp() as q:
                    q.cmd("view-create", disk="vda", name="v")
                    for name, node in ("e", "vda"), ("v", "v"):
                        q.cmd("block-export-add", type="nbd", id=name, name=name,
                              writable=name == "e", **{"node-name": node})
                        before_go, after_go = crowd(g.address, name)
                        begin = time.monotonic()
                        q.cmd("block-export-del", id=name, mode="hard")
                        assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": name}
                        worst = max(worst, time.monotonic() - begin)
                        for c in after_go:
                            gone(c)
                        with before_go[1] as c:  # a client before GO can still choose another export
                            assert c.info(name) == ERR_UNKNOWN
                            c.go("vda").in_step()
                        close(before_go + after_go)
                    q.cmd("view-delete", name="v")
            g.endure(attack, rounds=1, growth=24 * MIB)
            note(f"gone within {worst:.2f} s")
            assert worst <= END_WITHIN, worst


@test
def line_04_a_listener_is_stopped():
    for tcp in False, True:
        with Ground() as g:
            worst = 0

            def attack():
                nonlocal worst
                where = g.server.path("other")
                address = {"type": "unix", "data": {"path": where}}
                if tcp:
                    with socket.create_server(("127.0.0.1", 0)) as free:
                        where = free.getsockname()
                    address = {"type": "inet", "data": {"host": where[0], "port": str(where[1])}}
                with g.qmp() as q:
                    q.cmd("nbd-server-start", addr=address)
                    q.cmd("block-export-add", type="nbd", id="e", writable=True,
                          **{"node-name": "vda"})
                    before_go, after_go = crowd(where, "vda")
                    begin = time.monotonic()
                    q.cmd("nbd-server-stop")
                    worst = max(worst, time.monotonic() - begin)
                    for c in before_go + after_go:
                        gone(c)
                    close(before_go + after_go)
            g.endure(attack, rounds=2, growth=24 * MIB)
            note(f"gone within {worst:.2f} s")
            assert worst <= END_WITHIN, worst


@test
def line_04_the_server_ends():
    """It exits with 0, and a write that was answered before is on the disk."""
    for how in "SIGTERM", "quit":
        for tcp in False, True:
            with tmpdir() as d:
                image = f"{d}/image"
                with open(image, "wb") as f:
                    f.truncate(16 * MIB)
                with Ground("--disk", "kept", "file", image, tcp=tcp) as g:
                    clients = []
                    for name in "vda", "kept":
                        for some in crowd(g.address, name):
                            clients += some
                    with g.user("kept") as c:
                        c.write(MIB, b"k" * MIB)
                        begin = time.monotonic()
                        if how == "quit":
                            g.server.qmp().cmd("quit")
                        else:
                            g.server.process.send_signal(signal.SIGTERM)
                        g.server.wait()
                        took = time.monotonic() - begin
                    close(clients)
                note(f"{how}{' on TCP' if tcp else ''}: ended within {took:.2f} s")
                assert took <= END_WITHIN, took
                with open(image, "rb") as f:
                    f.seek(MIB)
                    assert f.read(MIB) == b"k" * MIB


main()
