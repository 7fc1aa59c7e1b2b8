# SPDX-License-Identifier: BSD-3-Clause
"""The cost of recording: writes to a disk while 0, 1, 8 or 32 bitmaps record them."""

import contextlib

from loads import IMAGE, Cell, warm_up
from rivals import Disk
from setting import folder, make_image

COUNTS = [0, 1, 8, 32]
CELL = Cell("write", "4 KiB random writes, depth 16", "randwrite", "4k", 16, {})


def measure(setting, results, part):
    with contextlib.ExitStack() as stack:
        servers = []
        for kind in setting.kinds:
            if kind.bitmaps:
                place = stack.enter_context(folder(setting.memory, kind.name))
                disk = Disk(make_image(f"{place}/image", IMAGE))
                server = stack.enter_context(setting.start(kind, place, {"disk": disk}))
                for i in range(max(COUNTS)):
                    server.add_bitmap(name=f"b{i}")
                warm_up(server)
                servers.append(server)
        arms = [(server, count) for count in COUNTS for server in servers]
        got = {}
        for n, (server, count) in setting.turns(arms, "bitmaps that record"):
            for i in range(max(COUNTS)):
                server.record(f"b{i}", i < count)
            load, cpu = CELL.run(server, 1, setting.seconds)
            got[n, server, count] = load.iops, cpu
        report(setting, results, part, servers, got)


def report(setting, results, part, servers, got):
    for count in COUNTS:
        for n in range(setting.rounds):
            for server in servers:
                iops, cpu = got[n, server, count]
                results.add(part, f"iops-{count}", server.name, iops, unit="IOPS",
                            title=f"{CELL.title}, recorded by {count} bitmaps")
                results.add(part, f"cpu-{count}", server.name, cpu, less=True,
                            title=f"recorded by {count}: the server's CPU time",
                            unit="µs a request")
    for n in range(setting.rounds):
        for server in servers:
            (none, none_cpu), (all_, all_cpu) = (got[n, server, c] for c in (0, max(COUNTS)))
            results.add(part, "share", server.name, all_ / none, limit=0.9, unit="ratio",
                        title=f"rate with {max(COUNTS)} bitmaps to that with none")
            results.add(part, "cpu-share", server.name, all_cpu / none_cpu, less=True,
                        limit=1.1, title=f"CPU time with {max(COUNTS)} bitmaps to that with none",
                        unit="ratio")
