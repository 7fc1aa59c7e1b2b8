#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""STARTTLS as the NBD protocol has it (lines T1 to T5 of tests/conformance/README.md), and hostile
clients that want to get around it (lines 13 to 17 of tests/hostile/README.md). After each of them a
well-behaved client is served, and no descriptor is left."""

import contextlib
import socket
import ssl
import struct
import time

from tap import main, test
from tlslib import (DISK, TlsClient, bad_clients, certs, context, open_files, revoke, tls_server)
from fleece import Server

from rawnbd import *  # noqa: F401,F403

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
# Seconds in which the server ends a handshake that may take one second, or itself, which may take
# two. The rest is for a busy machine.
IN_TIME = SOON / 2


def works(s, tls=None):
    with TlsClient(s.socket, tls or context(certs())) as c:
        c.structured()
        c.go("disk0")
        c.write(0, b"x" * 4096)
        assert c.read(0, 4096) == b"x" * 4096
        c.request(DISC)
        c.expect_end()


@contextlib.contextmanager
def serve(*args):
    """A server. At the end it still works, and has as many files open as at the beginning."""
    with tls_server(certs(), *args) as s:
        works(s)
        # A connection's thread may end a moment after its client has seen the end.
        before = settled_files(s)
        yield s
        works(s)
        assert settled_files(s, before) <= before


def settled_files(s, at_most=None):
    """Wait until the number of its open files does not change any more or, with `at_most`, is small
    enough. Returns the number."""
    deadline = time.monotonic() + SOON
    n = open_files(s)
    while time.monotonic() < deadline:
        with Client(s.socket) as c:  # a round trip gives the server time
            c.option(OPT_ABORT)
            c.expect_end()
        last, n = n, open_files(s)
        if n <= at_most if at_most is not None else n == last:
            break
    return n


def refused(s, tls):
    """The client's handshake fails, or else the first option behind it."""
    with Client(s.socket) as c:
        assert c.option(OPT_STARTTLS)[0] == REP_ACK
        try:
            c.socket = tls.wrap_socket(c.socket)
            # In TLS 1.3 a client's handshake is done before the server has checked its certificate.
            c.option(OPT_LIST)
        except (ssl.SSLError, Closed, OSError):
            return
        raise AssertionError("the client was let in")


def logged(s, *words):
    """Wait for a line of the log that has all these words and names the client, which is a process
    here. It may come a moment after the client has seen the end."""
    deadline = time.monotonic() + SOON
    while True:
        lines = [line for line in s.log().splitlines() if "NBD client process " in line]
        if any(all(w in line for w in words) for line in lines):
            return
        assert time.monotonic() < deadline, (words, lines)
        with Client(s.socket) as c:  # a round trip gives the server time
            c.option(OPT_ABORT)


# ---- T1 to T5 ----


@test
def T1_without_TLS_it_is_unsupported_and_never_required():
    for args in (), ("--tls=off", "--tls-certificates", certs()):
        with Server(*args, *DISK) as s, Client(s.socket) as c:
            for data in b"", b"x":
                assert c.option(OPT_STARTTLS, data)[0] in (ERR_UNSUP, ERR_POLICY)
            assert c.info("nonsense") == ERR_UNKNOWN
            c.go("disk0")


@test
def T2_require_answers_TLS_REQD_to_all_but_STARTTLS_and_ABORT():
    with serve("--tls=require") as s:
        with Client(s.socket) as c:
            for option in (2, 3, 4, 6, 7, 8, 9, 10, 11, 99, 0xFFFFFFFF):
                if option in (OPT_ABORT, OPT_STARTTLS):
                    continue
                for data in b"", b"x" * 1000, bytes(65536):
                    assert c.option(option, data) == (ERR_TLS_REQD, []), option
            assert c.info("disk0") == ERR_TLS_REQD
            assert c.option(OPT_STARTTLS) == (REP_ACK, [])
            c.socket = context(certs()).wrap_socket(c.socket)
            c.go("disk0")
        with Client(s.socket) as c:
            assert c.option(OPT_ABORT)[0] == REP_ACK
            c.expect_end()
        with Client(s.socket) as c:
            c.send_option(OPT_EXPORT_NAME, b"disk0")
            c.expect_end()


