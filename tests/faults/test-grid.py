#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The n-th call of a kind fails, for every n of a standard scenario (README.md)."""

import errno
import functools

from grid import SHORT
import rows
from scenario import Run
from tap import main, test

row = functools.partial(rows.row, Run)


@test
def nothing_fails():
    rows.cell(Run, None)


@test
def memory():
    row("alloc", errno.ENOMEM)


@test
def memory_for_good():
    row("alloc", errno.ENOMEM, forever=True, most=6)


@test
def receiving():
    row("recv", errno.ECONNRESET)


@test
def receiving_interrupted():
    row("recv", errno.EINTR)


@test
def receiving_little():
    row("recv", SHORT)


@test
def sending():
    row("send", errno.EPIPE)


@test
def sending_interrupted():
    row("send", errno.EINTR)


@test
def sending_little():
    row("send", SHORT)


@test
def accepting():
    row("accept", errno.ECONNABORTED)


@test
def accepting_without_descriptors():
    row("accept", errno.EMFILE)


@test
def accepting_without_memory():
    row("accept", errno.ENOMEM)


@test
def threads():
    row("thread", errno.EAGAIN)


@test
def threads_for_good():
    row("thread", errno.EAGAIN, forever=True, most=4)


@test
def reading():
    row("read", errno.EIO)


@test
def reading_for_good():
    row("read", errno.EIO, forever=True)


@test
def reading_interrupted():
    row("read", errno.EINTR)


@test
def reading_little():
    row("read", SHORT)


@test
def reading_break_guest_write():
    row("read", errno.EIO, policy="break-guest-write")


@test
def writing():
    row("write", errno.EIO)


@test
def writing_full():
    row("write", errno.ENOSPC, forever=True)


@test
def writing_interrupted():
    row("write", errno.EINTR)


@test
def writing_little():
    row("write", SHORT)


@test
def writing_break_guest_write():
    row("write", errno.ENOSPC, forever=True, policy="break-guest-write")


@test
def flushing():
    row("flush", errno.EIO)


@test
def flushing_for_good():
    row("flush", errno.EIO, forever=True)


@test
def allocating_space():
    row("space", errno.ENOSPC)


@test
def allocating_space_for_good():
    row("space", errno.ENOSPC, forever=True)


@test
def allocating_space_break_guest_write():
    row("space", errno.ENOSPC, forever=True, policy="break-guest-write")


@test
def allocating_space_not_supported():
    row("space", errno.EOPNOTSUPP, forever=True)


@test
def finding_holes():
    row("map", errno.EIO)


@test
def opening():
    row("open", errno.EMFILE)


main()
