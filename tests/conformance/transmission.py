# SPDX-License-Identifier: BSD-3-Clause
"""Section X: the transmission phase."""

import contextlib

from client import *
from lines import line

NAMES = {READ: "READ", WRITE: "WRITE", DISC: "DISC", FLUSH: "FLUSH", TRIM: "TRIM", CACHE: "CACHE",
         WRITE_ZEROES: "WRITE_ZEROES", BLOCK_STATUS: "BLOCK_STATUS"}
# What an export must advertise before a command may be sent.
OFFERED = {FLUSH: SEND_FLUSH, TRIM: SEND_TRIM, CACHE: SEND_CACHE, WRITE_ZEROES: SEND_WRITE_ZEROES}
WRITING = WRITE, WRITE_ZEROES, TRIM
UNUSED_FLAGS = SEND_RESIZE | 0xE000


def contexts_of(mode):
    """The contexts with which every command can be sent in this mode."""
    return () if mode == SIMPLE else (ALLOCATION,)


def offered(t, c, command):
    t.needs(c.eflags & OFFERED.get(command, HAS_FLAGS), NAMES[command])


def payload(command, length):
    return bytes(length) if command == WRITE else b""


@line
def X1(t):
    """Transmission flags: HAS_FLAGS is always set, DF only with structured replies or extended
    headers, FAST_ZERO only with WRITE_ZEROES, BLOCK_STATUS_PAYLOAD only with extended headers. No
    undefined flag is set. What is advertised works."""
    for part in t.modes("flags"):
        with part as mode, t.ready(mode=mode, contexts=contexts_of(mode)) as c:
            flags = c.eflags
            assert flags & HAS_FLAGS, hex(flags)
            assert not flags & UNUSED_FLAGS, hex(flags)
            assert not (flags & SEND_DF and mode == SIMPLE), "DF without structured replies"
            assert flags & SEND_WRITE_ZEROES or not flags & SEND_FAST_ZERO, hex(flags)
            assert not (flags & BLOCK_STATUS_PAYLOAD and mode != EXTENDED), hex(flags)
    with t.part("what is advertised works"), t.writable() as c:
        for command, flag in OFFERED.items():
            if c.eflags & flag:
                c.works(command, 0, 0 if command == FLUSH else 65536)
        if c.eflags & SEND_FUA:
            c.works(WRITE, 0, 4096, FUA)
        if c.eflags & SEND_DF:
            c.read(0, 4096, DF)
    with t.part("read-only"), t.ready("readonly") as c:
        assert c.eflags & READ_ONLY, hex(c.eflags)
    with t.part("without contexts no payload filter"):
        with t.ready(mode=EXTENDED) as c:  # a SHOULD NOT, which QEMU 10.2 keeps, too
            assert not c.eflags & BLOCK_STATUS_PAYLOAD or not t.target.is_ours, hex(c.eflags)


def wrong_flags(c, command, mode):
    """The flag bits that are wrong for a command. (Section E tests PAYLOAD_LEN in extended
    mode.)"""
    right = FUA if c.eflags & SEND_FUA else 0
    if command == READ and c.eflags & SEND_DF:
        right |= DF
    if command == WRITE_ZEROES:
        right |= NO_HOLE | (FAST_ZERO if c.eflags & SEND_FAST_ZERO else 0)
    if command == BLOCK_STATUS:
        right |= REQ_ONE
    if mode == EXTENDED:
        right |= PAYLOAD_LEN
    return [1 << bit for bit in range(16) if not right & 1 << bit]


@line
def X2(t):
    """An unknown command, an unknown flag, or a flag that is wrong for the command gets EINVAL, and
    the stream stays in step."""
    for part in t.modes("unknown commands"):
        with part as mode, t.ready(mode=mode) as c:
            for command in 8, 9, 100, 0xFFFF:
                c.fails(command, 0, 512, wanted=EINVAL)
    for command in COMMANDS:
        for part in t.modes(f"wrong flags of {NAMES[command]}"):
            with part as mode, t.writable(mode, contexts_of(mode)) as c:
                offered(t, c, command)
                length = 0 if command == FLUSH else 4096
                for flag in wrong_flags(c, command, mode):
                    error = c.do(command, 0, length, flag, payload(command, length))
                    assert error == EINVAL, f"flag {flag:#x}: {error}"
                c.in_step()


