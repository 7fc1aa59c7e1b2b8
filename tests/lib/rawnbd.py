# SPDX-License-Identifier: BSD-3-Clause
"""A raw NBD client. It sends what the test tells it to send, right or wrong, and checks strictly
what comes back. It uses no client library, which could hide a mistake of either side.

    c = Client(path)                  # or (host, port), or a connected socket; greets with flags 3
    c.structured()
    c.set_contexts("vda", "base:allocation")     # {"base:allocation": 0}
    c.go("vda")
    c.request(READ, 0, 4096)          # a cookie
    r = c.reply()                     # one message, or:
    c.read(0, 4096)                   # request, all of its reply, checked

c.extended() instead of c.structured() gives the same with extended headers.
"""

import socket
import struct

INIT_MAGIC = 0x4E42444D41474943
OPTION_MAGIC = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
EXTENDED_REQUEST_MAGIC = 0x21E41C71
SIMPLE_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF
EXTENDED_CHUNK_MAGIC = 0x6E8A278C

FIXED_NEWSTYLE, NO_ZEROES = 1, 2

(OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_PEEK, OPT_STARTTLS, OPT_INFO, OPT_GO,
 OPT_STRUCTURED_REPLY, OPT_LIST_META, OPT_SET_META, OPT_EXTENDED_HEADERS) = range(1, 12)

REP_ACK, REP_SERVER, REP_INFO, REP_META = 1, 2, 3, 4
(ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_PLATFORM, ERR_TLS_REQD, ERR_UNKNOWN, ERR_SHUTDOWN,
 ERR_BLOCK_SIZE_REQD, ERR_TOO_BIG, ERR_EXT_HEADER_REQD) = range(0x80000001, 0x8000000B)

INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = range(4)

(HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, ROTATIONAL, SEND_TRIM, SEND_WRITE_ZEROES, SEND_DF,
 CAN_MULTI_CONN, SEND_RESIZE, SEND_CACHE, SEND_FAST_ZERO, BLOCK_STATUS_PAYLOAD) = (
     1 << i for i in range(13))

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
COMMANDS = (READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS)

FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << i for i in range(6))

DONE = 1
TYPE_NONE, TYPE_DATA, TYPE_HOLE, TYPE_STATUS, TYPE_STATUS_EXT = 0, 1, 2, 5, 6
TYPE_ERROR, TYPE_ERROR_OFFSET = 0x8001, 0x8002

EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = (
    1, 5, 12, 22, 28, 75, 95, 108)
ERRORS = (EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN)

MAX_PAYLOAD = 32 << 20  # every server takes this much
OUR_MAX_PAYLOAD = 64 << 20
SOON = 60  # seconds


class Closed(Exception):
    """The server has closed the connection."""


class Reply:
    """One message of the transmission phase: a simple reply, or a chunk."""

    def __init__(self, cookie, simple=False, flags=0, type=None, error=0, data=b"", offset=None,
                 context=None, extents=None, message=None):
        self.cookie, self.simple, self.flags, self.type = cookie, simple, flags, type
        self.error, self.data, self.offset = error, data, offset
        self.context, self.extents, self.message = context, extents, message

    @property
    def done(self):
        return self.simple or bool(self.flags & DONE)

    def __repr__(self):
        return f"Reply({vars(self)})"


def connect(where):
    if isinstance(where, socket.socket):
        s = where
    elif isinstance(where, tuple):
        s = socket.create_connection(where, SOON)
    else:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(SOON)
        s.connect(where)
    s.settimeout(SOON)
    return s


