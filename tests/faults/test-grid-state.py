#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The standard scenario with a state folder, and its end (README.md)."""

import errno
import functools

from grid import SHORT
import rows
from stateful import BreakRun, ProcessRun, StateEndRun, StateRun
from tap import main, test

row = functools.partial(rows.row, StateRun, most=4)
end_row = functools.partial(rows.row, StateEndRun, most=3)


@test
def nothing_fails():
    for scenario in StateRun, BreakRun, ProcessRun, StateEndRun:
        rows.cell(scenario, None)


@test
def memory():
    row("alloc", errno.ENOMEM)


@test
def memory_for_good():
    row("alloc", errno.ENOMEM, forever=True)


@test
def threads():
    row("thread", errno.EAGAIN)


@test
def threads_for_good():
    row("thread", errno.EAGAIN, forever=True, most=2)


@test
def reading():
    row("read", errno.EIO)


@test
def reading_interrupted():
    row("read", errno.EINTR)


@test
def reading_little():
    row("read", SHORT)


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
    rows.row(BreakRun, "write", errno.EIO, most=4)


@test
def flushing():
    row("flush", errno.EIO, most=6)


@test
def flushing_for_good():
    row("flush", errno.EIO, forever=True)


@test
def flushing_break_guest_write():
    rows.row(BreakRun, "flush", errno.EIO, forever=True, most=4)


@test
def flushing_without_a_journal():
    rows.row(ProcessRun, "flush", errno.EIO, forever=True, most=4)


@test
def allocating_space():
    row("space", errno.ENOSPC)


@test
def allocating_space_for_good():
    row("space", errno.ENOSPC, forever=True)


@test
def allocating_space_not_supported():
    row("space", errno.EOPNOTSUPP, forever=True)


@test
def finding_holes():
    row("map", errno.EIO)


@test
def opening():
    row("open", errno.EMFILE, most=6)


@test
def memory_at_the_end():
    end_row("alloc", errno.ENOMEM)


@test
def reading_at_the_end():
    end_row("read", errno.EIO, forever=True)


@test
def writing_at_the_end():
    end_row("write", errno.EIO)


@test
def writing_full_at_the_end():
    end_row("write", errno.ENOSPC, forever=True)


@test
def flushing_at_the_end():
    end_row("flush", errno.EIO)


@test
def flushing_for_good_at_the_end():
    end_row("flush", errno.EIO, forever=True)


@test
def threads_at_the_end():
    end_row("thread", errno.EAGAIN)


main()
