#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A check of the checker: our server is behind a proxy that changes single messages (liar.py). If
the proxy changes nothing, every line passes. If it lies, the line that is about the lie fails."""

import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import suite  # noqa: E402
from client import *  # noqa: E402, F403
from liar import EndOfLie, Liar, Lie, chunk, simple  # noqa: E402
from lines import FAIL, NA, PASS, outcome, run_lines, summary  # noqa: E402
from ours import Ours  # noqa: E402
from tap import main, note, skip, test  # noqa: E402

LIES = []  # (line, what the lie is, class of Lie, whether the lie is that nothing is said)


def told(line, what, silent=False, **methods):
    """Add a lie that the line must notice. methods: those of Lie, without self."""
    methods = {name: staticmethod(function) for name, function in methods.items()}
    LIES.append((line, what, type("Lie", (Lie,), methods), silent))


# ---- handshake ----

def instead(old, new, option=None):
    """An option reply of another kind."""
    def change(asked, data, kind, payload):
        return [(asked, new if kind == old and option in (None, asked) else kind, payload)]
    return change


def info(which, change, option=None):
    """REP_INFO with another payload; without the reply if `change` gives None."""
    def reply(asked, data, kind, payload):
        if kind == REP_INFO and payload[:2] == struct.pack(">H", which) and (
                option in (None, asked)):
            payload = change(payload)
        return [] if payload is None else [(asked, kind, payload)]
    return reply


def eflags(change):
    """INFO_EXPORT with other transmission flags."""
    return info(INFO_EXPORT, lambda p: p[:10] + struct.pack(">H", change(*struct.unpack(
        ">H", p[10:]))))


def size(value):
    return info(INFO_EXPORT, lambda p: p[:2] + struct.pack(">Q", value) + p[10:])


def hang_up():
    raise EndOfLie


def context(name, id=0):
    return REP_META, struct.pack(">I", id) + name.encode()


def before_ack(option, reply, when=lambda data: True):
    """One more reply (kind, payload) before the ACK to an option."""
    def change(asked, data, kind, payload):
        more = asked == option and kind == REP_ACK and when(data)
        return ([(asked, *reply)] if more else []) + [(asked, kind, payload)]
    return change


told("H1", "a third flag", greeting=lambda flags: flags | 4)
told("H1", "takes unknown flags", silent=True, client_flags=lambda flags: flags & 3)
told("H2", "another option's number", option_reply=lambda o, d, k, p: [(o ^ 1, k, p)])
told("H2", "POLICY for an unknown option", option_reply=instead(ERR_UNSUP, ERR_POLICY))
told("H2", "takes what is malformed", option_reply=instead(ERR_INVALID, REP_ACK, OPT_SET_META))
told("H3", "hangs up at errors", option_reply=lambda o, d, k, p:
     hang_up() if k & 0x80000000 else [(o, k, p)])
told("H4", "zeroes in spite of NO_ZEROES", export_name=lambda answer: answer + bytes(124))
told("H4", "another size", export_name=lambda answer: bytes(8) + answer[8:])
told("H5", "UNSUP for ABORT", option_reply=instead(REP_ACK, ERR_UNSUP, OPT_ABORT))
told("H6", "exports twice", option_reply=lambda o, d, k, p: [(o, k, p)] * (1 + (k == REP_SERVER)))
told("H6", "LIST with data", option_reply=instead(ERR_INVALID, REP_ACK, OPT_LIST))
told("H7", "INFO for an unknown export", option_reply=lambda o, d, k, p:
     ([(o, REP_INFO, bytes(12))] if k == ERR_UNKNOWN else []) + [(o, k, p)])
told("H8", "no INFO_EXPORT", option_reply=info(INFO_EXPORT, lambda p: None))
told("H8", "no INFO_NAME", option_reply=info(INFO_NAME, lambda p: None))
told("H8", "a short INFO_BLOCK_SIZE", option_reply=info(INFO_BLOCK_SIZE, lambda p: p[:-4]))
told("H9", "GO differs from INFO", option_reply=info(INFO_EXPORT, lambda p: p[:-1] + b"\0", OPT_GO))
told("H10", "POLICY for an unknown export", option_reply=instead(ERR_UNKNOWN, ERR_POLICY))
told("H11", "takes any string", option_reply=instead(ERR_INVALID, ERR_UNKNOWN))
told("H12", "STRUCTURED_REPLY with data",
     option_reply=instead(ERR_INVALID, REP_ACK, OPT_STRUCTURED_REPLY))
told("H13", "never SHUTDOWN", option_reply=instead(ERR_SHUTDOWN, ERR_UNKNOWN))
told("T1", "TLS_REQD without TLS", option_reply=instead(ERR_UNSUP, ERR_TLS_REQD))
told("T1", "TLS_REQD for an export", option_reply=instead(ERR_UNKNOWN, ERR_TLS_REQD))
told("M1", "SET without structured replies",
     option_reply=instead(ERR_INVALID, REP_ACK, OPT_SET_META))
told("M2", "SET without queries selects", option_reply=before_ack(
    OPT_SET_META, context(ALLOCATION), lambda data: data.endswith(bytes(4))))
told("M2", "an unknown namespace", option_reply=before_ack(
    OPT_LIST_META, context("x-foo:bar"), lambda data: b"x-foo" in data))
told("M3", "ids in LIST", option_reply=lambda o, d, k, p:
     [(o, k, b"\0\0\0\7" + p[4:] if (o, k) == (OPT_LIST_META, REP_META) else p)])
told("M3", "all the same ids", option_reply=lambda o, d, k, p:
     [(o, k, bytes(4) + p[4:] if k == REP_META else p)])
told("M5", "base: selects", option_reply=before_ack(
    OPT_SET_META, context(ALLOCATION), lambda data: data.endswith(b"base:")))
told("M6", "contexts twice", option_reply=lambda o, d, k, p: [(o, k, p)] * (1 + (k == REP_META)))
told("M8", "a second bitmap", option_reply=before_ack(OPT_LIST_META, context(DIRTY + "more")))
told("X1", "no HAS_FLAGS", option_reply=eflags(lambda flags: flags & ~HAS_FLAGS))
told("X1", "DF without structured replies", option_reply=eflags(lambda flags: flags | SEND_DF))
told("X1", "a flag that is not defined", option_reply=eflags(lambda flags: flags | SEND_RESIZE))
told("X14", "READ_ONLY with TRIM", option_reply=eflags(lambda flags: flags | READ_ONLY))
told("Z1", "a minimum of 3", option_reply=info(INFO_BLOCK_SIZE, lambda p: p[:2] + b"\0\0\0\3"
                                               + p[6:]))
told("U1", "rounds up", option_reply=size(1024))
told("U2", "rounds up", option_reply=size(512))


# ---- requests ----

def asks(change):
    return lambda flags, kind, offset, length: change(flags, kind, offset, length)


def without(flag, kinds):
    return asks(lambda f, k, o, n: (f & ~flag if k in kinds else f, k, o, n))


def dies(when):
    return asks(lambda f, k, o, n: hang_up() if when(k, n) else (f, k, o, n))


told("X4", "hangs up at length 0", request=dies(lambda k, n: k not in (DISC, FLUSH) and n == 0))
told("X9", "FUA is not done", request=without(FUA, (WRITE, WRITE_ZEROES, TRIM)))
told("X10", "FLUSH is not done", request=asks(
    lambda f, k, o, n: (0, TRIM, 0, 512) if k == FLUSH else (f, k, o, n)))
told("X11", "FAST_ZERO is slow", request=without(FAST_ZERO, (WRITE_ZEROES,)))
told("X12", "hangs up at large lengths", request=dies(lambda k, n: n > MAX_PAYLOAD))
told("X13", "DISC is not done", silent=True, request=asks(
    lambda f, k, o, n: None if k == DISC else (f, k, o, n)))
told("Z2", "hangs up at 32 MiB", request=dies(lambda k, n: n >= MAX_PAYLOAD))


# ---- replies ----

def error(change, kinds=COMMANDS + (8, 9, 100, 0xFFFF)):
    """Another error in both forms of replies; 0 makes it a success."""
    def in_simple(request, error, cookie, data):
        if error and request[1] in kinds:
            error = change(error)
            if not error and request[1] == READ:
                data = bytes(request[3])
        return simple(error, cookie, data)

    def in_chunk(request, flags, kind, cookie, payload):
        if kind in (TYPE_ERROR, TYPE_ERROR_OFFSET) and request[1] in kinds:
            other = change(*struct.unpack_from(">I", payload))
            if not other:
                return chunk(DONE, TYPE_NONE, cookie, b"")
            payload = struct.pack(">I", other) + payload[4:]
        return chunk(flags, kind, cookie, payload)
    return {"simple": in_simple, "chunk": in_chunk}


def swapped(old, new):
    return lambda error: new if error == old else error


def data(change):
    """Another chunk for OFFSET_DATA: change(request, flags, cookie, payload) gives bytes."""
    return {"chunk": lambda request, flags, kind, cookie, payload:
            change(request, flags, cookie, payload) if kind == TYPE_DATA
            else chunk(flags, kind, cookie, payload)}


def extents(change):
    """Other extents in BLOCK_STATUS: change(request, id, extents) gives extents."""
    def reply(request, flags, kind, cookie, payload):
        if kind == TYPE_STATUS:
            id, = struct.unpack_from(">I", payload)
            changed = change(request, id, list(struct.iter_unpack(">II", payload[4:])))
            payload = payload[:4] + b"".join(struct.pack(">II", *extent) for extent in changed)
        return chunk(flags, kind, cookie, payload)
    return {"chunk": reply}


def halved(extents):
    """The first extent in two, with equal flags."""
    (length, flags), *rest = extents
    half = length // 8192 * 4096 or 1
    return [(half, flags), (length - half, flags)] + rest if length > half else extents


def split(request, flags, cookie, payload):
    """A DATA chunk in two."""
    offset, = struct.unpack_from(">Q", payload)
    half = (len(payload) - 8) // 2
    if not half:
        return chunk(flags, TYPE_DATA, cookie, payload)
    return (chunk(0, TYPE_DATA, cookie, payload[:8 + half]) +
            chunk(flags, TYPE_DATA, cookie, struct.pack(">Q", offset + half) + payload[8 + half:]))


def moved(request, flags, cookie, payload):
    offset, = struct.unpack_from(">Q", payload)
    return chunk(flags, TYPE_DATA, cookie, struct.pack(">Q", offset + 1) + payload[8:])


told("M4", "BLOCK_STATUS without contexts", **error(swapped(EINVAL, 0), (BLOCK_STATUS,)))
told("M7", "a third flag", **extents(lambda r, id, e: [(n, flags | 4) for n, flags in e]))
told("X2", "knows every command", **error(swapped(EINVAL, 0), (8, 9, 100, 0xFFFF)))
told("X2", "EPERM for wrong flags", **error(swapped(EINVAL, EPERM), (READ,)))
told("X3", "another cookie", simple=lambda r, error, cookie, data: simple(error, cookie ^ 1, data),
     chunk=lambda r, f, k, cookie, p: chunk(f, k, cookie ^ 1, p))
told("X5", "EACCES", **error(swapped(EPERM, 13)))
told("X6", "EINVAL for writes past the end", **error(swapped(ENOSPC, EINVAL)))
told("X6", "EINVAL for read-only", **error(swapped(EPERM, EINVAL)))
told("X6", "trims past the end", **error(swapped(EINVAL, 0), (TRIM,)))
told("X7", "EIO for ENOSPC", **error(swapped(ENOSPC, EIO)))
told("X7", "ENOTSUP", **error(swapped(EINVAL, ENOTSUP)))
told("X8", "ENOSPC for what a view cannot keep", **error(swapped(EIO, ENOSPC)))
told("S1", "a failed read", **error(swapped(EIO, 0)))
told("S2", "a simple reply to READ", chunk=lambda request, flags, kind, cookie, payload:
     simple(EINVAL, cookie) if kind == TYPE_ERROR and request[1] == READ
     else chunk(flags, kind, cookie, payload))
told("S3", "data elsewhere", **data(moved))
told("S3", "data twice", **data(lambda r, flags, cookie, p: chunk(0, TYPE_DATA, cookie, p)
                                + chunk(flags, TYPE_DATA, cookie, p)))
told("S3", "a byte too little", **data(lambda r, flags, cookie, p:
                                       chunk(flags, TYPE_DATA, cookie, p[:-1])))
told("S3", "DONE twice", chunk=lambda r, f, k, cookie, p: chunk(f, k, cookie, p) * (1 + (f & DONE)))
told("S4", "an empty chunk", **data(lambda r, flags, cookie, p:
                                    chunk(0, TYPE_DATA, cookie, p[:8])
                                    + chunk(flags, TYPE_DATA, cookie, p)))
told("S4", "a hole of no size", **data(lambda r, flags, cookie, p:
                                       chunk(0, TYPE_HOLE, cookie, p[:8] + bytes(4))
                                       + chunk(flags, TYPE_DATA, cookie, p)))
told("S4", "DONE on what may fail", **data(lambda r, flags, cookie, p:
                                           chunk(DONE, TYPE_DATA, cookie, p)))
told("S5", "no error after all", **error(swapped(EIO, 0)))
told("S5", "an error of 0", chunk=lambda r, f, kind, cookie, p:
     chunk(f, kind, cookie, bytes(4) + p[4:] if kind & 0x8000 else p))
told("S6", "two chunks for DF", **data(lambda r, *rest: split(r, *rest) if r[0] & DF
                                       else chunk(rest[0], TYPE_DATA, *rest[1:])))
told("B1", "a context is not told", chunk=lambda r, flags, kind, cookie, p:
     [] if kind == TYPE_STATUS and not flags & DONE else chunk(flags, kind, cookie, p))
told("B1", "extents behind the request", **extents(lambda r, id, e: e + [(4096, 1)]))
told("B2", "REQ_ONE is too long", **extents(
    lambda r, id, e: [(r[3] + 512, e[0][1])] if r[0] & REQ_ONE else e))
told("B2", "REQ_ONE is two", **extents(lambda r, id, e: halved(e) if r[0] & REQ_ONE else e))
told("B3", "neighbours alike", **extents(lambda r, id, e: halved(e)))
told("B3", "no multiples", **extents(
    lambda r, id, e: [(e[0][0] + 1, e[0][1])] + e[1:] if len(e) > 1 else e))
told("B4", "one context tells less", **extents(
    lambda r, id, e: e if id or e[-1][0] < 2 else e[:-1] + [(e[-1][0] // 2, e[-1][1])]))
told("B5", "all is zero", **extents(lambda r, id, e: [(sum(n for n, _ in e), HOLE | ZERO)]))
told("B5", "clean for want of an answer", **error(swapped(EIO, 0), (BLOCK_STATUS,)))
told("B6", "no progress", **extents(lambda r, id, e: [(0, 0)]))
told("E1", "STRUCTURED_REPLY after it",
     option_reply=instead(ERR_EXT_HEADER_REQD, REP_ACK, OPT_STRUCTURED_REPLY))
told("E2", "another offset", offset=lambda offset: offset + 1)
told("E3", "takes any payload", **error(swapped(EINVAL, 0), (READ, TRIM, CACHE, WRITE_ZEROES)))
told("E4", "another count", chunk=lambda r, f, kind, cookie, p: chunk(
    f, kind, cookie, p[:7] + b"\0" + p[8:] if kind == TYPE_STATUS_EXT else p))
told("E4", "statuses of 64 bits", chunk=lambda r, f, kind, cookie, p: chunk(
    f, kind, cookie, p[:16] + b"\1" + p[17:] if kind == TYPE_STATUS_EXT else p))
told("E5", "unknown ids", **error(swapped(EINVAL, 0), (BLOCK_STATUS,)))
told("E6", "data elsewhere", **data(moved))


# ---- tests ----

target = Ours().__enter__()
not_applying = suite.not_applying(suite.read_expected(), suite.OURS)


def run(line, cls, patience):
    with Liar(target, cls(), patience) as seen:
        (_, parts), = run_lines(seen, [line])
    return parts


@test
def the_truth_passes():
    for line in dict.fromkeys(line for line, *_ in LIES):
        parts = run(line, Lie, target.patience)
        if outcome(parts) == NA:
            assert line in not_applying, f"{line}: {summary(parts)}"
        else:
            assert outcome(parts) == PASS, f"{line}: {summary(parts)}"


def as_test(line, what, cls, silent):
    def noticed():
        # The line fails because no answer comes, so a long wait would show nothing more.
        parts = run(line, cls, 0.2 if silent else target.patience)
        if outcome(parts) == NA and line in not_applying:
            skip("not offered yet: " + summary(parts))
        assert outcome(parts) == FAIL, f"{line}: {[p.why for p in parts if p.result == NA]}"
        note(summary(parts)[:200])
    noticed.__name__ = f"{line}: {what}"
    test(noticed)


for a_lie in LIES:
    as_test(*a_lie)


@test
def the_server_ends_in_order():
    target.stack.close()


try:
    main()
finally:
    target.stack.close()