@test
def T3_on_serves_plain_text_too():
    with serve("--tls=on") as s, Client(s.socket) as c:
        assert [name for name, _ in c.list()] == ["disk0"]
        c.structured()
        assert c.info("nonsense") in (ERR_UNKNOWN, ERR_TLS_REQD)
        c.go("disk0")
        c.in_step()


@test
def T4_malformed_and_second_STARTTLS_are_INVALID():
    for tls in TLS12, TLS13:
        with serve("--tls=require") as s:
            with Client(s.socket) as c:
                assert c.option(OPT_STARTTLS, b"x")[0] == ERR_INVALID
                assert c.option(OPT_STARTTLS, bytes(65536))[0] == ERR_INVALID
            with TlsClient(s.socket, context(certs(), tls)) as c:
                assert c.option(OPT_STARTTLS)[0] == ERR_INVALID
                assert c.option(OPT_STARTTLS, b"x")[0] == ERR_INVALID
                assert c.info("nonsense") == ERR_UNKNOWN  # TLS_REQD is never sent in TLS
                c.go("disk0")
                c.in_step()


@test
def T5_what_was_agreed_in_plain_text_is_forgotten():
    with serve("--tls=on") as s, Client(s.socket) as c:
        c.structured()
        c.set_contexts("disk0", "base:allocation")
        assert c.option(OPT_STARTTLS)[0] == REP_ACK
        c.socket = context(certs()).wrap_socket(c.socket)
        c.is_structured, c.contexts = False, {}
        assert c.meta(OPT_SET_META, "disk0", "base:allocation")[0] == ERR_INVALID
        c.go("disk0")
        assert not c.eflags & SEND_DF
        assert c.do(BLOCK_STATUS, 0, 4096) == EINVAL
        assert len(c.read(0, 4096)) == 4096  # a simple reply


@test
def T5_contexts_are_forgotten_also_where_structured_replies_come_again():
    with serve("--tls=on") as s, Client(s.socket) as c:
        c.structured()
        c.set_contexts("disk0", "base:allocation")
        assert c.option(OPT_STARTTLS)[0] == REP_ACK
        c.socket = context(certs()).wrap_socket(c.socket)
        c.structured()
        c.contexts = {}
        c.go("disk0")
        assert c.do(BLOCK_STATUS, 0, 4096) == EINVAL


@test
def options_may_be_pipelined_inside_TLS():
    with serve("--tls=require") as s, TlsClient(s.socket, context(certs())) as c:
        c.send(b"".join(struct.pack(">QII", OPTION_MAGIC, option, 0)
                        for option in (OPT_STRUCTURED_REPLY, OPT_LIST, OPT_LIST)))
        assert c.option_reply(OPT_STRUCTURED_REPLY) == (REP_ACK, b"")
        for _ in range(2):
            assert c.option_reply(OPT_LIST)[0] == REP_SERVER
            assert c.option_reply(OPT_LIST) == (REP_ACK, b"")
        c.is_structured = True
        c.go("disk0")
        c.in_step()


@test
def EXPORT_NAME_works_inside_TLS():
    with serve("--tls=require") as s:
        with TlsClient(s.socket, context(certs())) as c:
            c.export_name("disk0")
            c.in_step()
        with TlsClient(s.socket, context(certs()), flags=FIXED_NEWSTYLE) as c:
            c.export_name("disk0", zeroes=True)  # the handshake flags are not forgotten
            c.in_step()


@test
def DISC_is_answered_by_a_close_notify():
    for version in TLS12, TLS13:
        tls = context(certs(), version)
        # Without this, Python lets OpenSSL 3 ignore that a close_notify is missing.
        tls.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        with serve("--tls=require") as s, TlsClient(s.socket, tls) as c:
            c.go("disk0")
            cookie = c.request(READ, 0, 1 << 20)
            c.request(DISC)
            assert c.replies(cookie)[-1].error == 0
            # An end without a close_notify raises SSLEOFError here.
            c.socket.suppress_ragged_eofs = False
            assert c.socket.recv(1) == b""


