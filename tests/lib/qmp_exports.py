# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of exports over the control socket share."""

import contextlib

from qmp_checks import everything, fails

DISKS = ("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "1M")
ADD, DEL = "block-export-add", "block-export-del"


def export(q, id, node, /, **more):
    """Add an export over NBD."""
    return q.cmd(ADD, type="nbd", id=id, **{"node-name": node}, **more)


def export_fails(q, text, id, node, /, **more):
    """That fails with this text and changes nothing."""
    before = everything(q)
    fails(q, text, ADD, type="nbd", id=id, **{"node-name": node}, **more)
    assert everything(q) == before


def connect(uri, contexts=(), setup=None):
    """An NBD handle of libnbd; `setup` prepares it."""
    import nbd
    h = nbd.NBD()
    for context in contexts:
        h.add_meta_context(context)
    if setup:
        setup(h)
    h.connect_uri(uri)
    return h


@contextlib.contextmanager
def closing(h):
    """An NBD handle that is shut down at the end."""
    yield h
    h.shutdown()
