#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Data over TLS: requests of all sizes, many of them in flight, on four connections; clients that
do not read; half-closed connections; the end of an export and of the server under load."""

import contextlib
import os
import random
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import types

import nbd

from fleece import NBDFLEECE, die_with_parent, require_plugin
from held import Held
from rig import seed
from tap import main, test
from tlslib import TlsClient, certs, context, open_files, psk, tls_server, uri

from rawnbd import *  # noqa: F401,F403

MIB = 1 << 20
SEED = seed()


def handle(s, export="", user=None):
    h = nbd.NBD()
    h.set_uri_allow_local_file(True)
    h.connect_uri(uri(s, export, user=user, keys=psk()))
    assert h.get_tls_negotiated()
    return h


class Region:
    """One connection's part of the disk, with a copy of what must be in it. While a write is in
    flight, no other request overlaps with it."""

    def __init__(self, h, begin, size, seed):
        self.h, self.begin, self.size = h, begin, size
        self.random = random.Random(seed)
        self.model = bytearray(size)
        self.busy = []  # (begin, end, is a write)

    def place(self, write):
        for _ in range(50):
            length = self.random.choice((1, 511, 512, 4096, 16383, 16384, 16385, 65536, 262144,
                                         MIB, 3 * MIB + 7))
            at = self.random.randrange(self.size - length)
            if not any(at < e and b < at + length and (write or w) for b, e, w in self.busy):
                return at, length
        return None

    def run(self, count, depth):
        flying, left = {}, count
        while left or flying:
            while left and len(flying) < depth:
                write = self.random.random() < 0.5
                found = self.place(write)
                if found is None:
                    break
                at, length = found
                left -= 1
                span = (at, at + length, write)
                if write:
                    data = self.random.randbytes(length)
                    self.model[at:at + length] = data
                    cookie = self.h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)),
                                               self.begin + at)
                    flying[cookie] = span, None, None
                else:
                    buf = nbd.Buffer(length)
                    flying[self.h.aio_pread(buf, self.begin + at)] = \
                        span, buf, bytes(self.model[at:at + length])
                self.busy.append(span)
            self.h.poll(-1)
            for cookie in [c for c in flying if self.h.aio_command_completed(c)]:
                span, buf, expected = flying.pop(cookie)
                self.busy.remove(span)
                if buf is not None:
                    assert buf.to_bytearray() == expected, f"wrong data at {span}"
        assert self.h.pread(self.size, self.begin) == self.model


def mixed(s, user=None, connections=4, requests=150):
    size = 12 * MIB
    regions = [Region(handle(s, user=user), i * size, size, SEED + i) for i in range(connections)]
    failed = []

    def work(region):
        try:
            region.run(requests, 24)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=(r,)) for r in regions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed
    for r in regions:
        # One connection sees what the others have written.
        assert regions[0].h.pread(r.size, r.begin) == r.model
    for r in regions:
        r.h.shutdown()


@test
def mixed_requests_on_four_connections_with_certificates():
    with tls_server(certs(), "--tls=require", "--tls-verify-peer") as s:
        mixed(s)


@test
def mixed_requests_on_four_connections_with_keys():
    with tls_server(psk(), "--tls=require") as s:
        mixed(s, user="alice")


@test
def many_large_reads_in_flight():
    """Workers carry out reads above 256 KiB, and send while the connection's thread receives."""
    with tls_server(certs(), "--tls=require", "-t", "16",
                    disk=("sparse-random", "64M")) as s:
        h = handle(s)
        first = h.pread(16 * MIB, 0)
        cookies = []
        for i in range(32):
            buf = nbd.Buffer(512 << 10)
            cookies.append((h.aio_pread(buf, i * (512 << 10)), buf))
        for cookie, buf in cookies:
            while not h.aio_command_completed(cookie):
                h.poll(-1)
        assert b"".join(buf.to_bytearray() for _, buf in cookies) == first


@test
def the_largest_payloads_both_ways():
    with tls_server(certs(), "--tls=require", disk=("memory", "64M")) as s:
        h = handle(s)
        data = random.Random(SEED).randbytes(32 * MIB)
        h.pwrite(data, 16 * MIB)
        assert h.pread(32 * MIB, 16 * MIB) == data


@test
def many_small_requests_in_one_record_and_one_in_many():
    with tls_server(certs(), "--tls=require") as s, \
            TlsClient(s.socket, context(certs())) as c:
        c.structured()
        c.go("disk0")
        c.write(0, bytes(range(256)) * 256)

        def request(cookie, offset):
            c._asked[cookie] = READ, 16
            return struct.pack(">IHHQQI", REQUEST_MAGIC, 0, READ, cookie, offset, 16)

        c.send(b"".join(request(1000 + i, i * 16) for i in range(500)))
        seen = {}
        while len(seen) < 500:
            reply = c.reply()
            if reply.type == TYPE_DATA:
                seen[reply.cookie] = reply.data
        for i in range(500):
            assert seen[1000 + i] == bytes((i * 16 + j) % 256 for j in range(16))
        # Now each byte has a record of its own.
        for byte in request(1, 256):
            c.send(bytes([byte]))
        assert c.reply().data == bytes(range(16))


@test
def a_client_that_does_not_read_hurts_nobody_else():
    with tls_server(certs(), "--tls=require") as s:
        with TlsClient(s.socket, context(certs())) as c:
            c.go("disk0")
            c.socket.setblocking(False)
            with contextlib.suppress(OSError):
                for _ in range(10000):
                    c.request(READ, 0, MIB)
            h = handle(s)
            for _ in range(20):
                assert len(h.pread(MIB, 0)) == MIB
            h.shutdown()