# ---- clients that mean harm ----


@test
def plain_text_behind_STARTTLS_ends_the_connection():
    """CVE-2021-3716: somebody in between may have put it there, so it must not count inside TLS."""
    starttls = struct.pack(">QII", OPTION_MAGIC, OPT_STARTTLS, 0)
    injected = struct.pack(">QII", OPTION_MAGIC, OPT_STRUCTURED_REPLY, 0)
    for mode in "on", "require":
        for behind in injected, b"\x16", b"\x16\x03\x01" + bytes(200):
            with serve(f"--tls={mode}") as s:
                with Client(s.socket) as c:
                    c.send(starttls + behind)  # at once, so that the server receives both together
                    c.expect_end()
                logged(s, "plain text behind NBD_OPT_STARTTLS")


@test
def plain_text_instead_of_a_handshake_is_refused():
    for garbage in (b"GET / HTTP/1.0\r\n\r\n", bytes(64), b"\xff" * 5000,
                    struct.pack(">QII", OPTION_MAGIC, OPT_LIST, 0)):
        with serve("--tls=on") as s:
            with Client(s.socket) as c:
                assert c.option(OPT_STARTTLS)[0] == REP_ACK
                c.send(garbage)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    while data := c.socket.recv(4096):
                        assert data[0] == 21, data  # a TLS alert and nothing else
            logged(s, "TLS: ")


@test
def a_client_that_hangs_up_in_the_handshake_leaves_nothing():
    with serve("--tls=require") as s:
        for n in range(0, 200, 7):
            tls = context(certs())
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            hello = tls.wrap_bio(incoming, outgoing)
            with contextlib.suppress(ssl.SSLWantReadError):
                hello.do_handshake()
            with Client(s.socket) as c:
                assert c.option(OPT_STARTTLS)[0] == REP_ACK
                c.send(outgoing.read()[:n])


@test
def versions_before_1_2_are_refused():
    for version in ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1:
        with serve("--tls=require") as s:
            refused(s, context(certs(), version))
            logged(s, "TLS: ", "version")


@test
def no_certificate_is_refused_where_one_is_asked_for():
    for version in TLS12, TLS13:
        with tls_server(certs(), "--tls=require", "--tls-verify-peer") as s:
            refused(s, context(None, version))
            logged(s, "TLS: ", "ertificate ")
            works(s, context(certs(), version))


@test
def without_verify_peer_any_certificate_will_do():
    with tls_server(certs(), "--tls=require") as s:
        works(s, context(None))
        folder, _ = bad_clients()["expired"]
        works(s, context(folder))


@test
def certificates_that_are_no_good_are_refused():
    with tls_server(certs(), "--tls=require", "--tls-verify-peer") as s:
        for what, (folder, word) in bad_clients().items():
            for version in TLS12, TLS13:
                refused(s, context(folder, version))
            logged(s, "the client's certificate: ", word)
        works(s)


@test
def revoked_certificates_are_refused():
    with tls_server(revoke(f"{certs()}/bob", "with-crl"), "--tls=require",
                    "--tls-verify-peer") as s:
        for version in TLS12, TLS13:
            refused(s, context(f"{certs()}/bob", version))
        logged(s, "the client's certificate: ", "revoked")
        works(s)


def stall(s, how):
    """The server drops a client that stops in the state to which `how` brings it: at the deadline
    of one second, not before."""
    began = time.monotonic()
    with Client(s.socket) as c:
        how(c)
        with contextlib.suppress(ConnectionResetError):
            while c.socket.recv(4096):
                pass
    assert 0.9 < time.monotonic() - began < IN_TIME, how.__name__


