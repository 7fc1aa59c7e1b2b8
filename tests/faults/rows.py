# SPDX-License-Identifier: BSD-3-Clause
"""Rows of the grid. A row is a kind of call and a way to fail, for every n of a scenario, which is
a class derived from scenario.Run. A default run takes some n of each row; FLEECE_LONG=1 takes all
of them. FAULT_TRACE=1 prints what failed."""

import errno
import os
import traceback

from fleece import SANITIZER, tmpdir
from grid import Fault, SHORT
from tap import note, skip, test

LONG = bool(os.environ.get("FLEECE_LONG"))
TRACE = bool(os.environ.get("FAULT_TRACE"))
SHORT_ROW = 12 if SANITIZER == "no" else 6  # n of each row in a default run

# The rows by name: the kind of call, how it fails, and whether all later ones do so too.
ROWS = {
    "memory": ("alloc", errno.ENOMEM),
    "memory_for_good": ("alloc", errno.ENOMEM, True),
    "receiving": ("recv", errno.ECONNRESET),
    "receiving_for_good": ("recv", errno.ECONNRESET, True),
    "receiving_interrupted": ("recv", errno.EINTR),
    "receiving_little": ("recv", SHORT),
    "sending": ("send", errno.EPIPE),
    "sending_for_good": ("send", errno.EPIPE, True),
    "sending_interrupted": ("send", errno.EINTR),
    "sending_little": ("send", SHORT),
    "accepting": ("accept", errno.ECONNABORTED),
    "accepting_without_descriptors": ("accept", errno.EMFILE),
    "accepting_without_memory": ("accept", errno.ENOMEM),
    "threads": ("thread", errno.EAGAIN),
    "threads_for_good": ("thread", errno.EAGAIN, True),
    "reading": ("read", errno.EIO),
    "reading_for_good": ("read", errno.EIO, True),
    "reading_interrupted": ("read", errno.EINTR),
    "reading_little": ("read", SHORT),
    "writing": ("write", errno.EIO),
    "writing_full": ("write", errno.ENOSPC, True),
    "writing_interrupted": ("write", errno.EINTR),
    "writing_little": ("write", SHORT),
    "flushing": ("flush", errno.EIO),
    "flushing_for_good": ("flush", errno.EIO, True),
    "allocating_space": ("space", errno.ENOSPC),
    "allocating_space_for_good": ("space", errno.ENOSPC, True),
    "allocating_space_not_supported": ("space", errno.EOPNOTSUPP, True),
    "finding_holes": ("map", errno.EIO),
    "opening": ("open", errno.EMFILE),
}


def play(scenario, folder, fault, policy):
    """Run one cell of the grid: (calls of the scenario, how many of them failed)."""
    run = scenario(folder, fault, policy)
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


def cell(scenario, fault, policy="break-snapshot"):
    with tmpdir() as folder:
        return play(scenario, folder, fault, policy)


def chosen(calls, most):
    """Which n to try, if there are so many calls and at most `most` are to be tried."""
    if LONG or calls <= most:
        return list(range(1, calls + 1))
    return sorted({1 + i * (calls - 1) // (most - 1) for i in range(most)})


def nothing_fails(*scenarios):
    """Add a test that plays them without a fault."""
    def nothing_fails():
        for scenario in scenarios:
            cell(scenario, None)

    test(nothing_fails)


def add(scenario, *names, after="", **how):
    """Add a test for each of these rows. `after` follows the row's name in the test's; `how` is what
    row() takes."""
    for name in names:
        def play_row(what=ROWS[name]):
            row(scenario, *what, **how)

        play_row.__name__ = name + after
        test(play_row)


def row(scenario, kind, error, forever=False, policy="break-snapshot", most=SHORT_ROW):
    if SANITIZER == "thread":
        skip("faults are tried without sanitizers, and with ASan")
    calls = cell(scenario, None, policy)[0][kind]
    assert calls > 0, f"the scenario makes no call of kind {kind} that could fail"
    done = failed = fired = 0
    for n in chosen(calls, most):
        try:
            fired += cell(scenario, Fault(kind, error, n, forever), policy)[1] > 0
        except (AssertionError, EOFError, OSError) as e:
            failed += 1
            note("".join(traceback.format_exception(e)))
        done += 1
    note(f"{kind} {errno.errorcode.get(error, 'short')}{' for good' if forever else ''}, {policy}: "
         f"{calls} calls, {done} tried, {fired} came to it, {failed} wrong")
    assert failed == 0 and fired > 0
