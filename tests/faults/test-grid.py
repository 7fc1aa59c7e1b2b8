#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The n-th call of a kind fails, for every n of a standard scenario: see README.md. By default only
some n of each row, all of them with FLEECE_LONG=1. `FAULT_TRACE=1` tells what failed."""

import errno
import os
import shutil
import traceback

from fleece import SANITIZER, SOON, tmpdir
from grid import Fault, SHORT
from scenario import Run
import tap
from tap import main, note, skip, test

LONG = bool(os.environ.get("FLEECE_LONG"))
TRACE = bool(os.environ.get("FAULT_TRACE"))
SHORT_ROW = 12  # n of each row in a default run


def play(folder, fault, policy):
    """One cell of the grid: (calls of the scenario, how many failed)."""
    run = Run(folder, fault, policy)
    try:
        if not run.start():
            log = run.server.log()
            assert "error: " in log, f"it did not start and does not say why: {log!r}"
            return run.control.calls(), run.control.fired()
        with run.server:
            run.play()
            result = run.verify()
            if TRACE and fault:
                note(f"{fault}: {run.control.what()}: {run.nbd_errors} {run.closed} "
                     f"{run.qmp_errors} {run.server.log()!r}")
            run.finish()
            return result
    except BaseException:
        note(f"{fault}, {policy}: {run.control.what()}\n{run.nbd_errors} {run.qmp_errors} "
             f"{run.closed}")
        raise
    finally:
        run.control.close()


def cell(fault, policy="break-snapshot"):
    with tmpdir() as folder:
        return play(folder, fault, policy)


def chosen(calls, most):
    """Which n to try of so many."""
    if LONG or calls <= most:
        return list(range(1, calls + 1))
    return sorted({1 + i * (calls - 1) // (most - 1) for i in range(most)})


def row(kind, error, forever=False, policy="break-snapshot", most=SHORT_ROW):
    if SANITIZER == "thread":
        skip("faults are tried without sanitizers, and with ASan")
    calls = cell(None, policy)[0][kind]
    assert calls > 0, f"the scenario makes no call of kind {kind} that could fail"
    done = failed = fired = 0
    for n in chosen(calls, most):
        try:
            fired += cell(Fault(kind, error, n, forever), policy)[1] > 0
        except (AssertionError, EOFError, OSError) as e:
            failed += 1
            note("".join(traceback.format_exception(e)))
        done += 1
    note(f"{kind} {errno.errorcode.get(error, 'short')}{' for good' if forever else ''}, {policy}: "
         f"{calls} calls, {done} tried, {fired} came to it, {failed} wrong")
    assert failed == 0 and fired > 0


@test
def nothing_fails():
    cell(None)


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