@test
def half_closed_connections_get_their_replies():
    """The client says that it sends no more: by the socket alone, by a close_notify, or by DISC."""
    for end in (lambda pipes, c: pipes.process.stdin.shutdown(socket.SHUT_WR),
                lambda pipes, c: pipes.close_notify(), lambda pipes, c: c.request(DISC)):
        with tls_server(certs(), "--tls=require") as s, connect(s.socket) as plain:
            plain.setblocking(True)  # PipeSocket's os.read() has to wait
            pipes = PipeSocket(types.SimpleNamespace(stdin=plain, stdout=plain))
            c = Client(pipes)
            assert c.option(OPT_STARTTLS)[0] == REP_ACK
            pipes.wrap(context(certs()))
            c.go("disk0")
            left = {c.request(READ, i * MIB, MIB) for i in range(8)}
            end(pipes, c)
            while left:
                reply = c.reply()
                assert reply.error == 0
                left.remove(reply.cookie)
            assert c.socket.recv(1) == b""


@test
def clients_come_and_go_and_leave_nothing():
    with tls_server(certs(), "--tls=require") as s:
        def one(rude):
            h = handle(s)
            h.pread(4096, 0)
            if not rude:
                h.shutdown()
            del h

        for i in range(4):
            one(i % 2)
        with TlsClient(s.socket, context(certs())) as c:
            c.go("disk0")
        before = open_files(s)
        for i in range(30):
            one(i % 2)
        deadline = time.monotonic() + SOON
        while open_files(s) > before:
            assert time.monotonic() < deadline, (before, open_files(s))
            with Client(s.socket) as c:
                c.option(OPT_ABORT)
                c.expect_end()


@test
def removing_an_export_ends_its_TLS_clients_at_once():
    with tls_server(certs(), "--tls=require") as s:
        q = s.qmp()
        q.cmd("block-export-add", type="nbd", id="e", **{"node-name": "disk0"}, name="e")
        with TlsClient(s.socket, context(certs())) as c, \
                TlsClient(s.socket, context(certs())) as idle:
            c.go("e")
            idle.go("e")
            c.socket.setblocking(False)
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    c.request(READ, 0, MIB)
            began = time.monotonic()
            q.cmd("block-export-del", id="e", mode="hard")
            q.wait_event("BLOCK_EXPORT_DELETED")
            assert time.monotonic() - began < SOON / 2
            with contextlib.suppress(ConnectionResetError):
                assert idle.socket.recv(1) == b""


@test
def a_server_that_ends_finishes_what_is_under_way():
    """The reply of a read comes, and then a close_notify."""
    require_plugin("eval")
    with Held("--tls=on", "--tls-certificates", certs()) as h, \
            TlsClient(h.server.socket, context(certs())) as c:
        c.go("vda")
        cookie = c.request(READ, 0, 4096)
        h.wait_begun()
        h.server.process.send_signal(signal.SIGTERM)
        h.let_go()
        assert c.replies(cookie)[-1].data == bytes(4096)
        c.socket.suppress_ragged_eofs = False
        assert c.socket.recv(1) == b""
        h.server.wait()


class PipeSocket:
    """A socket, as far as a raw client needs one, over a pair of pipes; after wrap() with TLS."""

    def __init__(self, process):
        self.process, self.tls = process, None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    def write(self, data):
        while data:
            data = data[os.write(self.process.stdin.fileno(), data):]

    def wrap(self, tls):
        self.tls = tls.wrap_bio(self.incoming, self.outgoing)
        self.pump(lambda: self.tls.do_handshake() or True)

    def pump(self, operation, *args):
        """Carry out an operation of TLS, and receive as much as it needs."""
        while True:
            try:
                result = operation(*args)
            except ssl.SSLWantReadError:
                result = None
            except ssl.SSLZeroReturnError:
                return b""
            self.write(self.outgoing.read())
            if result is not None:
                return result
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return b""
            self.incoming.write(data)

    def close_notify(self):
        """Say that nothing more is sent. Replies can still come."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.write(self.outgoing.read())

    def sendall(self, data):
        if self.tls:
            self.pump(self.tls.write, data)
        else:
            self.write(data)

    def recv(self, n):
        return self.pump(self.tls.read, n) if self.tls else \
            os.read(self.process.stdout.fileno(), n)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()


def single(stdin, stdout):
    return subprocess.Popen(
        [NBDFLEECE, "-s", "--tls=require", "--tls-certificates", certs(), "memory", "8M"],
        stdin=stdin, stdout=stdout, preexec_fn=die_with_parent)


def use(c):
    c.structured()
    c.go("disk0")
    data = os.urandom(MIB)
    c.write(0, data)
    assert c.read(0, MIB) == data
    c.request(DISC)


@test
def TLS_works_on_standard_input_that_is_a_socket():
    ours, theirs = socket.socketpair()
    with theirs:
        process = single(theirs, theirs)
    with TlsClient(ours, context(certs())) as c:
        use(c)
        c.expect_end()
    assert process.wait(SOON) == 0


@test
def TLS_works_on_pipes():
    process = single(subprocess.PIPE, subprocess.PIPE)
    pipes = PipeSocket(process)
    c = Client(pipes)
    assert c.option(OPT_STARTTLS)[0] == REP_ACK
    pipes.wrap(context(certs()))
    use(c)
    assert c.socket.recv(1) == b""
    c.close()
    assert process.wait(SOON) == 0


main()
