# SPDX-License-Identifier: BSD-3-Clause
"""Resident memory, and CPU time of a server that has nothing to do."""

import time

import clients
from figures import BARE, NBDKIT
from rig import GIB, KIB, MIB
from rivals import Disk
from setting import folder, make_sparse, progress

CONNECTIONS = 100  # in all, with the first one
SETTLE = 2         # seconds until a connection is idle, and the server has freed the memory of
                   # its last requests
WATCH = 2          # seconds in which an idle server is watched
IDLE = 0.05        # per cent of a processor; less counts as none
TIB = 1 << 40


def measure(setting, results, part):
    for kind in setting.kinds:
        if kind.name == BARE:
            continue
        progress(f"memory of {kind.name}")
        connections(setting, results, part, kind)
        if kind.name != NBDKIT:  # nbdkit has one disk in a process, and no bitmaps
            many_disks(setting, results, part, kind)
            large_disk(setting, results, part, kind)


def use(handles, length):
    """Each connection reads and writes once."""
    for handle in handles:
        handle.pwrite(handle.pread(length, 0), 0)


def connections(setting, results, part, kind):
    with folder(setting.memory, kind.name) as place, \
            setting.start(kind, place, {"disk": Disk(make_sparse(f"{place}/image", GIB))}) as s:
        handles = clients.connect(s.uri(), 1)
        use(handles, 4 * KIB)
        one = s.resident()
        results.add(part, "one", kind.name, one / MIB, less=True, limit=12,
                    title="resident: one disk, one connection", unit="MiB")
        handles += clients.connect(s.uri(), CONNECTIONS - 1)
        for length in 4 * KIB, 256 * KIB:
            use(handles, length)
            time.sleep(SETTLE)  # the measurement itself: the server is left alone
            results.add(part, f"connection-{length}", kind.name,
                        (s.resident() - one) / KIB / (CONNECTIONS - 1), less=True,
                        limit=64 if length == 4 * KIB else None, unit="KiB",
                        title=f"more for each idle connection, after {length // KIB} KiB requests")
        cpu = s.cpu_seconds()
        time.sleep(WATCH)
        results.add(part, "idle", kind.name, (s.cpu_seconds() - cpu) * 100 / WATCH,
                    less=True, limit=IDLE, unit="%", compare=False,
                    title=f"CPU with {CONNECTIONS} idle connections")
        for handle in handles:
            handle.shutdown()


def many_disks(setting, results, part, kind):
    with folder(setting.memory, kind.name) as place:
        disks = {f"d{i}": Disk(make_sparse(f"{place}/image{i}", GIB)) for i in range(100)}
        with setting.start(kind, place, disks) as server:
            results.add(part, "hundred", kind.name, server.resident() / MIB, less=True,
                        title="resident: 100 disks, no connection", unit="MiB")


def large_disk(setting, results, part, kind):
    with folder(setting.memory, kind.name) as place:
        disk = Disk(make_sparse(f"{place}/image", 8 * TIB))
        with setting.start(kind, place, {"disk": disk}) as server:
            before = server.resident()
            server.add_bitmap()
            results.add(part, "large", kind.name, server.resident() / MIB, less=True,
                        title="resident: one sparse 8 TiB disk with an empty bitmap", unit="MiB")
            results.add(part, "large-bitmap", kind.name, (server.resident() - before) / KIB,
                        less=True, title="of this, for the bitmap", unit="KiB", compare=False)
