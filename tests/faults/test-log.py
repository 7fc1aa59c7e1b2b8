#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Errors that come again and again do not fill the log. It has the first ones, and how many others
were left out."""

import errno
import os
import re
import socket

from fleece import SANITIZER, SOON, Server, tmpdir
from grid import Control, Fault, server
from scenario import rawnbd
from tap import main, note, skip, test

BLOCK = 4096
MANY = 1000
FIRST = 10        # so many lines of each kind are logged in each ten seconds
MOST = 5 * FIRST  # lines of one kind in any of these tests, also on a slow machine


class Log:
    """How many lines of a log have `text` in them, and how many such lines were left out."""

    def __init__(self, log, text):
        lines = [line for line in log.splitlines() if text in line]
        counts = [re.search(r"(\d+) more like this were left out: ", line) for line in lines]
        self.lines = sum(not c for c in counts)
        self.left_out = sum(int(c.group(1)) for c in counts if c)


def check(log, text, n):
    """The first of n lines are in the log, and those in the log and those left out add up to n."""
    seen = Log(log, text)
    note(f"{n} times '{text}': {seen.lines} lines, {seen.left_out} left out")
    assert FIRST <= seen.lines <= MOST, f"{seen.lines} lines of {n}"
    assert seen.lines + seen.left_out == n, f"{seen.lines} lines, {seen.left_out} left out, of {n}"


def ground(folder, *args):
    """A control block, and a server with two disks, not started."""
    if SANITIZER == "thread":
        skip("faults are tried without sanitizers, and with ASan")
    control = Control(os.path.join(folder, "control"))
    for disk in "vda", "vdb":
        with open(os.path.join(folder, disk), "wb") as f:
            f.truncate(1 << 20)
        args += ("--disk", disk, "file", os.path.join(folder, disk))
    return control, server(folder, control, *args)


@test
def a_full_disk_does_not_fill_the_log():
    with tmpdir() as folder:
        control, s = ground(folder)
        with s:
            vda, vdb = (rawnbd.Client(s.socket).go(disk) for disk in ("vda", "vdb"))
            control.arm(Fault("write", errno.ENOSPC, 1, forever=True))
            for _ in range(MANY):
                assert vda.do(rawnbd.WRITE, 0, BLOCK, data=bytes(BLOCK)) == rawnbd.ENOSPC
            for _ in range(MANY):  # FUA is done by the plugin, which logs the error itself
                assert vda.do(rawnbd.WRITE, 0, BLOCK, rawnbd.FUA, data=bytes(BLOCK)) == rawnbd.ENOSPC
            assert "disk vdb" not in s.log()
            assert vdb.do(rawnbd.WRITE, 0, BLOCK, data=bytes(BLOCK)) == rawnbd.ENOSPC
            assert "disk vdb" in s.log(), "one disk's errors hide another's"
            control.disarm()
            assert vda.do(rawnbd.WRITE, 0, BLOCK, data=bytes(BLOCK)) == 0
            control.arm(Fault("read", errno.EIO, 1, forever=True))
            assert vda.do(rawnbd.READ, 0, BLOCK) == rawnbd.EIO
            assert "disk vda: read" in s.log(), "failed writes hide a failed read"
        log = s.log()
        check(log, "disk vda: write of", MANY)
        check(log, "disk vda: file: ", MANY)
        control.close()


@test
def the_number_left_out_is_logged_after_a_while():
    """The number is logged though no other error comes and the server does not end."""
    with tmpdir() as folder:
        control, s = ground(folder)
        with s:
            c = rawnbd.Client(s.socket).go("vda")
            control.arm(Fault("write", errno.ENOSPC, 1, forever=True))
            for _ in range(MANY):
                assert c.do(rawnbd.WRITE, 0, BLOCK, data=bytes(BLOCK)) == rawnbd.ENOSPC
            with s.qmp() as q:
                while (seen := Log(s.log(), "disk vda: write")).lines + seen.left_out < MANY:
                    q.cmd("query-version")
            assert seen.left_out > 0
        control.close()


@test
def refused_monitors_do_not_fill_the_log():
    with tmpdir() as folder, Server("memory", "1M", dir=folder) as s:
        monitors = [s.qmp() for _ in range(64)]
        for _ in range(MANY // 5):
            with socket.socket(socket.AF_UNIX) as more:
                more.settimeout(SOON)
                more.connect(s.qmp_path)
                assert more.recv(1) == b""
        for q in monitors:
            q.close()
        s.stop()
        check(s.log(), "there are 64 monitors already", MANY // 5)


main()
