# SPDX-License-Identifier: BSD-3-Clause
"""The map of a large disk: how long `nbdinfo --map` takes for a bitmap with very many runs.

The disk is nbdkit's plugin `null`, or QEMU's node null-co, which accept writes and drop them. So a
bitmap of 8 TiB is filled within seconds, and no data slows the map down."""

import contextlib
import os
import subprocess
import time

import clients
import fleece
from figures import QSD
from rig import MIB, dirty_context
from rivals import Disk
from setting import folder, progress

SIZE = 8 << 40
RUNS = 200_000
BLOCK = 4096
MAPS = 5  # in each round, since one takes a tenth of a second
STRIDE = SIZE // RUNS // MIB * MIB  # whole blocks of the bitmap are free between two runs


def dirty(server):
    """Write RUNS blocks, each far from the others."""
    clients.fio([(server.uri(), 0, RUNS * STRIDE)], f"write:{STRIDE - BLOCK}", str(BLOCK), 64,
                f"--io_size={RUNS * BLOCK}")


def check(server, uri):
    """Check that the map has the runs that were written."""
    result = fleece.run("nbdinfo", f"--map={dirty_context('bitmap')}", uri)
    runs = sum(line.split()[2] == "1" for line in result.stdout.splitlines())
    if runs != RUNS:
        raise RuntimeError(f"{server.name}: {runs} dirty runs, {RUNS} expected")


def nbdinfo_map(uri):
    """The seconds that the whole map takes: the mean of MAPS times."""
    with open(os.devnull, "wb") as null:
        start = time.monotonic()
        for _ in range(MAPS):
            subprocess.run(["nbdinfo", f"--map={dirty_context('bitmap')}", uri], stdout=null,
                           check=True, preexec_fn=fleece.die_with_parent)
        return (time.monotonic() - start) / MAPS


def measure(setting, results, part):
    with contextlib.ExitStack() as stack:
        servers, uris = [], {}
        for kind in setting.kinds:
            if kind.bitmaps:
                place = stack.enter_context(folder(setting.memory, kind.name))
                server = stack.enter_context(
                    setting.start(kind, place, {"disk": Disk(kind="null", size=SIZE)}))
                server.add_bitmap()
                progress(f"{RUNS} dirty runs in {server.name}")
                dirty(server)
                uris[server] = server.map_uri()
                check(server, uris[server])
                servers.append(server)
        what = f"map of 8 TiB with {RUNS:,} dirty runs"
        for _, server in setting.turns(servers, what):
            cpu = server.cpu_seconds()
            results.add(part, "map", server.name, nbdinfo_map(uris[server]), less=True,
                        goals={QSD: 1}, title=f"nbdinfo: {what}", unit="s")
            results.add(part, "map-cpu", server.name, (server.cpu_seconds() - cpu) / MAPS,
                        less=True, title="the server's CPU time for it", unit="s")
