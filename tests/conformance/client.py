# SPDX-License-Identifier: BSD-3-Clause
"""The raw client of the conformance suite: rawnbd's handshake, and a transmission phase of its own
in all three forms (simple, structured, extended). It sends what it is told to, right or wrong. It
takes replies apart and checks their form; the lines check whether they are what the protocol asks
for. No NBD library is involved.

    where = Where.from_uri("nbd+unix:///vda?socket=/tmp/sock")
    with Client(where) as c:
        c.negotiate("extended", contexts=["base:allocation"])
        c.go()                       # where.export
        c.read(0, 4096)
"""

import os
import ssl
import struct
import sys
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in "../lib", ".":
    sys.path.insert(0, os.path.normpath(os.path.join(HERE, folder)))

import rawnbd  # noqa: E402
from rawnbd import *  # noqa: E402,F401,F403
from rawnbd import (  # noqa: E402
    BLOCK_STATUS, CHUNK_MAGIC, DF, DONE, ERRORS, FIXED_NEWSTYLE, FLUSH, INFO_BLOCK_SIZE, NO_ZEROES,
    OPT_EXTENDED_HEADERS, OPT_STARTTLS, PAYLOAD_LEN, READ, REP_ACK, REQUEST_MAGIC, SIMPLE_MAGIC,
    SOON, TYPE_DATA, TYPE_ERROR, TYPE_ERROR_OFFSET, TYPE_HOLE, TYPE_NONE, TYPE_STATUS, WRITE, Reply)

EXTENDED_REQUEST_MAGIC = 0x21E41C71
EXTENDED_REPLY_MAGIC = 0x6E8A278C
TYPE_STATUS_EXT = 6
OPT_FIRST_UNKNOWN = 12

HOLE, ZERO = 1, 2  # base:allocation
ALLOCATION = "base:allocation"
DIRTY = "qemu:dirty-bitmap:"

SIMPLE, STRUCTURED, EXTENDED = MODES = ("simple", "structured", "extended")

# A longer chunk is refused, so that a wrong length does not make the test receive for ever.
MAX_CHUNK = (64 << 20) + 64


class NotOffered(Exception):
    """The server does not offer `feature`: what needs it does not apply."""

    def __init__(self, feature, why=""):
        super().__init__(f"{feature}: {why}" if why else feature)
        self.feature = feature


class Where:
    """An export: its server's address (path or (host, port)), its name, and for TLS the file with
    the CA's certificate. inside: each client begins with STARTTLS. `more`: what else a line needs
    to know about this export."""

    def __init__(self, address, export="", ca=None, inside=False, **more):
        self.address, self.export, self.ca, self.inside = address, export, ca, inside
        self.more = more

    @classmethod
    def from_uri(cls, uri, ca=None):
        """nbd://host[:port]/export and nbd+unix:///export?socket=path; with TLS nbds instead of
        nbd."""
        parts = urllib.parse.urlsplit(uri)
        export = urllib.parse.unquote(parts.path.removeprefix("/"))
        inside = parts.scheme.startswith("nbds")
        if inside and ca is None:
            raise ValueError(f"{uri}: a CA is needed")
        if parts.scheme in ("nbd", "nbds"):
            address = parts.hostname or "localhost", parts.port or 10809
        elif parts.scheme in ("nbd+unix", "nbds+unix"):
            query = urllib.parse.parse_qs(parts.query)
            if "socket" not in query:
                raise ValueError(f"{uri}: ?socket=PATH is missing")
            address = query["socket"][0]
        else:
            raise ValueError(f"{uri}: neither nbd nor nbds, nor these with +unix")
        return cls(address, export, ca, inside)


