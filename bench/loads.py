# SPDX-License-Identifier: BSD-3-Clause
"""Plain serving: rates, and the server's CPU time for a request, on one connection and on four. The
parts serve an image in memory, an image on a real disk, nbdkit's own plugin, and an image over
TLS."""

import contextlib
import dataclasses
import time

import clients
import fleece
from figures import FLEECES, NBDKIT, QSD
from rig import MIB
from rivals import Disk
from setting import folder, make_image

IMAGE = 256 * MIB
CONNECTIONS = 4
TLS_IMAGE = 1024 * MIB


@dataclasses.dataclass
class Cell:
    """A load for fio. goals are for its rate, cpu_goals for the CPU time (4 KiB only)."""
    key: str
    title: str
    rw: str
    bs: str
    depth: int
    goals: dict
    cpu_goals: dict = dataclasses.field(default_factory=lambda: {QSD: 1 / 3, NBDKIT: 1})

    @property
    def small(self):
        return self.bs == "4k"

    def run(self, server, connections, seconds):
        """(the load as fio saw it, the server's CPU time a request in µs)"""
        cpu = server.cpu_seconds()
        load = clients.fio(clients.split(server.uri(), IMAGE, connections), self.rw, self.bs,
                           self.depth, "--randrepeat=0", "--time_based", f"--runtime={seconds}")
        return load, (server.cpu_seconds() - cpu) * 1e6 / load.ios


CELLS = [
    Cell("read-4k-16", "4 KiB random reads, depth 16", "randread", "4k", 16,
         {QSD: 3, NBDKIT: 1.5}),
    Cell("write-4k-16", "4 KiB random writes, depth 16", "randwrite", "4k", 16,
         {QSD: 2.5, NBDKIT: 1}),
    # At depth 1 there is no CPU goal against qemu-storage-daemon: even the bare loop takes half of
    # its time, not a third.
    Cell("read-4k-1", "4 KiB random reads, depth 1", "randread", "4k", 1, {QSD: 2, NBDKIT: 1},
         {NBDKIT: 1}),
    Cell("write-4k-1", "4 KiB random writes, depth 1", "randwrite", "4k", 1, {QSD: 2, NBDKIT: 1},
         {NBDKIT: 1}),
    Cell("read-256k", "256 KiB sequential reads, depth 4", "read", "256k", 4,
         {QSD: 2.5, NBDKIT: 1.1}),
    Cell("write-256k", "256 KiB sequential writes, depth 4", "write", "256k", 4, {NBDKIT: 1.1}),
]


def add_rate(results, part, cell, server, load, connections):
    title = cell.title if connections == 1 else f"{cell.title}, {connections} connections"
    value, unit = (load.iops, "IOPS") if cell.small else (load.rate, "MB/s")
    results.add(part, f"{cell.key}-{connections}", server.name, value, title=title, unit=unit,
                goals=cell.goals if connections == 1 else {})
    return value


def add_cpu(results, part, cell, server, cpu):
    results.add(part, f"{cell.key}-cpu", server.name, cpu,
                title=f"{cell.title}: the server's CPU time", unit="µs a request", less=True,
                goals=cell.cpu_goals if cell.small else {})


def warm_up(server):
    """Write the whole disk once, so that the measured load touches nothing for the first time."""
    clients.fio(clients.split(server.uri(), IMAGE, 1), "write", "256k", 4)


@contextlib.contextmanager
def serving(setting, base, kind, disk=None):
    """Start a server of this kind with `disk`, else a new image below `base`. Ours records."""
    with folder(base, kind.name) as place:
        disk = disk or Disk(make_image(f"{place}/image", IMAGE))
        with setting.start(kind, place, {"disk": disk}) as server:
            if server.name in FLEECES:
                server.add_bitmap()
            warm_up(server)
            yield server


