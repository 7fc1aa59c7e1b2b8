# SPDX-License-Identifier: BSD-3-Clause
"""What tests of checkpoints and backup sessions share.

    with memory("vda") as s:
        q = s.qmp()
        disks = begin(q, "b1", checkpoint="c1")
        write(s, "vda", 3)
        with reader(disks["vda"]) as h:
            h.pread(512, 0)
        commit(q, "b1")
"""

import contextlib
import time

from fleece import SOON, Server
from qmp_checks import everything
from qmp_exports import closing, connect
from rig import KIB, dirty_context, dirty_extents, granules

GRANULE = 64 * KIB


def memory(*names, size="4M", options=()):
    """A server with these disks, all in memory."""
    disks = (word for name in names for word in ("--disk", name, "memory", size))
    return Server(*disks, *options)


def write(s, disk, *granules, byte=b"x", length=512):
    """Write the beginning of granules, as a guest."""
    with closing(s.nbd(disk)) as h:
        for granule in granules:
            h.pwrite(byte * length, granule * GRANULE)


# ---- sessions ----


def begin(q, id, *, limit=None, **more):
    """Begin a session: {disk: what is answered of it}."""
    if limit is not None:
        more["scratch-limit"] = limit
    return {d["disk"]: d for d in q.cmd("backup-begin", id=id, **more)}


def commit(q, id):
    q.cmd("backup-end", id=id, result="commit")


def abort(q, id):
    q.cmd("backup-end", id=id, result="abort")


def session(q, id):
    found = [s for s in q.cmd("query-backups") if s["id"] == id]
    assert len(found) == 1, (id, q.cmd("query-backups"))
    return found[0]


def ended(q, id):
    """Wait for the end of a session: its result and reason."""
    while True:
        event = q.wait_event("BACKUP_ENDED")["data"]
        if event["id"] == id:
            return event["result"], event.get("reason")


@contextlib.contextmanager
def reader(disk):
    """A client of what backup-begin or query-backups told of a disk."""
    with closing(connect(disk["uri"], [disk["context"], "base:allocation"])) as h:
        yield h


def dirty(disk):
    """The granules that are dirty, as a client of the session sees it."""
    with reader(disk) as h:
        found = granules(dirty_extents(h, disk["context"].removeprefix(dirty_context(""))))
    assert disk["dirty-bytes"] == len(found) * GRANULE, disk
    return found


# ---- what is there ----


def all_state(q):
    """Equal results show that nothing has changed."""
    return everything(q) + [q.cmd("query-checkpoints"), q.cmd("query-backups")]


def checkpoints(q):
    """Their names."""
    return [c["name"] for c in q.cmd("query-checkpoints")]


def wait_clients_gone(q):
    """The server hears a moment later than the client's end that it has gone."""
    deadline = time.monotonic() + SOON
    while any(d["clients"] for s in q.cmd("query-backups") for d in s["disks"]):
        assert time.monotonic() < deadline, "clients that have gone are still counted"


def wait_down(q):
    """After the event of a session's end, its views are deleted. No event tells of that."""
    deadline = time.monotonic() + SOON
    while q.cmd("query-views") or q.cmd("query-block-exports"):
        assert time.monotonic() < deadline


def nothing_left(q):
    """No session has left a view, an export or a busy bitmap."""
    assert q.cmd("query-views") == [] and q.cmd("query-block-exports") == []
    for disk in q.cmd("query-block"):
        for b in disk["inserted"].get("dirty-bitmaps", []):
            assert not b["busy"], b