class Client(rawnbd.Client):
    """One connection to a Where. `block`: the alignment that its owner keeps to (in_step())."""

    def __init__(self, where, flags=FIXED_NEWSTYLE | NO_ZEROES, patience=SOON):
        super().__init__(where.address, None)
        self.socket.settimeout(patience)
        self.where, self.export = where, where.export
        self.is_extended = False
        self.block = where.more.get("block", 1)
        if flags is not None:
            self.greet(flags)
            if where.inside and not flags & ~self.handshake_flags:
                self.starttls()

    # ---- handshake ----

    def extended(self):
        """Agree on extended headers; NotOffered where the server does not know them."""
        final, replies = self.option(OPT_EXTENDED_HEADERS)
        if final in (rawnbd.ERR_UNSUP, rawnbd.ERR_POLICY):
            raise NotOffered("extended-headers")
        assert (final, replies) == (REP_ACK, []), f"EXTENDED_HEADERS: {final:#x}"
        self.is_extended = self.is_structured = True

    def negotiate(self, mode, contexts=()):
        """Agree on a mode of replies, and on contexts for our export, all of which the server must
        have."""
        if mode == STRUCTURED:
            self.structured()
        elif mode == EXTENDED:
            self.extended()
        if contexts:
            got = self.set_contexts(self.export, *contexts)
            assert set(got) == set(contexts), f"contexts: {got}, {contexts} asked for"
        return self

    def go(self, name=None, infos=(INFO_BLOCK_SIZE,)):
        return super().go(self.export if name is None else name, infos)

    def is_gone(self, option, data=b""):
        """Send an option after which the server must hang up."""
        self.send_option(option, data)
        self.expect_end()

    def starttls(self, ca=None, version=None):
        """STARTTLS and the TLS handshake; all that follows is sent inside TLS. `version`: the only
        ssl.TLSVersion that the client offers."""
        final, _ = self.option(OPT_STARTTLS)
        if final in (rawnbd.ERR_UNSUP, rawnbd.ERR_POLICY):
            raise NotOffered("tls")
        assert final == REP_ACK, f"STARTTLS: {final:#x}"
        self.tls_handshake(ca or self.where.ca, version)

    def tls_handshake(self, ca, version=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(ca)
        if version:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # so that OpenSSL lets us try 1.1
            context.minimum_version = context.maximum_version = version
        # With this, an end without a close_notify raises SSLEOFError.
        self.socket = context.wrap_socket(self.socket, suppress_ragged_eofs=False)

    # ---- requests ----

    def request(self, type, offset=0, length=0, flags=0, cookie=None, data=b"", magic=None):
        """As rawnbd's; in extended mode each WRITE gets PAYLOAD_LEN."""
        if self.is_extended and type == WRITE:
            flags |= PAYLOAD_LEN
        return self.exact_request(type, offset, length, flags, cookie, data, magic)

    def exact_request(self, type, offset=0, length=0, flags=0, cookie=None, data=b"", magic=None):
        """A request with exactly these flags and this data, which may be wrong."""
        if cookie is None:
            self._cookie += 1
            cookie = self._cookie
        self._asked[cookie] = type, offset, length
        header = (struct.pack(">IHHQQQ", magic or EXTENDED_REQUEST_MAGIC, flags, type, cookie,
                              offset, length) if self.is_extended else
                  struct.pack(">IHHQQI", magic or REQUEST_MAGIC, flags, type, cookie, offset,
                              length))
        self.send(header + data)
        return cookie

    # ---- replies ----

    def reply(self):
        """The next message, taken apart."""
        magic, = self.unpack(">I")
        if magic == SIMPLE_MAGIC:
            assert not self.is_extended, "a simple reply in extended mode"
            reply = self._simple()
        elif magic == EXTENDED_REPLY_MAGIC:
            assert self.is_extended, "an extended reply that was not negotiated"
            reply = self._chunk()
        else:
            assert magic == CHUNK_MAGIC, f"reply magic {magic:#x}"
            assert self.is_structured and not self.is_extended, "a chunk that was not negotiated"
            reply = self._chunk()
        assert reply.error == 0 or reply.error in ERRORS, f"error {reply.error} on the wire"
        return reply

    def _simple(self):
        error, cookie = self.unpack(">IQ")
        assert cookie in self._asked, f"nobody asked with cookie {cookie}"
        type, _, length = self._asked[cookie]
        if self.is_structured:
            assert type not in (READ, BLOCK_STATUS) or (type == BLOCK_STATUS and error), (
                "a simple reply where a chunk must be")
        data = self.receive(length) if type == READ and error == 0 else b""
        return Reply(cookie, simple=True, error=error, data=data)

    def _chunk(self):
        if self.is_extended:
            flags, type, cookie, offset, length = self.unpack(">HHQQQ")
        else:
            flags, type, cookie, length = self.unpack(">HHQI")
            offset = None
        assert cookie in self._asked, f"nobody asked with cookie {cookie}"
        if offset is not None:
            assert offset == self._asked[cookie][1], f"header offset {offset} is not the request's"
        assert length <= MAX_CHUNK, f"a chunk of {length} bytes"
        assert flags in (0, DONE), f"chunk flags {flags:#x}"
        reply = Reply(cookie, flags=flags, type=type)
        self._payload(reply, self.receive(length))
        return reply

    def _payload(self, reply, payload):
        """Take the payload of a chunk apart, into its Reply."""
        length = len(payload)
        if reply.type == TYPE_NONE:
            assert length == 0 and reply.flags & DONE, "NONE must be empty, and the last"
        elif reply.type == TYPE_DATA:
            assert length >= 9, f"OFFSET_DATA of {length} bytes"
            reply.offset, = struct.unpack_from(">Q", payload)
            reply.data = payload[8:]
        elif reply.type == TYPE_HOLE:
            assert length == 12, f"OFFSET_HOLE of {length} bytes"
            reply.offset, size = struct.unpack(">QI", payload)
            assert size > 0, "an empty hole"
            reply.data = bytes(size)
        elif reply.type == TYPE_STATUS:
            assert not self.is_extended, "BLOCK_STATUS where BLOCK_STATUS_EXT must be"
            assert length >= 12 and (length - 4) % 8 == 0, f"BLOCK_STATUS of {length} bytes"
            reply.context, = struct.unpack_from(">I", payload)
            reply.extents = list(struct.iter_unpack(">II", payload[4:]))
        elif reply.type == TYPE_STATUS_EXT:
            assert self.is_extended, "BLOCK_STATUS_EXT without extended headers"
            assert length >= 24 and (length - 8) % 16 == 0, f"BLOCK_STATUS_EXT of {length} bytes"
            reply.context, count = struct.unpack_from(">II", payload)
            assert length == 8 + 16 * count, f"count {count} with {length} bytes"
            reply.extents = list(struct.iter_unpack(">QQ", payload[8:]))
        else:
            assert reply.type in (TYPE_ERROR, TYPE_ERROR_OFFSET), f"chunk type {reply.type:#x}"
            self._error(reply, payload)

    def _error(self, reply, payload):
        tail = 8 if reply.type == TYPE_ERROR_OFFSET else 0
        assert len(payload) >= 6 + tail, f"an error chunk of {len(payload)} bytes"
        reply.error, n = struct.unpack_from(">IH", payload)
        assert reply.error != 0, "an error chunk without an error"
        assert n <= 4096 and len(payload) == 6 + n + tail, f"an error message of {n} bytes"
        reply.message = payload[6:6 + n].decode()
        assert "\0" not in reply.message
        if tail:
            reply.offset, = struct.unpack_from(">Q", payload, 6 + n)
            _, offset, length = self._asked[reply.cookie]
            assert offset <= reply.offset < offset + max(length, 1), "offset outside the request"

    # ---- what lines are made of ----

    def nothing_comes(self):
        try:
            super().nothing_comes()
        except ssl.SSLWantReadError:
            pass

    def fails(self, type, offset=0, length=0, flags=0, data=b"", wanted=()):
        """The request ends with one of the errors `wanted`, and the stream is in step after it."""
        error = self.do(type, offset, length, flags, data)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        assert error in wanted, f"error {error}, wanted {' or '.join(map(str, wanted))}"
        self.in_step()

    def works(self, type, offset=0, length=0, flags=0, data=b""):
        """The request succeeds, and the stream is in step after it."""
        error = self.do(type, offset, length, flags, data)
        assert error == 0, f"error {error}"
        self.in_step()

    def in_step(self):
        """The stream is in step: a small read is answered, with success."""
        length = min(self.size, max(512, self.block))
        error = self.do(READ, 0, length) if length else self.do(FLUSH)
        assert error == 0, f"the next request fails with {error}"

    def status(self, offset, length, flags=0, data=b"", contexts=None):
        """A BLOCK_STATUS that must succeed: {context: [(length, flags)]}. The rules that hold for
        every reply (B1, B2) are checked here. `contexts`: the names that must be answered; without
        it, all that are selected."""
        messages = self.replies(self.exact_request(BLOCK_STATUS, offset, len(data) or length,
                                                   flags, data=data))
        assert not any(m.error for m in messages), f"error {[m.error for m in messages]}"
        names = {id: name for name, id in self.contexts.items()}
        found = {}
        for m in messages:
            if m.type == TYPE_NONE:
                continue
            assert m.type in (TYPE_STATUS, TYPE_STATUS_EXT), f"chunk type {m.type}"
            assert m.context in names, f"context id {m.context} was not selected"
            assert names[m.context] not in found, f"two chunks for {names[m.context]}"
            found[names[m.context]] = m.extents
        assert set(found) == set(contexts or self.contexts), f"answered: {list(found)}"
        for name, extents in found.items():
            assert all(n > 0 for n, _ in extents), f"{name}: an empty extent"
            assert sum(n for n, _ in extents[:-1]) < length, f"{name}: extents behind the request"
            assert len(extents) <= 1 << 20, f"{name}: {len(extents)} extents"
            assert all(flag >> 32 == 0 for _, flag in extents), f"{name}: more than 32 bits"
            if flags & rawnbd.REQ_ONE:
                assert len(extents) == 1, f"{name}: {len(extents)} extents, one asked for"
                assert extents[0][0] <= length, f"{name}: {extents[0]} is longer than {length}"
        return found

    def block_status(self, offset, length, flags=0):
        return self.status(offset, length, flags)


def not_fragmented(messages):
    """The content chunk of a reply to a READ with DF, None if there is none. More than one is an
    error."""
    content = [m for m in messages if m.type in (TYPE_DATA, TYPE_HOLE)]
    assert len(content) <= 1, f"{len(content)} content chunks with DF"
    return content[0] if content else None
