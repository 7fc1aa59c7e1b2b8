#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a client's thread costs others: nothing when its client is idle, and little when its client
reads a view while guests work."""

import contextlib
import os
import select
import time

from fleece import Server
from rawnbd import *
from tap import main, test

CLIENTS = 100


def of_threads(pid, name):
    """The text of /proc/PID/task/TID/NAME of every thread, by TID. Threads that end meanwhile, as
    workers do that have had nothing to do for a while, are left out."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{pid}/task/{tid}/{name}") as f:
                found[int(tid)] = f.read()
    return found


def switches(pid):
    """How often threads have gone to sleep or were sent to: a thread that does anything at all
    goes to sleep afterwards."""
    return {
        tid: sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)
        for tid, text in of_threads(pid, "status").items()
    }


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def niceness(pid):
    """Of all threads, in order."""
    stats = of_threads(pid, "stat").values()
    return sorted(int(text.rsplit(")", 1)[1].split()[16]) for text in stats)


def pause(seconds):
    select.select([], [], [], seconds)


@test
def idle_clients_cost_nothing():
    """A hundred clients that have worked and now do nothing: soon not one thread of the server
    runs, not even now and then."""
    with contextlib.ExitStack() as stack:
        s = stack.enter_context(Server("memory", "1M"))
        for _ in range(CLIENTS):
            c = stack.enter_context(Client(s.socket))
            c.structured()
            c.go()
            for n in range(20):
                c.read(n * 4096, 4096)
        deadline = time.monotonic() + 30
        before = switches(s.pid), cpu_ticks(s.pid)
        while True:
            pause(1)
            after = switches(s.pid), cpu_ticks(s.pid)
            if after == before:
                break
            assert time.monotonic() < deadline, (before, after)
            before = after


@test
def views_are_read_behind_guests():
    """The threads that serve a view's readers are nicer than those that serve guests."""
    with Server("memory", "1M") as s:
        q = s.qmp()
        q.cmd("view-create", disk="disk0", name="v")
        q.cmd("block-export-add", type="nbd", id="v", **{"node-name": "v"})
        plain = niceness(s.pid)
        with Client(s.socket) as guest:
            guest.structured()
            guest.go("disk0")
            guest.read(0, 4096)
            both = niceness(s.pid)
            assert len(both) > len(plain) and max(both) == max(plain), (plain, both)
            with Client(s.socket) as reader:
                reader.structured()
                reader.go("v")
                reader.read(0, 4096)
                now = niceness(s.pid)
                assert now[-1] == min(max(plain) + 10, 19), now
                assert now[:len(both)] == both, (both, now)


main()
