# SPDX-License-Identifier: BSD-3-Clause
"""An NBD server of which a test decides every answer, for tests of clients.

    class Odd(Export):
        def status(self, c, r):
            c.status(r, {"base:allocation": [(4096, 0)]})

    with FakeServer(Odd(size=1 << 20)) as server:
        run(..., server.uri)

An Export's methods are called on the thread of each connection; by default they answer as they
should. An exception of kind Gone ends the connection. Everything that comes is noted in
`server.requests`, as (connection, Request), and `server.connections` counts.
"""

import collections
import contextlib
import os
import random
import socket
import struct
import threading

from fleece import SOON, tmpdir, uri
from rawnbd import *

ALLOCATION = "base:allocation"
PLAIN_FLAGS = (HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES | SEND_DF |
               CAN_MULTI_CONN)

Request = collections.namedtuple("Request", "flags kind cookie offset length data")


class Gone(Exception):
    """Raised by an Export: the connection ends here."""


def pattern(size, seed=1):
    """Bytes that differ everywhere."""
    return bytearray(random.Random(seed).randbytes(size))


class Export:
    """A disk in memory. `contexts`: {name: [(length, flags)]}, which cover the disk."""

    structured = True
    blocks = None  # (minimum, preferred, maximum)

    def __init__(self, size=1 << 20, flags=PLAIN_FLAGS, contexts=None, name="", data=None):
        self.size, self.flags, self.name = size, flags, name
        self.contexts = {ALLOCATION: [(size, 0)]} if contexts is None else contexts
        self.data = data if data is not None else pattern(size)

    def accepted(self, c):
        """A connection has come, c.number from 0. Raise Gone, or wait, to keep it out."""

    def option(self, c, option, data):
        """True: the option has been answered here."""
        return False

    def ready(self, c):
        """The transmission phase begins."""

    def request(self, c, r):
        {READ: self.read, WRITE: self.write, FLUSH: self.flush, TRIM: self.trim,
         WRITE_ZEROES: self.zero, BLOCK_STATUS: self.status}[r.kind](c, r)

    def read(self, c, r):
        c.answer(r, self.data[r.offset:r.offset + r.length])

    def write(self, c, r):
        self.data[r.offset:r.offset + r.length] = r.data
        c.done(r)

    def zero(self, c, r):
        self.data[r.offset:r.offset + r.length] = bytes(r.length)
        c.done(r)

    def trim(self, c, r):
        c.done(r)

    def flush(self, c, r):
        c.done(r)

    def extents(self, name, offset, length):
        """Those of a context that meet a range, cut to it."""
        position, found = 0, []
        for extent, flags in self.contexts[name]:
            start, end = max(position, offset), min(position + extent, offset + length)
            if start < end:
                found.append((end - start, flags))
            position += extent
        return found

    def status(self, c, r):
        c.status(r, {name: self.extents(name, r.offset, r.length) for name in c.contexts})


