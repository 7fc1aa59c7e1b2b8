# SPDX-License-Identifier: BSD-3-Clause
"""Backup sessions: how long one takes to begin over many large disks, how long a writer waits
meanwhile, and what one that nobody reads costs the guest's first writes."""

import time

import clients
from figures import OURS
from rig import MIB
from rivals import Disk
from setting import folder, make_image, make_sparse
from state import Stateful

DISKS = [f"d{i}" for i in range(32)]
TIB = 1 << 40
BEGINS = 5  # in a round
WRITERS = DISKS[::8]
WRITTEN = 16 * MIB  # of each of their disks
RATE = 2000  # writes a second of each writer
PAUSE = 0.1  # seconds between two sessions
FRESH = 512 * MIB


def begin(server, id, checkpoint, since=None):
    more = {"since": since} if since else {}
    return server.cmd("backup-begin", id=id, checkpoint=checkpoint, **more)


def end(server, id, result="abort"):
    server.cmd("backup-end", id=id, result=result)


def with_base(server):
    """Make the checkpoint that sessions have as their base."""
    begin(server, "first", "base")
    end(server, "first", "commit")


def large(setting, place, state):
    disks = {d: Disk(make_sparse(f"{place}/{d}", TIB)) for d in DISKS}
    return setting.start(Stateful, place, disks, state=f"{state}/state")


def write(server, seconds):
    return clients.fio([(server.uri(d), 0, WRITTEN) for d in WRITERS], "randwrite", "4k", 1,
                       "--time_based", f"--runtime={seconds}", f"--rate_iops={RATE}",
                       "--randrepeat=0")


def measure_begin(setting, results, part):
    """Sessions from one base, each of which is aborted again."""
    def session():
        begin(server, "b", "next", "base")
        end(server, "b")

    seconds = 2 * setting.seconds
    for _ in setting.turns(["begin"], f"sessions over {len(DISKS)} disks of 1 TiB"):
        with folder(setting.memory, "large") as place, folder(setting.disk, "large") as state, \
                large(setting, place, state) as server:
            with_base(server)
            alone = write(server, seconds)
            took = []
            for _ in range(BEGINS):
                start = time.monotonic()
                answer = begin(server, "b", "next", "base")
                took.append((time.monotonic() - start) * 1000)
                if any(d["mode"] != "incremental" for d in answer):
                    raise RuntimeError(f"not incremental: {answer}")
                end(server, "b")
            with clients.Loop(session, PAUSE) as loop:
                beside = write(server, seconds)
            if loop.count < seconds:
                raise RuntimeError(f"only {loop.count} sessions")
        results.add(part, "begin", OURS, sorted(took)[BEGINS // 2], less=True, unit="ms", limit=50,
                    title=f"backup-begin over {len(DISKS)} disks of 1 TiB, with a state folder")
        results.add(part, "pause-alone", OURS, alone.longest, less=True, unit="ms",
                    title="longest 4 KiB write; no sessions")
        results.add(part, "pause", OURS, beside.longest, less=True, unit="ms",
                    title="longest 4 KiB write; sessions begin and end, often")
        results.add(part, "more", OURS, beside.longest - alone.longest, less=True, unit="ms",
                    limit=5, compare=False, title="longest write: more than without sessions")


def measure_idle(setting, results, part):
    """First writes to each block, under a view and under a session."""
    rate = {}
    for n, what in setting.turns(["view", "session"], "writes under a session that nobody reads"):
        with folder(setting.memory, what) as place, folder(setting.disk, what) as state, \
                setting.start(Stateful, place, {"disk": Disk(make_image(f"{place}/disk", FRESH))},
                              state=f"{state}/state") as server:
            with_base(server)
            if what == "view":
                server.add_bitmap()  # a session's own checkpoint records, too
                server.make_views(["disk"])
            else:
                begin(server, "b", "next", "base")
            rate[n, what] = clients.fio([(server.uri(), 0, FRESH)], "randwrite", "4k", 16,
                                        "--randrepeat=1", f"--io_size={FRESH // 4}").iops
    for n in range(setting.rounds):
        for what in "view", "session":
            results.add(part, f"fresh-{what}", OURS, rate[n, what], unit="IOPS",
                        title=f"4 KiB first writes to 1/4 of a disk under a {what}")
        results.add(part, "fresh-share", OURS, rate[n, "session"] / rate[n, "view"], unit="ratio",
                    limit=0.97, compare=False, title="rate under a session to that under a view")


def measure(setting, results, part):
    measure_begin(setting, results, part)
    measure_idle(setting, results, part)