@line
def X3(t):
    """Cookies come back unchanged. (The client checks that each time.) Requests in flight that have
    equal cookies are all answered."""
    for part in t.modes("any value"):
        with part as mode, t.ready(mode=mode) as c:
            for cookie in 0, 1, 0xFFFFFFFFFFFFFFFF, 0x0123456789ABCDEF:
                assert c.result(c.request(READ, 0, 512, cookie=cookie)) == 0
    for part in t.modes("equal ones in flight"):
        with part as mode, t.ready(mode=mode) as c:
            for _ in range(12):  # QEMU has at most 16 requests in flight
                c.request(READ, 4096, 512, cookie=7)
            done = 0
            while done < 12:
                reply = c.reply()
                assert reply.cookie == 7 and not reply.error
                done += reply.done
            c.in_step()


@line
def X4(t):
    """A length of 0 never ends the connection."""
    for command in COMMANDS:
        for part in t.modes(NAMES[command]):
            with part as mode, t.writable(mode, contexts_of(mode)) as c:
                offered(t, c, command)
                for offset in (0,) if command == FLUSH else (0, 4096, c.size):
                    c.do(command, offset, 0)  # success or any error
                    c.in_step()


@line
def X5(t):
    """Only the errors EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP and ESHUTDOWN are
    sent, whatever goes wrong in the storage. ENOMEM is avoided."""
    for part in t.modes("errors of the storage"):
        with part as mode, t.writable(mode, role="bad") as c:
            for name, offset in c.where.more["errors"].items():
                error = c.do(WRITE, offset, 4096)  # the client knows the list
                assert error and error != ENOMEM, f"{name} became {error}"
            assert c.do(READ, c.size - 4096, 4096) == EIO
            c.in_step()


def outside(size):
    return ((size - 4096, 8192), (size, 4096), (size + 4096, 4096), (1 << 63, 4096),
            (0xFFFFFFFFFFFFF000, 4096), (0xFFFFFFFFFFFFF000, 8192))


@line
def X6(t):
    """Past the end READ, TRIM, CACHE and BLOCK_STATUS get EINVAL, WRITE and WRITE_ZEROES get
    ENOSPC. A request that is not aligned to the minimum block gets EINVAL if the client has asked
    for block sizes. On a read-only export WRITE, WRITE_ZEROES and TRIM get EPERM, and a payload is
    drained."""
    for command in READ, TRIM, CACHE, BLOCK_STATUS, WRITE, WRITE_ZEROES:
        wanted = ENOSPC if command in (WRITE, WRITE_ZEROES) else EINVAL
        modes = MODES if command != BLOCK_STATUS else (STRUCTURED, EXTENDED)
        for part in t.modes(f"{NAMES[command]} past the end", modes):
            with part as mode, t.writable(mode, contexts_of(mode)) as c:
                offered(t, c, command)
                for offset, length in outside(c.size):
                    c.fails(command, offset, length, wanted=wanted)
    for command in READ, WRITE, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS:
        with t.part(f"{NAMES[command]} misaligned"):
            with t.writable(contexts=contexts_of(STRUCTURED), role="aligned") as c:
                offered(t, c, command)
                block = c.block
                for offset, length in ((512, block), (0, 512), (1, block), (block, block + 1)):
                    c.fails(command, offset, length, wanted=EINVAL)
                c.works(command, block, block)
        with t.part(f"{NAMES[command]} misaligned, block sizes not asked for"):
            t.ours()
            with t.ready("aligned", contexts=contexts_of(STRUCTURED), infos=()) as c:
                offered(t, c, command)
                for offset, length in ((512, c.block), (0, 512), (1, c.block), (c.block, 5000)):
                    c.works(command, offset, length)
    for command in WRITING:
        for part in t.modes(f"{NAMES[command]} on read-only"):
            with part as mode, t.ready("readonly", mode) as c:
                for length in 4096, 1 << 20:
                    c.fails(command, 0, length, wanted=EPERM)


