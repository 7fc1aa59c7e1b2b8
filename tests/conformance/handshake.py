# SPDX-License-Identifier: BSD-3-Clause
"""Section H: the handshake."""

import contextlib
import socket
import struct

from client import *
from lines import line

LONG = b"x" * 4097  # the protocol's strings have at most 4096 bytes
BAD_STRINGS = {"with a NUL": b"a\0b", "that is no UTF-8": b"\xff\xfe",
               "that is overlong UTF-8": b"\xc0\x80", "with a surrogate": b"\xed\xa0\x80"}


def option_works(c):
    """The stream is in step: the next option is answered."""
    final = c.info(c.export)
    assert final == REP_ACK, f"INFO after it: {final:#x}"


def refused(c, option, data, *wanted):
    """The option gets one of the errors `wanted` and nothing before it; the next one works."""
    final, replies = c.option(option, data)
    assert final in wanted and not replies, (
        f"{final:#x} after {len(replies)} replies, wanted {' or '.join(map(hex, wanted))}")
    option_works(c)


@line
def H1(t):
    """The handshake flags are FIXED_NEWSTYLE and NO_ZEROES and no others. A client that answers
    with a flag that is unknown or was not offered is dropped; one without NO_ZEROES is served."""
    with t.part("flags offered"), t.client() as c:
        assert c.handshake_flags == FIXED_NEWSTYLE | NO_ZEROES, hex(c.handshake_flags)
    with t.part("client without NO_ZEROES"), t.client(flags=FIXED_NEWSTYLE) as c:
        c.go().in_step()
    for flags in 4, 0x80000003, 0xFFFFFFFF:
        with t.part(f"unknown client flags {flags:#x}"), t.client(flags=flags) as c:
            c.expect_end()
    with t.part("a flag that was not offered"), t.client("masked", flags=FIXED_NEWSTYLE) as c:
        assert c.handshake_flags == FIXED_NEWSTYLE
        with t.client("masked", flags=FIXED_NEWSTYLE | NO_ZEROES) as bad:
            bad.expect_end()
        c.go().in_step()


def malformed(c):
    """{what: (option, data)} of options that contradict themselves."""
    name = c.export.encode()
    head = struct.pack(">I", len(name)) + name
    return {
        "INFO without data": (OPT_INFO, b""),
        "GO with 3 bytes": (OPT_GO, b"\0\0\0"),
        "GO without a count": (OPT_GO, head),
        "GO with bytes behind its end": (OPT_GO, c.go_data(c.export) + b"x"),
        "GO with fewer infos than counted": (OPT_GO, head + struct.pack(">HH", 2, 3)),
        "SET without data": (OPT_SET_META, b""),
        "SET without a count": (OPT_SET_META, head),
        "SET with bytes behind its end":
            (OPT_SET_META, c.meta_data(c.export, ALLOCATION) + b"x"),
        "SET with fewer queries than counted":
            (OPT_SET_META, head + struct.pack(">I", 0xFFFFFFFF)),
        "LIST_META with a name beyond the option":
            (OPT_LIST_META, struct.pack(">I", 0xFFFFFFFF) + name + struct.pack(">I", 0)),
    }


@line
def H2(t):
    """Every reply repeats the option's number. (The client checks that each time.) An unknown
    option gets ERR_UNSUP, and its data is consumed; a malformed one gets ERR_INVALID. After both,
    the next option works."""
    for option in 4, OPT_FIRST_UNKNOWN, 99, 0xFFFFFFFF:
        with t.part(f"unknown option {option}"), t.client() as c:
            for data in b"", b"x" * 1000, bytes(8192):
                refused(c, option, data, ERR_UNSUP)
    with t.client() as c:
        cases = malformed(c)
    for what, (option, data) in cases.items():
        with t.part(what), t.client() as c:
            c.structured()
            refused(c, option, data, ERR_INVALID)


@line
def H3(t):
    """The server hangs up only on what looks like an attack, an EXPORT_NAME that cannot be met, a
    failed TLS handshake, or a breach of a MUST."""
    with t.part("many refusals"), t.client() as c:
        for _ in range(5):  # nbdkit takes no more than 32 options
            assert c.option(99, b"x")[0] == ERR_UNSUP
            assert c.option(OPT_LIST, b"x")[0] & 0x80000000
            assert c.option(OPT_GO, c.go_data(LONG))[0] & 0x80000000
            assert c.option(OPT_INFO, b"")[0] & 0x80000000
        option_works(c)
    with t.part("no option's magic"), t.client() as c:
        c.send(b"GET / HTTP/1.1\r\n\r\n")
        c.expect_end()
    with t.part("an end in the middle of an option"), t.client() as c:
        t.needs(not c.where.inside, "no tls", "TLS cannot be closed in one direction here")
        c.send(struct.pack(">QI", OPTION_MAGIC, OPT_GO))
        c.socket.shutdown(socket.SHUT_WR)
        c.expect_end()


