#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The standard scenario, with TLS for all of its clients (README.md)."""

import ssl

import rows
from scenario import Closed, Run, rawnbd
from tap import main

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


rows.nothing_fails(TlsRun, Tls12Run)
rows.add(TlsRun, "memory", "memory_for_good", "receiving", "receiving_interrupted",
         "receiving_little", "sending", "sending_interrupted", "sending_little", "threads", "reading",
         "writing", most=6)
rows.add(Tls12Run, "receiving_little", "sending_little", most=6, after="_in_tls_1_2")
main()
