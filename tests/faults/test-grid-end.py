#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Calls fail while the server ends by SIGTERM, with requests of all clients and a command under way
(README.md)."""

import errno
import functools

from ending import EndRun
from grid import SHORT
import rows
from tap import main, test


row = functools.partial(rows.row, EndRun, most=6)


@test
def nothing_fails():
    rows.cell(EndRun, None)


@test
def memory():
    row("alloc", errno.ENOMEM)


@test
def memory_for_good():
    row("alloc", errno.ENOMEM, forever=True)


@test
def receiving():
    row("recv", errno.ECONNRESET)


@test
def receiving_for_good():
    row("recv", errno.ECONNRESET, forever=True)


@test
def sending():
    row("send", errno.EPIPE)


@test
def sending_for_good():
    row("send", errno.EPIPE, forever=True)


@test
def sending_little():
    row("send", SHORT)


@test
def threads():
    row("thread", errno.EAGAIN)


@test
def reading():
    row("read", errno.EIO, forever=True)


@test
def writing():
    row("write", errno.EIO)


@test
def writing_full():
    row("write", errno.ENOSPC, forever=True)


@test
def writing_full_break_guest_write():
    row("write", errno.ENOSPC, forever=True, policy="break-guest-write")


@test
def flushing():
    row("flush", errno.EIO, forever=True)


@test
def allocating_space():
    row("space", errno.ENOSPC, forever=True)


@test
def finding_holes():
    row("map", errno.EIO)


main()