@line
def H4(t):
    """EXPORT_NAME is answered with size and flags, and 124 zero bytes unless NO_ZEROES was agreed;
    an unknown name ends the connection; the empty name is the default export."""
    for flags, what in ((FIXED_NEWSTYLE, "with zeroes"),
                        (FIXED_NEWSTYLE | NO_ZEROES, "without zeroes")):
        with t.part(what), t.client(flags=flags) as c, t.client() as other:
            c.export_name(c.export, zeroes=not flags & NO_ZEROES)
            other.go()
            assert (c.size, c.eflags) == (other.size, other.eflags), "GO says otherwise"
            c.in_step()
    with t.part("unknown name"), t.client() as c:
        c.is_gone(OPT_EXPORT_NAME, b"no such export")
    with t.part("empty name"), t.client("default") as c, t.client("default") as other:
        c.export_name("")
        other.go("")
        assert (c.size, c.eflags) == (other.size, other.eflags), "GO says otherwise"
        c.in_step()


@line
def H5(t):
    """ABORT gets ACK, whatever data it has."""
    for data in b"", b"ignored":
        with t.part(f"with {len(data)} bytes"), t.client() as c:
            final, replies = c.option(OPT_ABORT, data)
            assert (final, replies) == (REP_ACK, []), hex(final)
            c.expect_end()
    with t.part("without waiting for the ACK"):
        with t.client() as c:
            c.send_option(OPT_ABORT)
        with t.client() as c:
            option_works(c)


@line
def H6(t):
    """LIST gives one SERVER reply for each export, with its description after its name, then ACK.
    With data it gets ERR_INVALID."""
    with t.part("exports, each once"), t.client() as c:
        names = [name for name, _ in c.list()]
        assert c.export in names and len(names) == len(set(names)), names
    with t.part("each is there"), t.client() as c:
        for name, _ in c.list():
            final = c.info(name)
            assert final in (REP_ACK, ERR_TLS_REQD), f"{name}: {final:#x}"
    with t.part("description"), t.client("described") as c:
        wanted = c.export, c.where.more["description"]
        assert wanted in c.list(), f"{wanted} is not in {c.list()}"
    with t.part("with data"), t.client() as c:
        refused(c, OPT_LIST, b"x", ERR_INVALID)


@line
def H7(t):
    """INFO and GO get ERR_INVALID if the name is longer than the option less 6 bytes. Unknown infos
    are ignored. An unknown export gets ERR_UNKNOWN without any INFO reply, and the client may try
    another export."""
    for option, what in (OPT_INFO, "INFO"), (OPT_GO, "GO"):
        with t.part(f"{what}: a name beyond the option"), t.client() as c:
            name = c.export.encode()
            for excess in 1, 2, 0x10000, 0x7FFFFFF0, 0xFFFFFFFF - len(name):
                data = struct.pack(">I", len(name) + excess) + name + struct.pack(">H", 0)
                refused(c, option, data, ERR_INVALID)
        with t.part(f"{what}: unknown export"), t.client() as c:
            for name in "no such export", c.export + " ", c.export + "x" * 500:
                refused(c, option, c.go_data(name, (INFO_BLOCK_SIZE, INFO_NAME)), ERR_UNKNOWN)
    with t.part("unknown infos"), t.client() as c:
        final = c.info(c.export, (77, 0xFFFF, INFO_BLOCK_SIZE, 4))
        assert final == REP_ACK, hex(final)
        assert set(c.infos) <= set(range(4)), f"infos {set(c.infos)}"
    with t.part("GO after GO for an unknown export"), t.client() as c:
        assert c.info("no such export", option=OPT_GO) == ERR_UNKNOWN
        c.go().in_step()


@line
def H8(t):
    """INFO_EXPORT (12 bytes) comes before every ACK. INFO_NAME and INFO_DESCRIPTION come on
    request. INFO_BLOCK_SIZE has 14 bytes, and ours comes without a request where sizes are not the
    defaults. No info comes twice. (The client checks that.)"""
    with t.part("INFO_EXPORT"), t.client() as c:
        for infos in (), (INFO_NAME,), (INFO_BLOCK_SIZE, INFO_DESCRIPTION):
            assert c.info(c.export, infos) == REP_ACK
            assert len(c.infos[INFO_EXPORT]) == 10  # and 2 for the type
    with t.part("INFO_NAME"), t.client() as c:
        assert c.info(c.export, (INFO_NAME,)) == REP_ACK
        assert INFO_NAME in c.infos, "it was not given"
        assert c.infos[INFO_NAME].decode() == c.export, c.infos[INFO_NAME]
    with t.part("INFO_DESCRIPTION"), t.client("described") as c:
        assert c.info(c.export, (INFO_DESCRIPTION,)) == REP_ACK
        assert c.infos.get(INFO_DESCRIPTION) == c.where.more["description"].encode(), c.infos
    with t.part("INFO_BLOCK_SIZE"), t.client() as c:
        assert c.info(c.export, (INFO_BLOCK_SIZE,)) == REP_ACK
        t.needs(INFO_BLOCK_SIZE in c.infos, "block-size")
        assert len(c.infos[INFO_BLOCK_SIZE]) == 12
    with t.part("INFO_BLOCK_SIZE unasked"), t.client("aligned") as c:
        t.ours()
        assert c.info(c.export) == REP_ACK
        assert struct.unpack(">I", c.infos[INFO_BLOCK_SIZE][:4]) == (c.block,)


