# SPDX-License-Identifier: BSD-3-Clause
"""What it costs that bitmaps survive: writes with a state folder on a real disk, without one, and
with one that survives the death of the process only; how long a server with one takes to start; and
the memory of a bitmap on a huge disk."""

import contextlib
import mmap
import os
import struct
import time

import clients
import fleece
import memory_folder
from figures import OURS
from loads import IMAGE, Cell, warm_up
from rig import GIB, KIB
from rivals import Disk, Nbdfleece
from setting import folder, make_image, make_sparse, progress

KINDS = ["none", "process", "power"]
CELL = Cell("write", "4 KiB random writes, depth 16", "randwrite", "4k", 16, {})
GOALS = {"process": 0.98, "power": 0.95}
STORM = 64 * GIB
STORM_WRITES = 65536  # four for each region of the journal
DISKS, TIB = 100, 1 << 40
TOUCHES = 8  # writes to a disk, all over it
COUNTER = f"{fleece.BUILD}/tests/state/.libs/folder-faults.so"


class Stateful(Nbdfleece):
    """Ours with a state folder."""

    def __init__(self, root, folder, disks, state=None, durability="power", env=None,
                 view=False):
        self._more = ["--state", state, "--durability", durability] if state else []
        self._env = env or {}
        super().__init__(root, folder, disks, view=view)

    def options(self):
        return self._more

    def environment(self):
        return self._env


class Syncs:
    """Counts the syncs of files in a folder, by tests/state/folder-faults.c. None of them fails:
    its 0 for an error is what lets a call pass whose other end is closed."""

    def __init__(self, place, state):
        path = os.path.join(place, "syncs")
        with open(path, "w+b") as f:
            f.truncate(mmap.PAGESIZE)
            self._map = mmap.mmap(f.fileno(), mmap.PAGESIZE)
        self._map[:8] = struct.pack("=Ii", 1, 0)
        # The null device is always ready, so nothing waits for it.
        self.env = {"LD_PRELOAD": COUNTER, "FLEECE_FAULTS_FOLDER": os.path.realpath(state),
                    "FLEECE_FAULTS_CONTROL": path, "FLEECE_FAULTS_HANG": "0"}

    def count(self):
        return struct.unpack("=I", self._map[8:12])[0]


def measure(setting, results, part):
    steady(setting, results, part)
    storm(setting, results, part)
    start(setting, results, part)
    memory(setting, results, part)


def steady(setting, results, part):
    """Random writes to an image in memory that was written once, so that nothing is touched for the
    first time."""
    with contextlib.ExitStack() as stack:
        servers = {}
        for kind in KINDS:
            place = stack.enter_context(folder(setting.memory, kind))
            state = stack.enter_context(folder(setting.disk, kind))
            servers[kind] = stack.enter_context(setting.start(
                Stateful, place, {"disk": Disk(make_image(f"{place}/image", IMAGE))},
                **with_state(kind, state)))
            servers[kind].add_bitmap()
            warm_up(servers[kind])
        got = {}
        for n, kind in setting.turns(KINDS, "a state folder, steady writes"):
            load, cpu = CELL.run(servers[kind], 1, setting.seconds)
            got[n, kind] = load.iops, cpu
    for n in range(setting.rounds):
        for kind in KINDS:
            iops, cpu = got[n, kind]
            results.add(part, f"steady-{kind}", OURS, iops, unit="IOPS",
                        title=f"{CELL.title}, durability: {kind}")
            results.add(part, f"steady-{kind}-cpu", OURS, cpu, unit="µs a request", less=True,
                        title=f"durability {kind}: the server's CPU time")
            if kind in GOALS:
                results.add(part, f"steady-{kind}-share", OURS, iops / got[n, "none"][0],
                            unit="ratio", limit=GOALS[kind],
                            title=f"rate with durability {kind} to that without a state folder")


def with_state(kind, state):
    return {} if kind == "none" else {"state": f"{state}/state", "durability": kind}