@line
def X7(t):
    """EDQUOT and EFBIG become ENOSPC. Only FAST_ZERO gets ENOTSUP. Only DF, structured reads that
    are too long and commands without payload that are too long get EOVERFLOW."""
    for name in "EDQUOT", "EFBIG", "ENOSPC":
        with t.part(f"{name} is ENOSPC"), t.writable(role="bad") as c:
            t.needs(name in c.where.more["errors"], "error:" + name)
            c.fails(WRITE, c.where.more["errors"][name], 4096, wanted=ENOSPC)
    for name in "ENOTSUP", "EOVERFLOW":
        with t.part(f"{name} of the storage"), t.writable(role="bad") as c:
            t.needs(name in c.where.more["errors"], "error:" + name)
            error = c.do(WRITE, c.where.more["errors"][name], 4096)
            assert error not in (0, ENOTSUP, EOVERFLOW), error
    with t.part("zeroes that are not fast"), t.writable() as c:
        offered(t, c, WRITE_ZEROES)
        for flags in 0, NO_HOLE, FUA if c.eflags & SEND_FUA else 0:
            c.works(WRITE_ZEROES, 0, 65536, flags)


@line
def X8(t):
    """A write where `base:allocation` has HOLE clear does not fail with ENOSPC."""
    with t.part("what is allocated"), t.writable(contexts=[ALLOCATION]) as c:
        c.write(0, b"x" * 65536)
        assert c.map(ALLOCATION, 0, 65536) == [(65536, 0)]
        c.works(WRITE, 0, 65536)
    with t.part("a full disk"), t.writable(contexts=[ALLOCATION], role="full") as c:
        offset = 0
        for length, flags in c.map(ALLOCATION, 0, c.size):
            error = c.do(WRITE, offset, 4096)
            assert flags & HOLE or error != ENOSPC, f"at {offset}"
            offset += length
    with t.part("a view that the guest waits for"), t.writable(role="full-scratch") as c:
        errors = {c.do(WRITE, offset, 65536) for offset in range(0, c.size, 65536)}
        assert errors == {0, EIO}, errors


@line
def X9(t):
    """If FUA is advertised, every command may have it. The reply comes when what was written is
    persistent."""
    for part in t.modes("accepted"):
        with part as mode, t.writable(mode, contexts_of(mode)) as c:
            t.needs(c.eflags & SEND_FUA, "FUA")
            for command in COMMANDS:
                if command == BLOCK_STATUS and mode == SIMPLE:
                    continue
                if c.eflags & OFFERED.get(command, HAS_FLAGS):
                    error = c.do(command, 0, 0 if command == FLUSH else 4096, FUA)
                    assert error == 0, f"{NAMES[command]}: {error}"
            c.in_step()
    for command in WRITING:
        with t.part(f"{NAMES[command]} is persistent"), t.writable(role="logged") as c:
            t.needs(c.eflags & SEND_FUA, "FUA")
            offered(t, c, command)
            log = c.where.more["log"]
            open(log, "w").close()
            c.works(command, 0, 4096, FUA)
            with open(log) as f:
                assert f.read().split()[-1] == "flush"


@line
def X10(t):
    """FLUSH covers all writes that were answered before; with MULTI_CONN, those of every
    connection."""
    for what, with_other in ("its own connection", False), ("another connection", True):
        with t.part(what), t.writable(role="logged") as c, t.ready("logged") as other:
            offered(t, c, FLUSH)
            t.needs(not with_other or c.eflags & CAN_MULTI_CONN, "MULTI_CONN")
            log = c.where.more["log"]
            for command in WRITING:
                if c.eflags & OFFERED.get(command, HAS_FLAGS):
                    open(log, "w").close()
                    c.works(command, 0, 4096)
                    (other if with_other else c).works(FLUSH)
                    with open(log) as f:
                        done = f.read().split()
                    assert len(done) > 1 and done[-1] == "flush", (NAMES[command], done)
    with t.part("MULTI_CONN shows writes"), t.writable() as c, t.ready() as other:
        t.needs(c.eflags & CAN_MULTI_CONN, "MULTI_CONN")
        c.write(0, b"seen" * 1024)
        c.works(FLUSH)
        assert other.read(0, 4096) == b"seen" * 1024