@line
def H9(t):
    """GO right after INFO with the same parameters gives the same answers. No zeroes follow it."""
    for infos in (), (INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE):
        for part in t.modes(f"INFO, then GO with {len(infos)} infos"):
            with part as mode, t.client(flags=FIXED_NEWSTYLE) as c:
                c.negotiate(mode)
                assert c.info(c.export, infos) == REP_ACK
                before = c.infos
                c.go(infos=infos)
                assert c.infos == before, f"{before} became {c.infos}"
                c.in_step()  # zeroes would be taken for this reply


@line
def H10(t):
    """Errors have the values of the specification, with bit 31 set; a text may follow.
    A client that asked for block sizes never gets BLOCK_SIZE_REQD."""
    for what, option, data, wanted in (
            ("UNSUP", 99, b"", (ERR_UNSUP,)),
            ("INVALID", OPT_LIST, b"x", (ERR_INVALID,)),
            ("UNKNOWN", OPT_GO, Client.go_data("no such export"), (ERR_UNKNOWN,)),
            ("TOO_BIG", OPT_GO, Client.go_data(LONG), (ERR_TOO_BIG, ERR_INVALID))):
        with t.part(what), t.client() as c:
            refused(c, option, data, *wanted)
    for role in "main", "aligned", "odd":
        with t.part(f"no BLOCK_SIZE_REQD: {role}"), t.client(role) as c:
            for option in OPT_INFO, OPT_GO:
                assert c.info(c.export, (INFO_BLOCK_SIZE,), option) == REP_ACK


@line
def H11(t):
    """Strings are UTF-8 without NUL, of at most 4096 bytes. Others get ERR_INVALID or
    ERR_TOO_BIG."""
    wanted = ERR_INVALID, ERR_TOO_BIG
    for what, bad in {**BAD_STRINGS, "of 4097 bytes": LONG}.items():
        with t.part(f"a name {what}"), t.client() as c:
            for option in OPT_INFO, OPT_GO:
                refused(c, option, c.go_data(bad), *wanted)
        for option, told in (OPT_LIST_META, "LIST_META"), (OPT_SET_META, "SET"):
            with t.part(f"{told}: a name {what}"), t.client() as c:
                c.structured()
                refused(c, option, c.meta_data(bad), *wanted)
            with t.part(f"{told}: a query {what}"), t.client() as c:
                c.structured()
                refused(c, option, c.meta_data(c.export, b"x-" + bad), *wanted)
    with t.part("names that are well-formed"), t.client() as c:
        for name in "\u00e4\u20ac\U0001F9FA", "x" * 4096:
            refused(c, OPT_GO, c.go_data(name), ERR_UNKNOWN)
    with t.part("the server's own"), t.client() as c:
        c.structured()
        texts = [text for pair in c.list() for text in pair] + c.list_contexts(c.export)
        assert all("\0" not in s and len(s.encode()) <= 4096 for s in texts)


@line
def H12(t):
    """STRUCTURED_REPLY with data gets ERR_INVALID; a second one may get it."""
    with t.part("with data"), t.client() as c:
        refused(c, OPT_STRUCTURED_REPLY, b"x", ERR_INVALID)
        c.go()
        assert not c.eflags & SEND_DF, "it was agreed all the same"
    with t.part("twice"), t.client() as c:
        c.structured()
        assert c.option(OPT_STRUCTURED_REPLY)[0] in (REP_ACK, ERR_INVALID)
        c.go()
        c.in_step()


def options_while_shutting_down(t):
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(t.target.held())
        stack.callback(held.let_go)  # a part that fails must not leave the read waiting
        busy = stack.enter_context(Client(held.where, patience=t.target.patience))
        c = stack.enter_context(Client(held.where, patience=t.target.patience))
        # A request under way delays the server's end, so that other clients can still ask.
        busy.go()
        cookie = busy.request(READ, 0, 512)
        held.wait_begun()
        held.end()
        while True:  # until the server has noticed the signal
            final = c.info(c.export)
            if final != REP_ACK:
                break
        assert final == ERR_SHUTDOWN, hex(final)
        for option in OPT_LIST, OPT_GO, OPT_STRUCTURED_REPLY, 99:
            final, _ = c.option(option)
            assert final == ERR_SHUTDOWN, f"option {option}: {final:#x}"
        assert c.option(OPT_ABORT) == (REP_ACK, [])
        held.let_go()
        assert busy.result(cookie) == 0


@line
def H13(t):
    """While the server shuts down, options except ABORT get ERR_SHUTDOWN."""
    with t.part("options while shutting down"):
        # A server waits for its clients for some time only (ours: two seconds). Where a busy
        # machine did not let us ask all questions in that time, nothing was learnt, and we try
        # again.
        for attempt in range(10):
            try:
                options_while_shutting_down(t)
                return
            except (Closed, ConnectionError):
                if attempt == 9:
                    raise
