# SPDX-License-Identifier: BSD-3-Clause
"""Checks that the tests of the control socket share."""

import contextlib
import time

from fleece import SOON, QmpError

GENERIC = "GenericError"
IN_USE = "Bitmap '%s' is currently in use by another operation and cannot be used"


def fails(q, desc, command, /, **arguments):
    """The command must fail with GenericError and exactly this text."""
    try:
        result = q.cmd(command, **arguments)
    except QmpError as e:
        assert (e.cls, e.desc) == (GENERIC, desc), f"{command} {arguments}: {e}"
        return
    raise AssertionError(f"{command} {arguments} returned {result}, expected: {desc}")


def once_gone(resize):
    """Call resize(), which shrinks a disk whose last client has just left. The server refuses until
    the thread of that client has closed the disk, which is after the client has seen the end of its
    connection; no event tells it."""
    deadline = time.monotonic() + SOON
    while True:
        try:
            return resize()
        except QmpError as e:
            if "a client is connected" not in e.desc or time.monotonic() > deadline:
                raise


def nodes(q):
    """query-named-block-nodes by name."""
    return {n["node-name"]: n for n in q.cmd("query-named-block-nodes")}


def bitmaps(q, node="vda"):
    """The bitmaps of a node by name."""
    return {b["name"]: b for b in nodes(q)[node].get("dirty-bitmaps", [])}


def everything(q):
    """All that QMP shows of bitmaps, views and exports. Equal results show that nothing changed."""
    state = [q.cmd("query-block"), q.cmd("query-named-block-nodes"), q.cmd("query-views"),
             q.cmd("query-block-exports")]
    for disk in q.cmd("query-block"):
        for b in disk["inserted"].get("dirty-bitmaps", []):
            state.append(q.cmd("x-debug-block-dirty-bitmap-sha256", node=disk["device"],
                               name=b["name"]))
    return state


def alive(s):
    """Another monitor is still served."""
    with contextlib.closing(s.qmp()) as q:
        assert q.cmd("query-status") == {"running": True, "status": "running"}
