#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the thread of a client costs others: nothing while its client is idle, and little while its
client reads a view and guests work."""

import contextlib
import os
import select
import time

from fleece import SOON, Server
from rawnbd import *
from tap import main, test

CLIENTS = 100


def of_threads(pid, name):
    """{TID: text of /proc/PID/task/TID/NAME} of every thread. Threads that end meanwhile are left
    out: workers end when they have had nothing to do for a while."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{pid}/task/{tid}/{name}") as f:
                found[int(tid)] = f.read()
    return found


def switches(pid):
    """{TID: how often the thread has left a processor}. A thread that does anything at all leaves
    it afterwards."""
    return {
        tid: sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)
        for tid, text in of_threads(pid, "status").items()
    }


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def niceness(pid):
    """The nice values of all threads, sorted."""
    stats = of_threads(pid, "stat").values()
    return sorted(int(text.rsplit(")", 1)[1].split()[16]) for text in stats)


def pause(seconds):
    select.select([], [], [], seconds)


@test
def idle_clients_cost_nothing():
    """A hundred clients have worked and now do nothing. Soon no thread of the server runs for a
    whole second. Only time can show this, so the test lets it pass."""
    with contextlib.ExitStack() as stack:
        s = stack.enter_context(Server("memory", "1M"))
        for _ in range(CLIENTS):
            c = stack.enter_context(Client(s.socket))
            c.structured()
            c.go()
            for n in range(20):
                c.read(n * 4096, 4096)
        deadline = time.monotonic() + SOON
        before = switches(s.pid), cpu_ticks(s.pid)
        while True:
            pause(1)
            after = switches(s.pid), cpu_ticks(s.pid)
            if after == before:
                break
            assert time.monotonic() < deadline, (before, after)
            before = after


@test
def readers_of_views_have_a_lower_priority_than_guests():
    """Guests come first: threads that serve readers of a view have a higher nice value."""
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
