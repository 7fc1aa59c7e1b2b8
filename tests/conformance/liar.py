# SPDX-License-Identifier: BSD-3-Clause
"""A server that lies: a proxy in front of a good server changes single messages. The checker must
notice each lie (test-checker.py).

The proxy follows both directions: the handshake until GO or EXPORT_NAME succeeds, then requests and
replies, compact or extended. It shows each message to a Lie, and sends on what the Lie gives back.
"""

import contextlib
import os
import socket
import struct
import threading

import rawnbd
from client import EXTENDED_REPLY_MAGIC, EXTENDED_REQUEST_MAGIC, Where
from targets import Target


class Lie:
    """Each method gets a message and gives what is sent on in its place. In this class that is the
    message itself: the truth. An exception ends the connection."""

    def greeting(self, flags):
        return flags

    def client_flags(self, flags):
        return flags

    def option_reply(self, option, data, kind, payload):
        """data: what came with the option. Give [(option, kind, payload)]."""
        return [(option, kind, payload)]

    def export_name(self, answer):
        return answer

    def request(self, flags, kind, offset, length):
        """Give (flags, kind, offset, length), or None: the server never hears of it."""
        return flags, kind, offset, length

    def simple(self, request, error, cookie, data):
        """request: (flags, kind, offset, length), as the client sent it. Give the sum of some
        simple() and chunk()."""
        return simple(error, cookie, data)

    def chunk(self, request, flags, kind, cookie, payload):
        return chunk(flags, kind, cookie, payload)

    def offset(self, offset):
        """The offset in the header of an extended reply."""
        return offset


def simple(error, cookie, data=b""):
    """A list of one simple reply."""
    return [("simple", error, cookie, data)]


def chunk(flags, kind, cookie, payload):
    """A list of one chunk, structured or extended."""
    return [("chunk", flags, kind, cookie, payload)]


