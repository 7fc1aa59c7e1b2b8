# SPDX-License-Identifier: BSD-3-Clause
"""Instants over many disks: how long a writer waits at most while transactions span all disks."""

import clients
from rig import MIB
from rivals import Disk, SlowDisk
from setting import folder, make_image

DISKS = [f"d{i}" for i in range(32)]
IMAGE = 16 * MIB
WRITERS = DISKS[::8]
SLOW = (5, 20)  # ms that a write of a slow disk takes
PAUSE = 0.05  # seconds between two transactions
RATE = 2000   # writes a second of each writer; processors have idle time, so that pauses are ours


def storm(server, what):
    """The action that is repeated on all disks at one instant, or None."""
    if what == "bitmaps":
        return lambda: server.clear_bitmaps(DISKS)
    if what == "views":
        def views():
            server.make_views(DISKS)
            server.delete_views(DISKS)
        return views
    return None


def write(server, what, seconds, writers):
    """Run 4 KiB writers on several disks, each with one request at a time, beside transactions."""
    jobs = [(server.uri(disk), 0, IMAGE) for disk in writers]
    options = ["--time_based", f"--runtime={seconds}", f"--rate_iops={RATE}", "--randrepeat=0"]
    action = storm(server, what)
    if action is None:
        load = clients.fio(jobs, "randwrite", "4k", 1, *options)
    else:
        with clients.Loop(action, PAUSE) as loop:
            load = clients.fio(jobs, "randwrite", "4k", 1, *options)
        if loop.count < 3 * seconds:
            raise RuntimeError(f"{server.name}: only {loop.count} transactions of {what}")
    return load


def measure_slow(setting, results, part, ms):
    """The same with a writer on each disk, where a write takes `ms` milliseconds. An instant waits for
    the writes under way on all disks; a guest should wait no longer than for those on its own."""
    arms = [(kind, what) for kind in setting.kinds if kind.bitmaps for what in (None, "bitmaps")]
    longest = {}
    for n, (kind, what) in setting.turns(arms, f"instants over {len(DISKS)} disks of {ms} ms"):
        with folder(setting.memory, "slow") as below, folder(setting.memory, kind.name) as place, \
                SlowDisk(below, IMAGE, ms) as slow, \
                setting.start(kind, place, {d: Disk(slow.socket, "nbd") for d in DISKS}) as server:
            for disk in DISKS:
                server.add_bitmap(disk)
            load = write(server, what, 2 * setting.seconds, DISKS)
            longest[n, kind, what] = load.longest
    for n, kind, what in longest:
        if what is None:
            continue
        alone = longest[n, kind, None]
        results.add(part, f"slow-{ms}-alone", kind.name, alone, less=True, unit="ms",
                    title=f"writes of {ms} ms, a writer on each disk: the longest")
        results.add(part, f"slow-{ms}", kind.name, longest[n, kind, what], less=True, unit="ms",
                    title=f"the longest; {len(DISKS)} bitmaps cleared at once, often")
        results.add(part, f"slow-{ms}-times", kind.name, longest[n, kind, what] / alone, less=True,
                    unit="x", title="that is, of the longest without", limit=2, compare=False)


def measure(setting, results, part):
    measure_fast(setting, results, part)
    for ms in SLOW:
        measure_slow(setting, results, part, ms)


def measure_fast(setting, results, part):
    whats = {"nothing": "no transactions",
             "bitmaps": f"{len(DISKS)} bitmaps cleared at once, often",
             "views": f"{len(DISKS)} views made at once, often"}
    arms = [(kind, what) for kind in setting.kinds if kind.bitmaps for what in whats
            if what != "views" or hasattr(kind, "make_views")]
    seconds = 2 * setting.seconds  # the longest pause takes time to happen
    got = {}
    for n, (kind, what) in setting.turns(arms, f"instants over {len(DISKS)} disks"):
        with folder(setting.memory, kind.name) as place:
            disks = {d: Disk(make_image(f"{place}/{d}", IMAGE)) for d in DISKS}
            with setting.start(kind, place, disks) as server:
                for disk in DISKS:
                    server.add_bitmap(disk)
                got[n, kind, what] = write(server, what, seconds, WRITERS)
    for what, title in whats.items():
        for n in range(setting.rounds):
            for kind in setting.kinds:
                if (n, kind, what) not in got:
                    continue
                load = got[n, kind, what]
                results.add(part, f"pause-{what}", kind.name, load.longest, less=True,
                            title=f"longest 4 KiB write; {title}", unit="ms")
                results.add(part, f"p9999-{what}", kind.name, load.p9999, less=True,
                            title="99.99 % of these writes are done in", unit="ms")
                if what != "nothing":
                    results.add(part, f"more-{what}", kind.name,
                                load.longest - got[n, kind, "nothing"].longest, less=True,
                                title=f"longest write: more than without ({what})",
                                limit=5, unit="ms", compare=False)
