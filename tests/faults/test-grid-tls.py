#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The standard scenario, with TLS for all of its clients (README.md)."""

import errno
import functools
import ssl

from grid import SHORT
import rows
from scenario import Closed, Run, rawnbd
from tap import main, test

import tlslib


class TlsRun(Run):
    """With `--tls=require` and certificates. `version` is that of TLS; None: the newest."""

    version = None

    def options(self):
        return "--tls=require", "--tls-certificates", tlslib.certs(), "--tls-verify-peer"

    def connect(self):
        c = super().connect()
        final, _ = c.option(rawnbd.OPT_STARTTLS)
        if final != rawnbd.REP_ACK:
            assert self.may_fail, f"STARTTLS: {final:#x} {c.message}"
            c.close()
            raise Closed("refused to begin TLS")
        c.socket = tlslib.context(tlslib.certs(), self.version).wrap_socket(c.socket)
        return c


class Tls12Run(TlsRun):
    version = ssl.TLSVersion.TLSv1_2


row = functools.partial(rows.row, TlsRun, most=6)


@test
def nothing_fails():
    rows.cell(TlsRun, None)
    rows.cell(Tls12Run, None)


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
def receiving_little_in_tls_1_2():
    rows.row(Tls12Run, "recv", SHORT, most=6)


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
def sending_little_in_tls_1_2():
    rows.row(Tls12Run, "send", SHORT, most=6)


@test
def threads():
    row("thread", errno.EAGAIN)


@test
def reading():
    row("read", errno.EIO)


@test
def writing():
    row("write", errno.EIO)


main()
