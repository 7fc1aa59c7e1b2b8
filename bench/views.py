# SPDX-License-Identifier: BSD-3-Clause
"""What fleecing costs the guest. It writes right after a view was made: each write is the first one
to its block, so old data has to be copied before. This is measured alone, and while a client
pulls."""

import contextlib
import fractions

import clients
from figures import QSD
from rig import MIB
from rivals import Disk
from setting import folder, make_image

IMAGE = 1024 * MIB
# {which part of the disk is written: how often in a round}. The smaller part takes little time, so
# it is written more often.
FRACTIONS = {fractions.Fraction(1, 64): 4, fractions.Fraction(1, 4): 1}
PULLED_IMAGE = 512 * MIB
PULLED_FRACTION = fractions.Fraction(1, 4)


def overwrite(server, size, fraction, seed):
    """Write random blocks of 4 KiB, none twice, in all a part of the disk. Each seed gives other
    blocks."""
    return clients.fio([(server.uri(), 0, size)], "randwrite", "4k", 16, f"--randseed={seed}",
                       f"--io_size={int(size * fraction)}")


@contextlib.contextmanager
def fresh(setting, kind, disks, view):
    """Start a server with a bitmap that records, and with a view of `disk` or none."""
    with folder(setting.memory, "fresh") as place, \
            setting.start(kind, place, disks, view=view) as server:
        server.add_bitmap()
        yield server


@contextlib.contextmanager
def images(setting, names, size):
    """{kind: {name: Disk}} for all servers that have views."""
    with contextlib.ExitStack() as stack:
        made = {}
        for kind in setting.kinds:
            if kind.views:
                place = stack.enter_context(folder(setting.memory, kind.name))
                made[kind] = {n: Disk(make_image(f"{place}/{n}", size)) for n in names}
        yield made


def measure_fresh(setting, results, part):
    with images(setting, ["disk"], IMAGE) as disks:
        for fraction, times in FRACTIONS.items():
            what = str(fraction)
            arms = [(kind, view) for kind in disks for view in (False, True)]
            got = {}
            for n, (kind, view) in setting.turns(arms, f"writes under a fresh view, {fraction}"):
                loads = []
                for i in range(times):
                    with fresh(setting, kind, disks[kind], view) as server:
                        loads.append(overwrite(server, IMAGE, fraction, n * times + i + 1))
                        scratch = server.scratch_bytes() if view else None
                load = got[n, kind, view] = clients.together(loads)
                add_fresh(results, part, kind.name, view, what, load)
                if scratch:
                    add_scratch(results, part, kind.name, what, loads[-1], *scratch)
                if (other := got.get((n, kind, not view))):
                    pair = (load, other) if view else (other, load)
                    add_cost(results, part, kind.name, what, *pair)


def add_fresh(results, part, name, view, what, load):
    which = "under a fresh view" if view else "without a view"
    results.add(part, f"iops-{view}-{what}", name, load.iops,
                title=f"4 KiB random writes {which} ({what})", unit="IOPS",
                goals={QSD: 5} if view else {})
    results.add(part, f"p99-{view}-{what}", name, load.p99, less=True,
                title=f"99 % of these writes are done in ({what})", unit="µs")


def add_scratch(results, part, name, what, load, kept, allocated):
    results.add(part, f"scratch-{what}", name, allocated / load.bytes, less=True, limit=1.1,
                title=f"scratch on disk for a byte overwritten ({what})", unit="bytes")
    results.add(part, f"kept-{what}", name, kept / load.bytes, less=True,
                title=f"scratch as the server counts it ({what})", unit="bytes")


def add_cost(results, part, name, what, under, without):
    results.add(part, f"share-{what}", name, under.iops / without.iops, limit=0.5,
                title=f"rate: under a fresh view to without ({what})", unit="ratio")
    results.add(part, f"p99-ratio-{what}", name, under.p99 / without.p99, less=True, limit=3,
                title=f"99 % done in: under a fresh view to without ({what})", unit="ratio")


# Whether the guest has a fresh view, and what a client reads meanwhile.
PULLS = [("pulled", "fresh view, a client pulls it", True, "view"),
         ("idle", "fresh view, a client reads an idle disk", True, "idle"),
         ("plain", "no view, a client reads an idle disk", False, "idle")]


def measure_pull(setting, results, part):
    with images(setting, ["disk", "idle"], PULLED_IMAGE) as disks:
        arms = [(kind, *pull) for kind in disks for pull in PULLS]
        got = {}
        for n, (kind, key, which, view, read) in setting.turns(arms, "writes and a client's pull"):
            with fresh(setting, kind, disks[kind], view) as server:
                with clients.Puller(server.uri(read)) as puller:
                    load = overwrite(server, PULLED_IMAGE, PULLED_FRACTION, n + 1)
            got[n, kind, key] = load.iops
            results.add(part, f"iops-{key}", kind.name, load.iops, unit="IOPS",
                        title=f"4 KiB random writes; {which}")
            results.add(part, f"read-{key}", kind.name,
                        puller.copies * PULLED_IMAGE / 1e6 / puller.seconds, unit="MB/s",
                        title="what this client reads meanwhile")
        for n in range(setting.rounds):
            for kind in disks:
                rates = [got[n, kind, key] for key, *_ in PULLS]
                results.add(part, "pull-share", kind.name, rates[0] / rates[1], limit=0.7,
                            title="writes: view pulled to idle disk read, both fresh view",
                            unit="ratio")
                results.add(part, "pull-share-plain", kind.name, rates[0] / rates[2],
                            title="writes: fresh view pulled to idle disk read, no view",
                            unit="ratio")