class Client:
    """One connection. Attributes after go(): size, eflags, infos {type: payload}."""

    def __init__(self, where, flags=FIXED_NEWSTYLE | NO_ZEROES):
        """where: as for connect(), or an object that is connected already. flags: None sends and
        receives nothing yet."""
        self.socket = where if hasattr(where, "recv") else connect(where)
        self.is_structured = self.is_extended = False
        self.contexts = {}
        self._cookie = 0
        self._asked = {}  # cookie -> (type, offset, length) of requests under way
        if flags is not None:
            self.greet(flags)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    # ---- bytes ----

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, n):
        data = bytearray()
        while len(data) < n:
            try:
                # Python allocates all that is asked for, and TLS returns one record at a time.
                piece = self.socket.recv(min(n - len(data), 1 << 18))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise Closed(f"{len(data)} of {n} bytes came")
            data += piece
        return bytes(data)

    def unpack(self, form):
        return struct.unpack(form, self.receive(struct.calcsize(form)))

    def expect_end(self):
        """The server closes the connection and sends nothing before."""
        try:
            data = self.socket.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            return
        assert data == b"", f"the end expected, got {data!r}"

    def nothing_comes(self):
        """Nothing has come that was not received. To be called after the reply to a later request,
        so that what must not come would be here by now."""
        self.socket.setblocking(False)
        try:
            data = self.socket.recv(4096)
            raise AssertionError(f"unexpected: {data!r}" if data else "closed")
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(SOON)

    # ---- handshake ----

    def greet(self, flags=FIXED_NEWSTYLE | NO_ZEROES):
        magic, option_magic, self.handshake_flags = self.unpack(">QQH")
        assert magic == INIT_MAGIC and option_magic == OPTION_MAGIC
        self.send(struct.pack(">I", flags))

    def send_option(self, option, data=b"", length=None):
        self.send(struct.pack(">QII", OPTION_MAGIC, option,
                              len(data) if length is None else length) + data)

    def option_reply(self, option):
        """One reply: (type, payload)."""
        magic, for_option, type, length = self.unpack(">QIII")
        assert magic == OPTION_REPLY_MAGIC, hex(magic)
        assert for_option == option, f"reply to option {for_option} instead of {option}"
        assert length < 1 << 20, length
        payload = self.receive(length)
        if type & 0x80000000:
            assert len(payload) <= 4096
            payload.decode()
        elif type == REP_ACK:
            assert payload == b""
        return type, payload

    def option(self, option, data=b"", length=None):
        """Send an option and receive all its replies: (final type, [(type, payload) before it])."""
        self.send_option(option, data, length)
        replies = []
        while True:
            type, payload = self.option_reply(option)
            if type == REP_ACK or type & 0x80000000:
                self.message = payload.decode()
                return type, replies
            replies.append((type, payload))

    def structured(self):
        final, replies = self.option(OPT_STRUCTURED_REPLY)
        assert (final, replies) == (REP_ACK, []), hex(final)
        self.is_structured = True

    def extended(self):
        final, replies = self.option(OPT_EXTENDED_HEADERS)
        assert (final, replies) == (REP_ACK, []), hex(final)
        self.is_structured = self.is_extended = True

    def list(self):
        """[(name, description)]"""
        final, replies = self.option(OPT_LIST)
        assert final == REP_ACK
        exports = []
        for type, payload in replies:
            assert type == REP_SERVER
            n, = struct.unpack_from(">I", payload)
            assert n <= len(payload) - 4
            exports.append((payload[4:4 + n].decode(), payload[4 + n:].decode()))
        return exports

    @staticmethod
    def go_data(name, infos=()):
        name = name.encode() if isinstance(name, str) else name
        return (struct.pack(">I", len(name)) + name + struct.pack(">H", len(infos)) +
                b"".join(struct.pack(">H", i) for i in infos))

    def info(self, name="", infos=(), option=OPT_INFO):
        """The final type. On success sets self.size, eflags and infos."""
        final, replies = self.option(option, self.go_data(name, infos))
        self.infos = {}
        for type, payload in replies:
            assert type == REP_INFO, type
            which, = struct.unpack_from(">H", payload)
            assert which not in self.infos, f"info {which} twice"
            self.infos[which] = payload[2:]
        if final == REP_ACK:
            assert len(self.infos[INFO_EXPORT]) == 10
            self.size, self.eflags = struct.unpack(">QH", self.infos[INFO_EXPORT])
        return final

    def go(self, name="", infos=()):
        final = self.info(name, infos, OPT_GO)
        assert final == REP_ACK, f"{hex(final)}: {self.message}"
        return self

    def export_name(self, name="", zeroes=False):
        self.send_option(OPT_EXPORT_NAME, name.encode())
        self.size, self.eflags = self.unpack(">QH")
        if zeroes:
            assert self.receive(124) == bytes(124)
        return self

    @staticmethod
    def meta_data(name, *queries):
        data = b""
        for s in (name, None) + queries:
            if s is None:
                data += struct.pack(">I", len(queries))
            else:
                s = s.encode() if isinstance(s, str) else s
                data += struct.pack(">I", len(s)) + s
        return data

    def meta(self, option, name, *queries):
        """The final type and [(id, context)]."""
        final, replies = self.option(option, self.meta_data(name, *queries))
        contexts = []
        for type, payload in replies:
            assert type == REP_META
            contexts.append((struct.unpack_from(">I", payload)[0], payload[4:].decode()))
        return final, contexts

    def list_contexts(self, name, *queries):
        """The names, in the server's order."""
        final, contexts = self.meta(OPT_LIST_META, name, *queries)
        assert final == REP_ACK, hex(final)
        assert all(id == 0 for id, _ in contexts), "ids are 0 in LIST"
        return [context for _, context in contexts]

    def set_contexts(self, name, *queries):
        """{name: id}"""
        final, contexts = self.meta(OPT_SET_META, name, *queries)
        assert final == REP_ACK, hex(final)
        assert len({id for id, _ in contexts}) == len(contexts), "ids are unique"
        self.contexts = {context: id for id, context in contexts}
        assert len(self.contexts) == len(contexts), "a context is given once"
        return self.contexts

    # ---- transmission ----

    def request(self, type, offset=0, length=0, flags=0, cookie=None, data=b"", magic=None):
        """Send a request and return its cookie. With extended headers a write with data gets
        PAYLOAD_LEN."""
        if cookie is None:
            self._cookie += 1
            cookie = self._cookie
        self._asked[cookie] = type, offset, length
        if self.is_extended and type == WRITE and data:
            flags |= PAYLOAD_LEN
        form = ">IHHQQQ" if self.is_extended else ">IHHQQI"
        if magic is None:
            magic = EXTENDED_REQUEST_MAGIC if self.is_extended else REQUEST_MAGIC
        self.send(struct.pack(form, magic, flags, type, cookie, offset, length) + data)
        return cookie

    def request_filtered(self, offset, length, ids, flags=0):
        """Send a BLOCK_STATUS for these contexts alone (extended headers), and return its
        cookie."""
        data = struct.pack(">Q", length) + b"".join(struct.pack(">I", i) for i in ids)
        return self.request(BLOCK_STATUS, offset, len(data), flags | PAYLOAD_LEN, data=data)

    def reply(self):
        """The next message."""
        magic, = self.unpack(">I")
        if self.is_extended:
            assert magic == EXTENDED_CHUNK_MAGIC, hex(magic)
            reply = self._chunk()
        elif magic == SIMPLE_MAGIC:
            error, cookie = self.unpack(">IQ")
            type, _, length = self._asked[cookie]
            assert not (self.is_structured and type in (READ, BLOCK_STATUS)), "simple reply to READ"
            data = self.receive(length) if type == READ and error == 0 else b""
            reply = Reply(cookie, simple=True, error=error, data=data)
        else:
            assert magic == CHUNK_MAGIC, hex(magic)
            assert self.is_structured, "a chunk, but structured replies were not negotiated"
            reply = self._chunk()
        assert reply.error == 0 or reply.error in ERRORS, f"error {reply.error} on the wire"
        return reply

    def _chunk(self):
        if self.is_extended:
            flags, type, cookie, offset, length = self.unpack(">HHQQQ")
        else:
            flags, type, cookie, length = self.unpack(">HHQI")
        assert cookie in self._asked, f"nobody asked with cookie {cookie}"
        if self.is_extended:
            assert offset == self._asked[cookie][1], f"the request's offset is not {offset}"
            assert length <= OUR_MAX_PAYLOAD + 8, length
        payload = self.receive(length)
        reply = Reply(cookie, flags=flags, type=type)
        assert flags in (0, DONE)
        if type == TYPE_NONE:
            assert length == 0 and flags & DONE
        elif type == TYPE_DATA:
            assert length >= 9
            reply.offset, = struct.unpack_from(">Q", payload)
            reply.data = payload[8:]
        elif type == TYPE_HOLE:
            assert length == 12
            reply.offset, n = struct.unpack(">QI", payload)
            assert n > 0
            reply.data = bytes(n)
        elif type == TYPE_STATUS_EXT:
            assert self.is_extended and length >= 24
            reply.context, count = struct.unpack_from(">II", payload)
            assert length == 8 + 16 * count
            reply.extents = list(struct.iter_unpack(">QQ", payload[8:]))
        elif type == TYPE_STATUS:
            assert not self.is_extended
            assert length >= 12 and (length - 4) % 8 == 0
            reply.context, = struct.unpack_from(">I", payload)
            reply.extents = list(struct.iter_unpack(">II", payload[4:]))
        else:
            assert type in (TYPE_ERROR, TYPE_ERROR_OFFSET), hex(type)
            reply.error, n = struct.unpack_from(">IH", payload)
            assert reply.error != 0 and n <= 4096
            assert length == 6 + n + (8 if type == TYPE_ERROR_OFFSET else 0)
            reply.message = payload[6:6 + n].decode()
            if type == TYPE_ERROR_OFFSET:
                reply.offset, = struct.unpack_from(">Q", payload, 6 + n)
        return reply

    def replies(self, cookie):
        """All messages that answer one request. No other request may be under way."""
        messages = []
        while not messages or not messages[-1].done:
            messages.append(self.reply())
            assert messages[-1].cookie == cookie
        return messages

    def result(self, cookie):
        """The error that a request ended with, 0 for success."""
        errors = [m.error for m in self.replies(cookie) if m.error]
        return errors[0] if errors else 0

    def do(self, type, offset=0, length=0, flags=0, data=b""):
        """Send a request and return its result."""
        if type == WRITE and not data:
            data = bytes(length)
        return self.result(self.request(type, offset, length, flags, data=data))

    def read(self, offset, length, flags=0):
        """Read, check the chunks, and return the data."""
        messages = self.replies(self.request(READ, offset, length, flags))
        assert not any(m.error for m in messages), messages
        if messages[0].simple:
            return messages[0].data
        data, covered = bytearray(length), []
        for m in messages:
            if m.type in (TYPE_DATA, TYPE_HOLE):
                assert offset <= m.offset and m.offset + len(m.data) <= offset + length
                covered.append((m.offset, m.offset + len(m.data)))
                data[m.offset - offset:m.offset - offset + len(m.data)] = m.data
            else:
                assert m.type == TYPE_NONE
        covered.sort()
        position = offset
        for begin, end in covered:
            assert begin == position, "chunks overlap, or leave a gap"
            position = end
        assert position == offset + length, "chunks do not cover the request"
        if flags & DF:
            assert len(covered) <= 1
        return bytes(data)

    def write(self, offset, data, flags=0):
        error = self.do(WRITE, offset, len(data), flags, data)
        assert error == 0, error

    def block_status(self, offset, length, flags=0):
        """{context name: [(length, flags)]}; checks the chunks."""
        return self._status(self.request(BLOCK_STATUS, offset, length, flags), length, flags,
                            self.contexts)

    def filtered_status(self, offset, length, names, flags=0):
        """Like block_status(), for these contexts alone."""
        ids = [self.contexts[name] for name in names]
        return self._status(self.request_filtered(offset, length, ids, flags), length, flags, names)

    def _status(self, cookie, length, flags, expected):
        messages = self.replies(cookie)
        assert not any(m.error for m in messages), messages
        names = {id: name for name, id in self.contexts.items()}
        status = {}
        for m in messages:
            if m.type == TYPE_NONE:
                continue
            assert m.type in (TYPE_STATUS, TYPE_STATUS_EXT)
            assert names[m.context] not in status, "two chunks for one context"
            assert m.extents and all(n > 0 for n, _ in m.extents)
            assert sum(n for n, _ in m.extents[:-1]) < length
            assert all(a[1] != b[1] for a, b in zip(m.extents, m.extents[1:])), "unmerged"
            status[names[m.context]] = m.extents
        assert set(status) == set(expected)
        if flags & REQ_ONE:
            assert all(len(e) == 1 and e[0][0] <= length for e in status.values())
        return status

    def map(self, name, offset, length, at_a_time=None):
        """One context's whole map, merged: [(length, flags)]."""
        result, end = [], offset + length
        while offset < end:
            n = min(end - offset, at_a_time or (end if self.is_extended else (1 << 32) - (1 << 16)))
            for size, flags in self.block_status(offset, n)[name]:
                if result and result[-1][1] == flags:
                    result[-1] = (result[-1][0] + size, flags)
                else:
                    result.append((size, flags))
                offset += size
        return result

    def in_step(self):
        """The stream is in step: the answer to a small request comes next."""
        assert self.do(CACHE if self.eflags & SEND_CACHE else READ, 0, min(self.size, 512)) == 0