@test
def stalls_in_the_handshake_and_in_a_record_end_at_the_deadline():
    def before_hello(c):
        assert c.option(OPT_STARTTLS)[0] == REP_ACK

    def in_hello(c):
        before_hello(c)
        c.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")

    def after_hello(c):
        before_hello(c)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context(certs()).wrap_bio(incoming, outgoing).do_handshake()
        c.send(outgoing.read())

    def in_record(c):
        before_hello(c)
        c.socket = context(certs()).wrap_socket(c.socket)
        plain = socket.socket(fileno=c.socket.detach())
        plain.settimeout(SOON)
        c.socket = plain
        c.send(b"\x17\x03\x03\x40\x00" + bytes(100))

    def between_records(c):
        before_hello(c)
        c.socket = context(certs()).wrap_socket(c.socket)
        c.send(struct.pack(">QI", OPTION_MAGIC, OPT_LIST))

    with serve("--tls=require", "--handshake-timeout=1") as s:
        for how in before_hello, in_hello, after_hello, in_record, between_records:
            stall(s, how)
        logged(s, "TLS: ", "took too long")


def trickle(c, until):
    """Send a ClientHello that takes minutes, a byte whenever the server was silent for 50 ms, until
    the server hangs up or `until` has come."""
    c.socket.settimeout(0.05)
    c.send(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03")
    while time.monotonic() < until:
        try:
            if c.socket.recv(100) == b"":
                return
        except TimeoutError:
            with contextlib.suppress(BrokenPipeError):
                c.send(b"\0")
        except ConnectionResetError:
            return


@test
def a_trickle_does_not_stretch_the_deadline():
    with serve("--tls=require", "--handshake-timeout=1") as s:
        began = time.monotonic()
        with Client(s.socket) as c:
            assert c.option(OPT_STARTTLS)[0] == REP_ACK
            trickle(c, began + IN_TIME)
        assert 0.9 < time.monotonic() - began < IN_TIME


@test
def a_forged_record_ends_the_connection():
    with serve("--tls=require") as s, TlsClient(s.socket, context(certs())) as c:
        c.go("disk0")
        c.in_step()
        raw = socket.socket(fileno=c.socket.detach())
        raw.settimeout(SOON)
        c.socket = raw
        c.send(b"\x17\x03\x03\x00\x30" + bytes(48))
        with contextlib.suppress(ConnectionResetError):
            while data := raw.recv(4096):
                assert data[0] in (21, 23)


@test
def plain_text_after_the_handshake_ends_the_connection():
    with serve("--tls=on") as s, TlsClient(s.socket, context(certs())) as c:
        raw = socket.socket(fileno=c.socket.detach())
        raw.settimeout(SOON)
        c.socket = raw
        c.send(struct.pack(">QII", OPTION_MAGIC, OPT_LIST, 0))
        with contextlib.suppress(ConnectionResetError):
            while data := raw.recv(4096):
                assert data[0] in (21, 23)


@test
def sessions_are_not_resumed():
    """The server gives no tickets, and ignores a session that a client offers (CVE-2026-1584 and
    others)."""
    for version in TLS12, TLS13:
        with serve("--tls=require") as s:
            tls = context(certs(), version)
            with Client(s.socket) as c:
                assert c.option(OPT_STARTTLS)[0] == REP_ACK
                c.socket = tls.wrap_socket(c.socket)
                assert [name for name, _ in c.list()] == ["disk0"]
                session = c.socket.session
                assert session is None or not session.has_ticket
            with Client(s.socket) as c:
                assert c.option(OPT_STARTTLS)[0] == REP_ACK
                c.socket = tls.wrap_socket(c.socket, session=session)
                assert not c.socket.session_reused
                c.go("disk0")
                c.in_step()


@test
def the_server_ends_in_time_whatever_TLS_clients_do():
    with tls_server(certs(), "--tls=require") as s:
        clients = []
        for stage in range(4):
            c = Client(s.socket)
            clients.append(c)
            if stage > 0:
                assert c.option(OPT_STARTTLS)[0] == REP_ACK
            if stage > 1:
                c.socket = context(certs()).wrap_socket(c.socket)
            if stage > 2:
                c.go("disk0")
                for _ in range(40):  # it reads none of the replies
                    c.request(READ, 0, 1 << 20)
        began = time.monotonic()
        s.stop()
        assert time.monotonic() - began < IN_TIME
        for c in clients:
            c.close()


main()
