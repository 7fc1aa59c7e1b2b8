#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server runs out of file descriptors or threads. The clients that it has go on, new ones are
refused at once, and afterwards everything works again."""

import contextlib
import errno
import os
import resource
import time

from fleece import Qmp, QmpError, SANITIZER, Server, tmpdir
from grid import Control, Fault, server
from scenario import rawnbd
from tap import main, skip, test

BLOCK = 4096
ROOMS = range(6)  # how many descriptors are left for new clients, scratch and so on


def descriptors(pid):
    return {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}


def leave(pid, room):
    """Let the server open only `room` more descriptors. Returns the limits that it had before."""
    taken = descriptors(pid)
    free = [fd for fd in range(max(taken) + room + 2) if fd not in taken]
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[room], limits[1]))
    return limits


def go_on(clients, value):
    for i, c in enumerate(clients):
        c.write(i * BLOCK, bytes([value + i]) * BLOCK)
        assert c.do(rawnbd.FLUSH) == 0
        assert c.read(i * BLOCK, BLOCK) == bytes([value + i]) * BLOCK


def connect(where):
    """A client that has sent its whole handshake, as far as it could, without waiting for a
    reply."""
    c = rawnbd.Client(where, flags=None)
    with contextlib.suppress(ConnectionError):
        c.send(b"\0\0\0\3")
        c.send_option(rawnbd.OPT_GO, c.go_data("vda"))
    return c


def outcome(c):
    """How the handshake has ended: "served", "refused" with a message, or "closed"."""
    try:
        magic, option_magic, c.handshake_flags = c.unpack(">QQH")
        assert (magic, option_magic) == (rawnbd.INIT_MAGIC, rawnbd.OPTION_MAGIC)
        while True:
            type, payload = c.option_reply(rawnbd.OPT_GO)
            if type == rawnbd.REP_ACK:
                return "served"
            if type & 0x80000000:
                assert payload, "refused without a word"
                return "refused"
    except (rawnbd.Closed, ConnectionError):
        return "closed"


def try_a_monitor(s):
    """A monitor is refused, or is served because there is a descriptor left for it."""
    try:
        Qmp(s.qmp_path).close()
    except (EOFError, ConnectionError):
        pass


def exhaust(room):
    with tmpdir() as folder:
        path = os.path.join(folder, "image")
        with open(path, "wb") as f:
            f.truncate(1 << 20)
        with Server("--scratch", folder, "--disk", "vda", "file", path) as s:
            clients = [rawnbd.Client(s.socket).go("vda") for _ in range(2)]
            q = s.qmp()
            go_on(clients, 0x10)
            before = descriptors(s.pid)
            limits = leave(s.pid, room)
            new = [connect(s.socket) for _ in range(room + 2)]
            outcomes = [outcome(c) for c in new]
            assert outcomes.count("served") <= room, outcomes
            try_a_monitor(s)
            assert "Too many open files" in s.log()
            go_on(clients + [c for c, how in zip(new, outcomes) if how == "served"], 0x20)
            try:
                q.cmd("view-create", disk="vda", name="v")
                q.cmd("view-delete", name="v")
            except QmpError as e:
                assert "Too many open files" in str(e), e
            go_on(clients, 0x30)
            for c in new:
                c.close()
            resource.prlimit(s.pid, resource.RLIMIT_NOFILE, limits)
            go_on([rawnbd.Client(s.socket).go("vda")] + clients, 0x50)
            q.cmd("view-create", disk="vda", name="v")
            go_on(clients, 0x60)
            q.cmd("view-delete", name="v")
            with Qmp(s.qmp_path):
                pass
            for c in clients:
                c.close()
            while len(descriptors(s.pid)) > len(before) - len(clients):
                q.cmd("query-version")  # asked again until it has closed them


@test
def descriptors_run_out():
    for room in ROOMS:
        exhaust(room)


@test
def descriptors_run_out_of_two_listeners():
    """Each listener sets a descriptor aside to refuse clients with, which the other does not take.
    New clients come to both at once, again and again."""
    with Server("--disk", "vda", "memory", "1M") as s:
        q = s.qmp()
        other = os.path.join(s.dir, "other")
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": other}})
        q.cmd("block-export-add", type="nbd", id="e", writable=True, **{"node-name": "vda"})
        client = rawnbd.Client(other).go("vda")
        limits = leave(s.pid, 0)
        for _ in range(20):
            new = [connect(where) for where in (s.socket, other, other, s.socket)]
            assert [outcome(c) for c in new] == ["closed"] * 4
            for c in new:
                c.close()
        go_on([client], 0x10)
        resource.prlimit(s.pid, resource.RLIMIT_NOFILE, limits)
        go_on([rawnbd.Client(where).go("vda") for where in (s.socket, other)], 0x20)


@test
def threads_run_out():
    """New clients are refused at once, not one in each second."""
    if SANITIZER == "thread":
        skip("faults are tried without sanitizers, and with ASan")
    with tmpdir() as folder:
        control = Control(os.path.join(folder, "control"))
        with server(folder, control, "--disk", "vda", "memory", "1M") as s:
            client = rawnbd.Client(s.socket).go("vda")
            control.arm(Fault("thread", errno.EAGAIN, 1, forever=True))
            begin = time.monotonic()
            for _ in range(50):
                c = connect(s.socket)
                assert outcome(c) == "closed"
                c.close()
            assert time.monotonic() - begin < 25, "new clients have to wait"
            go_on([client], 0x10)
            control.disarm()
            go_on([rawnbd.Client(s.socket).go("vda")], 0x20)
            assert "cannot start a client's thread" in s.log()
        control.close()


main()