@line
def X11(t):
    """FAST_ZERO gets ENOTSUP before any data changes, and never EOVERFLOW. Zeroes without the flag
    never get ENOTSUP. If it is not advertised it gets EINVAL. NO_HOLE is always accepted."""
    for role in "main", "slow-zero":
        for part in t.modes(f"FAST_ZERO: {role}"):
            with part as mode, t.writable(mode, role=role) as c:
                t.needs(c.eflags & SEND_FAST_ZERO, "FAST_ZERO")
                c.write(0, b"x" * 65536)
                error = c.do(WRITE_ZEROES, 0, 65536, FAST_ZERO)
                assert error in (0, ENOTSUP), error
                assert role == "main" or error == ENOTSUP, "it cannot have been fast"
                assert c.read(0, 65536) == (b"x" if error else b"\0") * 65536
                assert c.do(WRITE_ZEROES, 0, 65536) == 0
                assert c.read(0, 65536) == bytes(65536)
    with t.part("FAST_ZERO of a large range"), t.writable(role="large") as c:
        t.needs(c.eflags & SEND_FAST_ZERO, "FAST_ZERO")
        c.fails(WRITE_ZEROES, 0, 0xFFFFF000, FAST_ZERO, wanted=(0, ENOTSUP))
    with t.part("FAST_ZERO not advertised"), t.writable(role="no-trim") as c:
        offered(t, c, WRITE_ZEROES)
        t.needs(not c.eflags & SEND_FAST_ZERO, "no FAST_ZERO", "it is advertised")
        c.fails(WRITE_ZEROES, 0, 4096, FAST_ZERO, wanted=EINVAL)
    for role in "main", "no-trim":
        with t.part(f"NO_HOLE: {role}"), t.writable(role=role) as c:
            offered(t, c, WRITE_ZEROES)
            assert role == "main" or not c.eflags & SEND_TRIM
            c.write(0, b"x" * 8192)
            c.works(WRITE_ZEROES, 0, 4096, NO_HOLE)
            assert c.read(0, 8192) == bytes(4096) + b"x" * 4096


@line
def X12(t):
    """TRIM, WRITE_ZEROES and CACHE of more than the maximum payload do not end the connection."""
    for command in TRIM, WRITE_ZEROES, CACHE:
        for part in t.modes(NAMES[command]):
            with part as mode, t.writable(mode, role="large") as c:
                offered(t, c, command)
                for length in OUR_MAX_PAYLOAD + 4096, 0xFFFFF000:
                    c.fails(command, 4096, length, wanted=(0, EINVAL, EOVERFLOW))


@line
def X13(t):
    """DISC: requests that are outstanding finish, TLS sends its close_notify, and the connection
    ends without a reply. When the server ends, requests under way finish or get ESHUTDOWN."""
    for part in t.modes("DISC"):
        with part as mode, t.ready(mode=mode) as c:
            c.request(DISC)
            c.expect_end()
    for part in t.modes("DISC with requests outstanding"):
        with part as mode, t.ready(mode=mode) as c:
            cookies = {c.request(READ, 0, 65536) for _ in range(8)}
            c.request(DISC)
            while cookies:
                reply = c.reply()
                assert not reply.error, reply.error
                if reply.done:
                    cookies.remove(reply.cookie)
            c.expect_end()
    with t.part("DISC during a read"), t.target.held() as held:
        with Client(held.where, patience=t.target.patience) as c:
            c.go()
            cookie = c.request(READ, 0, 512)
            held.wait_begun()
            c.request(DISC)
            held.let_go()
            assert c.result(cookie) == 0
            c.expect_end()
        held.end()
    with t.part("TLS"), t.client("tls") as c:
        c.starttls()
        c.go()
        c.request(DISC)
        c.expect_end()  # without close_notify: ssl.SSLEOFError, or a reset
    with t.part("the server's end"), contextlib.ExitStack() as stack:
        held = stack.enter_context(t.target.held())
        c = stack.enter_context(Client(held.where, patience=t.target.patience))
        c.go()
        under_way = c.request(READ, 0, 512)
        held.wait_begun()
        held.end()
        held.let_go()
        assert c.result(under_way) in (0, ESHUTDOWN)


@line
def X14(t):
    """Ours: the export of a view with `discard` has TRIM but not READ_ONLY, because libnbd refuses
    TRIM if READ_ONLY is set. WRITE and WRITE_ZEROES get EPERM."""
    t.ours()
    for part in t.modes("discard"):
        with part as mode, t.ready("discard", mode) as c:
            assert c.eflags & SEND_TRIM and not c.eflags & (READ_ONLY | SEND_WRITE_ZEROES)
            for command in WRITE, WRITE_ZEROES:
                c.fails(command, 0, 4096, wanted=EPERM)
            c.works(TRIM, 65536, 65536)
    with t.part("without discard"), t.ready("backup") as c:
        assert c.eflags & READ_ONLY and not c.eflags & SEND_TRIM
        c.fails(TRIM, 0, 4096, wanted=EPERM)