class _Connection:
    """One client's connection: a thread for each direction."""

    def __init__(self, client, server, lie):
        self.client, self.server, self.lie = client, server, lie
        self.asked = {}  # cookie: (flags, kind, offset, length) of the client's request
        self.options = []  # (option, data), as they were sent
        self.no_zeroes = self.extended = False
        self.turn = threading.Condition()  # guards options and transmission
        self.transmission = False
        for pump in self.from_client, self.from_server:
            threading.Thread(target=self.run, args=(pump,), daemon=True).start()

    def run(self, pump):
        try:
            pump()
        except (rawnbd.Closed, OSError, EndOfLie):
            pass
        finally:
            with self.turn:
                self.transmission = None
                self.turn.notify_all()
            for s in self.client, self.server:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    @staticmethod
    def take(s, n):
        data = bytearray()
        while len(data) < n:
            piece = s.recv(n - len(data))
            if not piece:
                raise rawnbd.Closed("end")
            data += piece
        return bytes(data)

    # ---- client to server ----

    def from_client(self):
        flags, = struct.unpack(">I", self.take(self.client, 4))
        self.no_zeroes = bool(flags & rawnbd.NO_ZEROES)
        self.server.sendall(struct.pack(">I", self.lie.client_flags(flags)))
        while self.option_goes_on():
            pass
        while True:
            self.a_request()

    def option_goes_on(self):
        """Pass one option on and wait until it is answered. False: transmission has begun."""
        header = self.take(self.client, 16)
        magic, option, length = struct.unpack(">QII", header)
        if magic != rawnbd.OPTION_MAGIC:
            length = 0
        data = self.take(self.client, length)
        with self.turn:
            self.options.append((option, data))
            self.server.sendall(header + data)
            # The client sends nothing before the final reply, which decides what it sends next.
            self.turn.wait_for(lambda: not self.options or self.transmission is not False)
            return self.transmission is False

    def a_request(self):
        form = ">IHHQQQ" if self.extended else ">IHHQQI"
        magic, flags, kind, cookie, offset, length = struct.unpack(
            form, self.take(self.client, struct.calcsize(form)))
        good = EXTENDED_REQUEST_MAGIC if self.extended else rawnbd.REQUEST_MAGIC
        has_data = flags & rawnbd.PAYLOAD_LEN if self.extended else kind == rawnbd.WRITE
        data = b""
        if has_data and magic == good and length <= rawnbd.MAX_PAYLOAD:
            data = self.take(self.client, length)
        self.asked[cookie] = flags, kind, offset, length
        changed = self.lie.request(flags, kind, offset, length)
        if changed is None:
            return
        flags, kind, offset, length = changed
        self.server.sendall(struct.pack(form, magic, flags, kind, cookie, offset, length) + data)

    # ---- server to client ----

    def from_server(self):
        start = self.take(self.server, 18)
        flags, = struct.unpack_from(">H", start, 16)
        self.client.sendall(start[:16] + struct.pack(">H", self.lie.greeting(flags)))
        while not self.transmission:
            self.an_option_reply()
        while True:
            self.a_reply()

    def an_option_reply(self):
        begin = self.take(self.server, 8)
        with self.turn:
            option, data = self.options[0]
        if option == rawnbd.OPT_EXPORT_NAME:
            rest = self.take(self.server, 2 if self.no_zeroes else 2 + 124)
            self.client.sendall(self.lie.export_name(begin + rest))
            self.done(True)
            return
        option, kind, length = struct.unpack(">III", self.take(self.server, 12))
        payload = self.take(self.server, length)
        final = kind == rawnbd.REP_ACK or bool(kind & 0x80000000)
        if final:
            accepted = kind == rawnbd.REP_ACK
            self.extended |= accepted and option == rawnbd.OPT_EXTENDED_HEADERS
            self.done(accepted and option == rawnbd.OPT_GO)
        for told in self.lie.option_reply(option, data, kind, payload):
            option, kind, payload = told
            self.client.sendall(struct.pack(">QIII", rawnbd.OPTION_REPLY_MAGIC, option, kind,
                                            len(payload)) + payload)

    def done(self, transmission):
        """Note that the oldest option has got its final reply."""
        with self.turn:
            self.options.pop(0)
            self.transmission = transmission
            self.turn.notify_all()

    def a_reply(self):
        magic, = struct.unpack(">I", self.take(self.server, 4))
        if magic == rawnbd.SIMPLE_MAGIC:
            error, cookie = struct.unpack(">IQ", self.take(self.server, 12))
            _, kind, _, length = self.asked[cookie]
            data = self.take(self.server, length) if kind == rawnbd.READ and not error else b""
            told = self.lie.simple(self.asked[cookie], error, cookie, data)
        else:
            if self.extended:
                flags, kind, cookie, _, length = struct.unpack(">HHQQQ", self.take(self.server, 28))
            else:
                flags, kind, cookie, length = struct.unpack(">HHQI", self.take(self.server, 16))
            payload = self.take(self.server, length)
            told = self.lie.chunk(self.asked[cookie], flags, kind, cookie, payload)
        self.client.sendall(b"".join(self.encode(*reply) for reply in told))

    def encode(self, form, *fields):
        """The bytes of simple() or chunk()."""
        if form == "simple":
            error, cookie, data = fields
            return struct.pack(">IIQ", rawnbd.SIMPLE_MAGIC, error, cookie) + data
        flags, kind, cookie, payload = fields
        if not self.extended:
            return struct.pack(">IHHQI", rawnbd.CHUNK_MAGIC, flags, kind, cookie,
                               len(payload)) + payload
        _, _, offset, _ = self.asked.get(cookie, (0, 0, 0, 0))
        return struct.pack(">IHHQQQ", EXTENDED_REPLY_MAGIC, flags, kind, cookie,
                           self.lie.offset(offset), len(payload)) + payload


class EndOfLie(Exception):
    """A Lie raises it to hang up."""


class Liar(Target):
    """A good target, seen through a Lie."""

    def __init__(self, target, lie, patience):
        self.target, self.lie, self.patience = target, lie, patience
        self.name, self.is_ours = target.name, target.is_ours
        self._proxies = {}  # address of a server: that of its proxy

    def export(self, role):
        if role.startswith("tls"):
            return self.target.export(role)  # a proxy cannot read what is inside TLS
        return self._seen(self.target.export(role))

    @contextlib.contextmanager
    def held(self):
        with self.target.held() as held:
            held.where = self._seen(held.where)
            yield held

    @contextlib.contextmanager
    def lost_bitmap(self):
        with self.target.lost_bitmap() as (where, name, lose):
            yield self._seen(where), name, lose

    def suspect(self):
        self.target.suspect()

    def _seen(self, where):
        """An export as it is seen through the lie."""
        if where.address not in self._proxies:
            self._proxies[where.address] = self._listen(where.address)
        return Where(self._proxies[where.address], where.export, where.ca, where.inside,
                     **where.more)

    def _listen(self, upstream):
        path = os.path.join(self.dir, f"liar{len(self._proxies)}")
        listener = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(16)
        self.stack.callback(listener.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=self._accept, args=(listener, upstream), daemon=True).start()
        return path

    def _accept(self, listener, upstream):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                _Connection(client, rawnbd.connect(upstream), self.lie)
            except OSError:
                client.close()
