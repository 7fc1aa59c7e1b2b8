# SPDX-License-Identifier: BSD-3-Clause
"""Waiting for what a server does that no monitor and no client is told of."""

import ctypes
import os
import select

from fleece import SOON

IN_MODIFY, IN_CREATE = 2, 256  # inotify(7)
_libc = ctypes.CDLL(None, use_errno=True)


def wait_until(condition, path):
    """Wait until the condition holds. Whatever makes it true changes the file `path`, or the list
    of files in the folder `path`."""
    fd = _libc.inotify_init1(os.O_CLOEXEC)
    assert _libc.inotify_add_watch(fd, path.encode(), IN_MODIFY | IN_CREATE) >= 0, path
    try:
        while not condition():
            assert select.select([fd], [], [], SOON)[0], "the condition did not become true"
            os.read(fd, 65536)
    finally:
        os.close(fd)


def wait_logged(s, text):
    """Wait until `text` is in the log of a Server."""
    wait_until(lambda: text in s.log(), s.path("log"))