class Connection:
    def __init__(self, server, sock, number):
        self.server, self.socket, self.number = server, sock, number
        self.export = None
        self.structured = False
        self.contexts = {}  # name -> number
        self.lock = threading.Lock()

    # ---- bytes ----

    def send(self, data):
        with self.lock:
            self.socket.sendall(data)

    def receive(self, count):
        data = bytearray()
        while len(data) < count:
            got = self.socket.recv(count - len(data))
            if not got:
                raise Gone
            data += got
        return bytes(data)

    # ---- answers ----

    def simple(self, r, error=0, data=b""):
        self.send(struct.pack(">IIQ", SIMPLE_MAGIC, error, r.cookie) + data)

    def chunk(self, r, kind, payload=b"", flags=DONE, length=None):
        """`length`: what the header says, if that is not the payload's."""
        self.send(struct.pack(">IHHQI", CHUNK_MAGIC, flags, kind, r.cookie,
                              len(payload) if length is None else length) + payload)

    def data(self, r, offset, data, flags=DONE):
        self.chunk(r, TYPE_DATA, struct.pack(">Q", offset) + bytes(data), flags)

    def answer(self, r, data):
        """All of a read."""
        if self.structured:
            self.data(r, r.offset, data)
        else:
            self.simple(r, 0, bytes(data))

    def done(self, r, error=0):
        if error and self.structured:
            self.chunk(r, TYPE_ERROR, struct.pack(">IH", error, 0))
        elif self.structured:
            self.chunk(r, TYPE_NONE)
        else:
            self.simple(r, error)

    def extents(self, r, name, extents, flags=0):
        """A chunk of a context, or of one that was not negotiated, by number."""
        number = name if isinstance(name, int) else self.contexts[name]
        self.chunk(r, TYPE_STATUS, struct.pack(">I", number) +
                   b"".join(struct.pack(">II", *e) for e in extents), flags)

    def status(self, r, contexts, error=0):
        """Chunks in the order of the dict, then the end."""
        for name, extents in contexts.items():
            self.extents(r, name, extents)
        self.done(r, error)

    def reply(self, option, kind, payload=b""):
        self.send(struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, len(payload)) + payload)

    # ---- handshake ----

    def handshake(self):
        """True once the transmission phase has begun."""
        self.send(struct.pack(">QQH", INIT_MAGIC, OPTION_MAGIC, FIXED_NEWSTYLE | NO_ZEROES))
        self.receive(4)
        while True:
            _, option, length = struct.unpack(">QII", self.receive(16))
            data = self.receive(length)
            export = self.server.export
            if export.option(self, option, data):
                continue
            if option == OPT_ABORT:
                self.reply(option, REP_ACK)
                return False
            answer = {OPT_STRUCTURED_REPLY: self.opt_structured, OPT_LIST: self.opt_list,
                      OPT_LIST_META: self.opt_meta, OPT_SET_META: self.opt_meta,
                      OPT_GO: self.opt_go}.get(option)
            if not answer:
                self.reply(option, ERR_UNSUP)
            elif answer(option, data):
                return True

    def opt_structured(self, option, data):
        self.structured = self.server.export.structured
        self.reply(option, REP_ACK if self.structured else ERR_UNSUP)

    def opt_list(self, option, data):
        name = self.server.export.name.encode()
        self.reply(option, REP_SERVER, struct.pack(">I", len(name)) + name)
        self.reply(option, REP_ACK)

    def opt_meta(self, option, data):
        export = self.server.export
        at = 4 + struct.unpack_from(">I", data)[0]
        count, = struct.unpack_from(">I", data, at)
        at += 4
        queries = []
        for _ in range(count):
            length, = struct.unpack_from(">I", data, at)
            queries.append(data[at + 4:at + 4 + length].decode())
            at += 4 + length
        chosen = [n for n in export.contexts if n in queries or (not count and option == OPT_LIST_META)]
        if option == OPT_SET_META:
            self.contexts = {n: i + 7 for i, n in enumerate(chosen)}
        for i, name in enumerate(chosen):
            self.reply(option, REP_META, struct.pack(">I", i + 7) + name.encode())
        self.reply(option, REP_ACK)

    def opt_go(self, option, data):
        export = self.server.export
        length, = struct.unpack_from(">I", data)
        if data[4:4 + length].decode() != export.name:
            self.reply(option, ERR_UNKNOWN)
            return False
        self.export = export
        self.reply(option, REP_INFO, struct.pack(">HQH", INFO_EXPORT, export.size, export.flags))
        if export.blocks:
            self.reply(option, REP_INFO, struct.pack(">HIII", INFO_BLOCK_SIZE, *export.blocks))
        self.reply(option, REP_ACK)
        return True

    # ---- transmission ----

    def serve(self):
        self.server.export.accepted(self)
        if not self.handshake():
            return
        self.export.ready(self)
        while True:
            magic, flags, kind, cookie, offset, length = struct.unpack(
                ">IHHQQI", self.receive(28))
            if kind == DISC:
                return
            data = self.receive(length) if kind == WRITE else b""
            r = Request(flags, kind, cookie, offset, length, data)
            with self.server.lock:
                self.server.requests.append((self, r))
                self.server.changed.notify_all()
            self.export.request(self, r)


class FakeServer(contextlib.AbstractContextManager):
    """It listens on a Unix socket in a folder of its own, or on TCP. `export` may be replaced at any time: who
    is connected keeps his."""

    def __init__(self, export, backlog=64, tcp=False):
        self.export, self.tcp = export, tcp
        self.backlog = backlog
        self.requests, self.connections = [], 0
        self.lock = threading.Lock()  # of what follows, and of the two above
        self.changed = threading.Condition(self.lock)
        self._open = set()
        self._threads = []

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        self.folder = self._stack.enter_context(tmpdir())
        self.path = f"{self.folder}/s"
        self.listen()
        self.uri = uri(self.export.name, unix=self.path)
        if self.tcp:
            self.port = self.listener.getsockname()[1]
            self.uri = uri(self.export.name, host="127.0.0.1", port=self.port)
        return self

    def __exit__(self, *_):
        self.stop()
        # Those that are left when Python ends may crash it.
        for t in self._threads:
            t.join(SOON)
            assert not t.is_alive(), "a connection does not end"
        self._stack.close()

    def _start(self, function, *args):
        thread = threading.Thread(target=function, args=args, daemon=True)
        with self.lock:
            self._threads.append(thread)
        thread.start()

    def listen(self):
        """Listen, again."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_INET if self.tcp else socket.AF_UNIX)
        self.listener.bind(("127.0.0.1", 0) if self.tcp else self.path)
        self.listener.listen(self.backlog)
        self._start(self._accept, self.listener)

    def wait_requests(self, count, kind=None):
        """Wait until so many requests have come."""
        with self.lock:
            assert self.changed.wait_for(
                lambda: sum(kind is None or r.kind == kind for _, r in self.requests) >= count,
                SOON), self.requests

    def wait_connections(self, count):
        """Wait until so many connections have come."""
        with self.lock:
            assert self.changed.wait_for(lambda: self.connections >= count, SOON)

    def stop(self):
        """Stop listening, and end all connections."""
        with self.lock:
            listener, self.listener = self.listener, None
        if listener:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop()

    def drop(self):
        """End all connections."""
        with self.lock:
            for s in self._open:
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener):
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                if self.listener is not listener:  # it has been stopped meanwhile
                    s.close()
                    return
                number = self.connections
                self.connections += 1
                self._open.add(s)
                self.changed.notify_all()
            self._start(self._serve, s, number)

    def _serve(self, s, number):
        try:
            Connection(self, s, number).serve()
        except (Gone, OSError):
            pass
        finally:
            with self.lock:
                self._open.discard(s)
            s.close()
