#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server runs out of file descriptors: the clients that it has go on, new ones are told or wait
until there is room, and afterwards all works."""

import os
import resource

from fleece import Qmp, QmpError, Server, tmpdir
from scenario import rawnbd
from tap import main, test

BLOCK = 4096
ROOMS = range(6)  # descriptors that are left for new clients, scratch and the like


def descriptors(pid):
    return {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}


def leave(pid, room):
    """Let the server have so many descriptors more than it has. Returns the limits before."""
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


def connect(s):
    """A client that has sent all of its handshake and waited for nothing."""
    c = rawnbd.Client(s.socket, flags=None)
    c.send(b"\0\0\0\3")
    c.send_option(rawnbd.OPT_GO, c.go_data("vda"))
    return c


def outcome(c):
    """How the handshake has ended: served, or refused in words or by closing."""
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
            new = [connect(s) for _ in range(room + 2)]
            go_on(clients, 0x20)
            try:
                q.cmd("view-create", disk="vda", name="v")
                q.cmd("view-delete", name="v")
            except QmpError as e:
                assert "Too many open files" in str(e), e
            go_on(clients, 0x30)
            while "Too many open files" not in s.log():  # those who came are seen to by then
                q.cmd("query-version")
            go_on(clients, 0x40)

            resource.prlimit(s.pid, resource.RLIMIT_NOFILE, limits)
            outcomes = [outcome(c) for c in new]
            assert "served" in outcomes, outcomes
            for c, result in zip(new, outcomes):
                if result == "served":
                    c.read(0, BLOCK)
                c.close()
            go_on([rawnbd.Client(s.socket).go("vda")] + clients, 0x50)
            q.cmd("view-create", disk="vda", name="v")
            go_on(clients, 0x60)
            q.cmd("view-delete", name="v")
            with Qmp(s.qmp_path):
                pass
            for c in clients:
                c.close()
            while len(descriptors(s.pid)) > len(before) - len(clients):
                q.cmd("query-version")  # it is getting rid of them


@test
def descriptors_run_out():
    for room in ROOMS:
        exhaust(room)


main()
