# SPDX-License-Identifier: BSD-3-Clause
"""What the server of a state folder keeps outside of it, in /dev/shm: a file or a folder that ends
with the machine's run, and tells the next server that nothing was lost."""

import contextlib
import glob
import os
import shutil
import sqlite3


def path_of(state):
    """Where it is, or would be. No server uses the state folder."""
    with contextlib.closing(sqlite3.connect(f"file:{state}/catalogue.db?mode=ro", uri=True)) as db:
        (uuid,), = db.execute("SELECT uuid FROM folder").fetchall()
    return f"/dev/shm/nbdfleece-{uuid}"


def forget(path):
    """As when the machine is restarted: the next server counts what it finds as after a power
    loss."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def forget_all(top):
    """Those of all state folders under a folder that is going to be removed."""
    for catalogue in glob.glob(f"{glob.escape(top)}/**/catalogue.db", recursive=True):
        with contextlib.suppress(sqlite3.Error, OSError, ValueError):
            forget(path_of(os.path.dirname(catalogue)))


def allocated(path):
    """The bytes of memory that it takes."""
    files = [os.path.join(folder, f) for folder, _, names in os.walk(path) for f in names]
    return sum(os.stat(f).st_blocks * 512 for f in [path, *files])