def storm(setting, results, part):
    """Writes all over a large sparse disk, none twice, right after a bitmap was added: nearly each
    one is the first in its region, until all regions are open."""
    for n, kind in setting.turns(["none", "power"], "a state folder, first touch of 64 GiB"):
        with folder(setting.memory, kind) as place, folder(setting.disk, kind) as state:
            syncs = Syncs(place, f"{state}/state")
            disk = Disk(make_sparse(f"{place}/image", STORM))
            with setting.start(Stateful, place, {"disk": disk}, env=syncs.env,
                               **with_state(kind, state)) as server:
                server.add_bitmap()
                before = syncs.count()
                load = clients.fio([(server.uri(), 0, STORM)], "randwrite", "4k", 16,
                                   "--randrepeat=1", f"--io_size={STORM_WRITES * 4096}")
                used = syncs.count() - before
        results.add(part, f"storm-{kind}", OURS, load.iops, unit="IOPS",
                    title=f"{STORM_WRITES} first writes over 64 GiB, depth 16, durability: {kind}")
        rates = results.parts[part][f"storm-{kind}"].samples[OURS]
        if kind == "power":
            results.add(part, "storm-syncs", OURS, used, unit="syncs", less=True,
                        title="syncs of the state folder meanwhile")
            results.add(part, "storm-p99", OURS, load.p99 / 1e3, unit="ms", less=True,
                        title="99 % of these writes are done within")
        assert len(rates) == n + 1
    figures = results.parts[part]
    for power, none in zip(figures["storm-power"].samples[OURS],
                           figures["storm-none"].samples[OURS]):
        results.add(part, "storm-share", OURS, power / none, unit="ratio", limit=0.5,
                    title="rate with durability power to that without a state folder")


def start(setting, results, part):
    """From the start of the process until clients can connect."""
    with folder(setting.memory, "start") as place, folder(setting.disk, "start") as state:
        disks = {f"d{i}": Disk(make_sparse(f"{place}/image{i}", TIB)) for i in range(DISKS)}

        def started(**options):
            begin = time.monotonic()
            server = setting.start(Stateful, place, disks, **options)
            return server, time.monotonic() - begin

        def started_after_a_crash(lose_power):
            server, _ = started(**options)
            with server:
                touch(server, disks)
                server.crash()
            if lose_power:
                memory_folder.forget(in_memory)
            server, seconds = started(**options)
            with server:
                pass
            return seconds

        options = with_state("power", state)
        server, _ = started(**options)
        with server:
            for name in disks:
                server.add_bitmap(name)
            touch(server, disks)
        in_memory = memory_folder.path_of(options["state"])
        for n in range(setting.rounds):
            progress(f"round {n + 1} of {setting.rounds}: starts with {DISKS} disks of 1 TiB")
            took = {}
            for kind, more in ("none", {}), ("clean", options):
                server, took[kind] = started(**more)
                with server:
                    pass
            took["crashed"] = started_after_a_crash(False)
            took["power-lost"] = started_after_a_crash(True)
            for kind, seconds in took.items():
                results.add(part, f"start-{kind}", OURS, seconds, unit="s", less=True,
                            title=f"start with {DISKS} disks of 1 TiB: {STARTS[kind]}")
            for kind in "crashed", "power-lost":
                results.add(part, f"start-{kind}-more", OURS, took[kind] - took["none"], unit="s",
                            less=True, limit=1, compare=False,
                            title=f"of this, for the recovery {STARTS[kind]}")


STARTS = {"none": "without a state folder", "clean": "after an orderly end, a bitmap on each",
          "crashed": "after kill -9", "power-lost": "after a power loss"}


def touch(server, disks, size=TIB):
    """A few writes to each disk."""
    for name in disks:
        handle, = clients.connect(server.uri(name), 1)
        for at in range(0, size, size // TOUCHES):
            handle.pwrite(bytes(4096), at)
        handle.shutdown()


def memory(setting, results, part):
    """What a bitmap takes in which a few bits were set: resident memory, with the pages that are
    shared, and files in memory."""
    for tib in 1, 64:
        with folder(setting.memory, "bits") as place, folder(setting.disk, "bits") as state:
            disks = {"disk": Disk(make_sparse(f"{place}/image", tib * TIB))}

            def started():
                return setting.start(Stateful, place, disks, **with_state("power", state))

            with started():
                pass
            in_memory = memory_folder.path_of(f"{state}/state")
            with started() as server:
                before = server.resident()
                server.add_bitmap()
                touch(server, disks, tib * TIB)
                used = {"": server.resident() - before,
                        "-files": memory_folder.allocated(in_memory)}
                server.crash()
            with started() as server:
                used["-killed"] = server.resident() - before
            for key, amount in used.items():
                results.add(part, f"memory-{tib}{key}", OURS, amount / KIB, unit="KiB", less=True,
                            limit=MEMORY[key][1], compare=False,
                            title=f"a bitmap of {tib} TiB, {TOUCHES} granules dirty: "
                                  f"{MEMORY[key][0]}")


# {key: (what it is, its limit in KiB)}
MEMORY = {"": ("resident", 1024), "-files": ("files in memory", 1024 + 128),
          "-killed": ("resident after kill -9 and a start", 2048)}