def measure_memory(setting, results, part):
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(setting, setting.memory, kind))
                   for kind in setting.kinds]
        for cell in CELLS:
            single = {}
            for n, server in setting.turns(servers, cell.title):
                load, cpu = cell.run(server, 1, setting.seconds)
                single[n, server] = add_rate(results, part, cell, server, load, 1)
                add_cpu(results, part, cell, server, cpu)
            for n, server in setting.turns(servers, f"{cell.title}, {CONNECTIONS} connections"):
                load, _ = cell.run(server, CONNECTIONS, setting.seconds)
                value = add_rate(results, part, cell, server, load, CONNECTIONS)
                results.add(part, f"{cell.key}-fall", server.name, value / single[n, server],
                            title=f"{cell.title}: {CONNECTIONS} connections to one", unit="ratio",
                            goals={QSD: 1, NBDKIT: 1})


def measure_disk(setting, results, part):
    """The same for a file on a real disk, in the page cache, without depth 1, on one connection."""
    cells = [cell for cell in CELLS if cell.depth > 1]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(setting, setting.disk, kind))
                   for kind in setting.kinds]
        for cell in cells:
            for _, server in setting.turns(servers, f"{cell.title}, on disk"):
                load, cpu = cell.run(server, 1, setting.seconds)
                add_rate(results, part, cell, server, load, 1)
                add_cpu(results, part, cell, server, cpu)


def measure_plugin(setting, results, part):
    """nbdkit's plugin `memory` in our server and in nbdkit. The warm-up gives it data to read."""
    disk = Disk(kind="memory", size=IMAGE)
    goals = {"goals": {NBDKIT: 1}, "cpu_goals": {NBDKIT: 1}}
    cells = [dataclasses.replace(cell, **goals) for cell in CELLS if cell.depth > 1]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(setting, setting.memory, kind, disk))
                   for kind in setting.kinds if disk.kind in kind.kinds_of_disk]
        for cell in cells:
            for _, server in setting.turns(servers, f"{cell.title}, nbdkit's memory plugin"):
                load, cpu = cell.run(server, 1, setting.seconds)
                add_rate(results, part, cell, server, load, 1)
                add_cpu(results, part, cell, server, cpu)


def copy_rate(server, connections, write_from=None):
    """MB/s of nbdcopy with 256 KiB requests: out of the disk, or from a file into it."""
    ends = [write_from, server.uri()] if write_from else [server.uri(), "null:"]
    start = time.monotonic()
    fleece.run("nbdcopy", "--request-size=262144", "--requests=4", f"--connections={connections}",
               *ends)
    return TLS_IMAGE / 1e6 / (time.monotonic() - start)


def measure_tls(setting, results, part):
    """TLS with certificates; server and client choose the cipher. The client is nbdcopy, because
    fio cannot be told where certificates are."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(folder(setting.memory, "tls"))
        certificates, source = f"{place}/certificates", make_image(f"{place}/source", TLS_IMAGE)
        fleece.fleecectl("tls", "init", certificates)
        servers = []
        for kind in (kind for kind in setting.kinds if kind.has_tls):
            own = stack.enter_context(folder(setting.memory, kind.name))
            disk = Disk(make_image(f"{own}/image", TLS_IMAGE))
            servers.append(stack.enter_context(
                setting.start(kind, own, {"disk": disk}, tls=certificates)))
            if kind.name in FLEECES:
                servers[-1].add_bitmap()
        for key, title, connections, writes in (
                ("read-1", "256 KiB sequential reads", 1, False),
                ("read-4", f"256 KiB sequential reads, {CONNECTIONS} connections", CONNECTIONS,
                 False),
                ("write-1", "256 KiB sequential writes", 1, True)):
            for _, server in setting.turns(servers, f"{title}, TLS"):
                cpu = server.cpu_seconds()
                rate = copy_rate(server, connections, source if writes else None)
                cpu = (server.cpu_seconds() - cpu) * 1e6 / (TLS_IMAGE / (256 * 1024))
                results.add(part, key, server.name, rate, title=title, unit="MB/s",
                            goals={NBDKIT: 1})
                results.add(part, f"{key}-cpu", server.name, cpu, unit="µs a request",
                            title=f"{title}: the server's CPU time", less=True)
