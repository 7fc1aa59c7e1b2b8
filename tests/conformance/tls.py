# SPDX-License-Identifier: BSD-3-Clause
"""Section T: TLS. Roles: "tls" is any server that has it; "tls-required" requires it;
"tls-selective" offers it, and may have an export that is there inside TLS only, which
.more["secret"] names."""

import ssl
import struct

from client import *
from lines import line

ALL_OPTIONS = (OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY, OPT_LIST_META, OPT_SET_META,
               OPT_EXTENDED_HEADERS, 4, OPT_FIRST_UNKNOWN, 99)


def option_data(c, option, name):
    if option in (OPT_INFO, OPT_GO):
        return c.go_data(name)
    if option in (OPT_LIST_META, OPT_SET_META):
        return c.meta_data(name, ALLOCATION)
    return b""


def is_dead(c):
    """The server ends the connection; until then it may send a TLS alert, but no option reply."""
    data = b""
    try:
        while piece := c.socket.recv(4096):
            data += piece
    except ConnectionResetError:
        pass
    assert struct.pack(">Q", OPTION_REPLY_MAGIC) not in data, "an option was answered"


@line
def T1(t):
    """On a server without TLS, STARTTLS gets ERR_POLICY or ERR_UNSUP, and no option ever gets
    TLS_REQD."""
    t.needs(not t.where().inside, "no tls", "it has TLS")
    with t.part("STARTTLS"), t.client() as c:
        final, replies = c.option(OPT_STARTTLS)
        assert final in (ERR_POLICY, ERR_UNSUP) and not replies, hex(final)
        c.go().in_step()
    with t.part("no TLS_REQD"), t.client() as c:
        for option in ALL_OPTIONS:
            final, _ = c.option(option, option_data(c, option, "no such export"))
            assert final != ERR_TLS_REQD, option


@line
def T2(t):
    """If the whole server requires TLS, every option but STARTTLS and ABORT gets TLS_REQD, also an
    unknown one, and EXPORT_NAME ends the connection."""
    with t.part("TLS_REQD"), t.client("tls-required") as c:
        for option in ALL_OPTIONS:
            for name in c.export, "no such export":
                final, replies = c.option(option, option_data(c, option, name))
                assert (final, replies) == (ERR_TLS_REQD, []), f"option {option}: {final:#x}"
        c.starttls()
        c.go().in_step()
    with t.part("ABORT"), t.client("tls-required") as c:
        final, _ = c.option(OPT_ABORT)
        assert final == REP_ACK, hex(final)
    with t.part("EXPORT_NAME"), t.client("tls-required") as c:
        c.is_gone(OPT_EXPORT_NAME, c.export.encode())


@line
def T3(t):
    """If TLS is offered, only INFO and GO get TLS_REQD: for an export that is there inside TLS only
    (MUST), or for an unknown one (MAY). EXPORT_NAME of the former ends the connection."""
    with t.part("other options"), t.client("tls-selective") as c:
        for option in ALL_OPTIONS:
            if option not in (OPT_GO, OPT_INFO):
                final, _ = c.option(option, option_data(c, option, c.export))
                assert final != ERR_TLS_REQD, f"option {option}"
    with t.part("an open export"), t.client("tls-selective") as c:
        c.go().in_step()
    with t.part("a secret export"), t.client("tls-selective") as c:
        t.needs("secret" in c.where.more, "export:secret")
        for option in OPT_INFO, OPT_GO:
            final, _ = c.option(option, c.go_data(c.where.more["secret"]))
            assert final == ERR_TLS_REQD, hex(final)
        c.starttls()
        c.go(c.where.more["secret"]).in_step()
    with t.part("an unknown export"), t.client("tls-selective") as c:
        final, _ = c.option(OPT_INFO, c.go_data("no such export"))
        assert final in (ERR_UNKNOWN, ERR_TLS_REQD), hex(final)
    with t.part("EXPORT_NAME"), t.client("tls-selective") as c:
        t.needs("secret" in c.where.more, "export:secret")
        c.is_gone(OPT_EXPORT_NAME, c.where.more["secret"].encode())


@line
def T4(t):
    """A second STARTTLS and a STARTTLS with data get ERR_INVALID. A TLS handshake that fails ends
    the connection. No option gets TLS_REQD inside TLS. TLS has version 1.2 or later."""
    with t.part("twice"), t.client("tls") as c:
        c.starttls()
        final, _ = c.option(OPT_STARTTLS)
        assert final == ERR_INVALID, hex(final)
        c.go().in_step()
    with t.part("with data"), t.client("tls") as c:
        final, _ = c.option(OPT_STARTTLS, b"x")
        assert final == ERR_INVALID, hex(final)
        c.starttls()
        c.go().in_step()
    with t.part("a handshake that fails"), t.client("tls") as c:
        assert c.option(OPT_STARTTLS) == (REP_ACK, [])
        c.send(b"this is no handshake of TLS" * 10)
        is_dead(c)
    with t.part("no TLS_REQD inside"), t.client("tls") as c:
        c.starttls()
        for option in ALL_OPTIONS:
            final, _ = c.option(option, option_data(c, option, "no such export"))
            assert final != ERR_TLS_REQD, option
    for version, what in (ssl.TLSVersion.TLSv1_2, "1.2"), (ssl.TLSVersion.TLSv1_3, "1.3"):
        with t.part(f"TLS {what}"), t.client("tls") as c:
            c.starttls(version=version)
            assert c.socket.version() == f"TLSv{what}"
            c.go().in_step()
    with t.part("TLS 1.1"), t.client("tls") as c:
        try:
            c.starttls(version=ssl.TLSVersion.TLSv1_1)
        except (ssl.SSLError, ConnectionError):
            return
        raise AssertionError("it was accepted")


@line
def T5(t):
    """STARTTLS forgets structured replies, extended headers and contexts. Plain text that comes
    behind it, before the TLS handshake, is never used (CVE-2021-3716)."""
    for mode in STRUCTURED, EXTENDED:
        with t.part(f"forgotten [{mode}]"), t.client("tls-selective") as c:
            c.negotiate(mode, [ALLOCATION])
            c.starttls()
            c.is_structured = c.is_extended = False
            c.go()
            assert not c.eflags & SEND_DF
            assert c.replies(c.request(READ, 0, 512))[0].simple
            c.fails(BLOCK_STATUS, 0, 4096, wanted=EINVAL)
    with t.part("contexts alone are forgotten"), t.client("tls-selective") as c:
        c.negotiate(STRUCTURED, [ALLOCATION])
        c.starttls()
        c.structured()
        c.go()
        c.fails(BLOCK_STATUS, 0, 4096, wanted=EINVAL)
    for what, injected in (("an option", struct.pack(">QII", OPTION_MAGIC, OPT_LIST, 0)),
                           ("several", struct.pack(">QII", OPTION_MAGIC, OPT_LIST, 0) * 50)):
        with t.part(f"plain text behind it: {what}"), t.client("tls") as c:
            c.send(struct.pack(">QII", OPTION_MAGIC, OPT_STARTTLS, 0) + injected)
            try:  # either the connection ends, or the injected options are never answered
                final, _ = c.option_reply(OPT_STARTTLS)
                assert final == REP_ACK, hex(final)
                c.tls_handshake(c.where.ca)
            except (Closed, ssl.SSLError, ConnectionError):
                continue
            c.go().in_step()
