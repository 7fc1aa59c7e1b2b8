# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of hostile clients share: harm is done, a well-behaved neighbour does not suffer,
and nothing is left behind.

    with Ground() as g:
        def attack():
            with g.client(flags=None) as c:
                c.send(b"GET / HTTP/1.1\\r\\n\\r\\n")
        g.endure(attack, rounds=20)

endure() does the harm once, so that the server takes what it takes only once (heaps, buffers of
plugins), and counts what the server holds. Then it does the harm `rounds` times more, and for
AT_LEAST seconds at least, and lets a new client in. At last it waits until the server holds the
same files and threads as before its first client.

Memory cannot be counted so exactly: heaps do not shrink page by page, and their number depends on
how threads happened to meet. But a leak goes on. So a test fails only if each of GROWING such
series in a row has left more than `growth` bytes.

A neighbour is a thread of the test that does verified work. It fails the test if any of this takes
longer than PATIENCE. Limits are long because the machine may be busy. They only have to show that
nobody waits for the harmful client: that would last for ever, or until the handshake's deadline
(DEADLINE, unless the test gives another).
"""

import contextlib
import os
import random
import re
import socket
import struct
import subprocess
import threading
import time

import fleece
import tap
from fleece import Server

from rawnbd import *

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SLOW_BUILD = fleece.SANITIZER != "no"

# Seconds until the server itself drops a client that does not end its handshake.
DEADLINE = 60
# Seconds that a neighbour may wait for one answer: far more than milliseconds, far less than
# DEADLINE.
PATIENCE = DEADLINE / 2
# Seconds in which an export is removed, or the server ends, whatever clients do. They need two, in
# which clients may still end in order; the rest is for a busy machine.
END_WITHIN = DEADLINE / 2
# Seconds for which harm is done while neighbours are looked at.
AT_LEAST = 0.3
# Bytes of anonymous memory that a series of harm may leave, and after how many series in a row that
# leave more it is taken for a leak.
GROWTH = 3 * MIB
GROWING = 4
# An idle connection gives memory back after a second. After so many seconds it surely has.
GIVEN_BACK = 5

DISK = 64 * MIB
AREA = MIB  # at the end of the disk, where only the neighbour writes


def rst(sock):
    """Close a connection without a goodbye: TCP sends a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def push(sock, data):
    """Send as many of these bytes as the socket takes without waiting; the server may hang up
    meanwhile. Returns how many that were."""
    sent = 0
    sock.setblocking(False)
    try:
        while sent < len(data):
            sent += sock.send(data[sent:sent + MIB])
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass
    sock.settimeout(fleece.SOON)
    return sent


def push_all(sock, data):
    """Send all of it, unless the server hangs up before."""
    try:
        sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


class Neighbour:
    """A thread that works until the `with` is left. It fails the test there if anything went wrong
    or took too long."""

    def __init__(self, ground):
        self.ground = ground
        self.worst = 0
        self.turns = 0
        self._stop = threading.Event()
        self._begun = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._main, daemon=True)

    def begin(self):
        """Connect. This runs in the neighbour's thread."""

    def turn(self):
        """One piece of work, checked."""
        raise NotImplementedError

    def end(self):
        """Disconnect."""

    def _main(self):
        try:
            self.begin()
            while not self._stop.is_set():
                begin = time.monotonic()
                self.turn()
                self.worst = max(self.worst, time.monotonic() - begin)
                self.turns += 1
                self._begun.set()
                self._stop.wait(0.001)  # leaves the processors to the harm
            self.end()
        except Exception as e:
            self._failure = e
            self._begun.set()

    def __enter__(self):
        self._thread.start()
        assert self._begun.wait(fleece.SOON), "the neighbour is not served at all"
        return self

    def __exit__(self, kind, value, trace):
        self._stop.set()
        self._thread.join(fleece.SOON)
        if kind is not None:
            return
        if self._failure:
            raise AssertionError(f"{type(self).__name__} suffers") from self._failure
        assert not self._thread.is_alive(), f"{type(self).__name__} waits for ever"
        assert self.worst <= PATIENCE, f"{type(self).__name__} waited for {self.worst:.2f} s"


class Guest(Neighbour):
    """Writes to the end of the disk, where nobody else writes, and reads it back."""

    def begin(self):
        self.random = random.Random(4)
        self.client = self.ground.client()
        self.client.structured()
        self.client.go("vda")
        self.begin_at = self.client.size - AREA
        self.truth = bytearray(self.random.randbytes(AREA))
        self.client.write(self.begin_at, bytes(self.truth))

    def turn(self):
        length = self.random.choice((512, 4096, 65536))
        at = self.random.randrange(0, AREA - length + 1, 512)
        data = self.random.randbytes(length)
        self.client.write(self.begin_at + at, data)
        self.truth[at:at + length] = data
        at = self.random.randrange(0, AREA - length + 1, 512)
        assert self.client.read(self.begin_at + at, length) == self.truth[at:at + length]

    def end(self):
        assert self.client.read(self.begin_at, AREA) == self.truth, "the guest's data has changed"
        self.client.request(DISC)
        self.client.close()


class Watcher(Neighbour):
    """Asks on a monitor of its own."""

    def begin(self):
        self.monitor = fleece.Qmp(self.ground.server.qmp_path)

    def turn(self):
        assert self.monitor.cmd("query-status")["running"]

    def end(self):
        self.monitor.close()


class Stock:
    """What a process holds."""

    def __init__(self, pid):
        self.files = sorted(re.sub(r"\d+", "N", link) for link in self._links(pid))
        self.threads = len(os.listdir(f"/proc/{pid}/task"))
        with open(f"/proc/{pid}/smaps_rollup") as f:
            self.memory = int(re.search(r"^Anonymous: *(\d+) kB", f.read(), re.M).group(1)) * KIB

    @staticmethod
    def _links(pid):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                yield os.readlink(f"/proc/{pid}/fd/{fd}")


class Ground:
    """A server, its neighbours, and what it holds.

    args: the server's arguments besides `--disk vda memory 64M` and a deadline. tcp: it listens on
    TCP (`address`) and not on a Unix socket. neighbours: their classes. server: keyword arguments
    of fleece.Server."""

    def __init__(self, *args, tcp=False, neighbours=(Guest,), server=None):
        self._tcp = tcp
        self._neighbours = neighbours
        self.address = None
        options = dict(server or {})
        first = ()
        if tcp:
            first = ("-i", "127.0.0.1", "-p", "0", "--print-uri")
            options.update(unix=False, stdout=subprocess.PIPE, text=True)
        if "--handshake-timeout" not in args:
            first += ("--handshake-timeout", str(DEADLINE))
        self.server = Server(*first, "--disk", "vda", "memory", str(DISK), *args, **options)

    def __enter__(self):
        self.server.start()
        if self._tcp:
            uri = self.server.process.stdout.readline()
            self.address = ("127.0.0.1", int(re.search(r":(\d+)/", uri).group(1)))
        else:
            self.address = self.server.socket
        self.server.__enter__()
        self._untouched = Stock(self.server.pid)  # nobody has been here yet
        return self

    def __exit__(self, *exception):
        return self.server.__exit__(*exception)

    # ---- clients ----

    def client(self, flags=FIXED_NEWSTYLE | NO_ZEROES):
        return Client(self.address, flags)

    def user(self, export="vda", structured=False):
        """A client in the transmission phase."""
        c = self.client()
        if structured:
            c.structured()
        return c.go(export)

    def newcomer(self, export="vda"):
        """A new client is served, within PATIENCE."""
        begin = time.monotonic()
        with self.user(export) as c:
            assert len(c.read(0, 4096)) == 4096
            c.request(DISC)
        took = time.monotonic() - begin
        assert took <= PATIENCE, f"a newcomer waited for {took:.2f} s"

    def qmp(self):
        """A new monitor. The caller closes it, by `with`."""
        return fleece.Qmp(self.server.qmp_path)

    @contextlib.contextmanager
    def setting(self):
        """A monitor for preparations. What they leave in the server is not counted as left
        behind."""
        with self.qmp() as q:
            yield q
            q.hang_up()
        self._untouched = Stock(self.server.pid)

    # ---- what it holds ----

    def peak(self):
        """The largest resident memory since calm()."""
        with open(f"/proc/{self.server.pid}/status") as f:
            return int(re.search(r"^VmHWM:\s*(\d+) kB", f.read(), re.M).group(1)) * KIB

    def calm(self):
        """Forget the peak. Returns the resident memory now."""
        with open(f"/proc/{self.server.pid}/clear_refs", "w") as f:
            f.write("5")
        return self.peak()

    def check_peak(self, calm, most):
        """Resident memory was never more than `most` bytes above `calm`. (Not with a sanitizer,
        which keeps memory that is freed.)"""
        if not SLOW_BUILD:
            peak = self.peak()
            assert peak - calm <= most, f"{(peak - calm) / MIB:.1f} MiB more at the peak"

    def _settle(self, before, most_memory):
        """Wait until it holds the files and threads that it held `before`. Wait for memory, too,
        but not longer than GIVEN_BACK. Returns what it holds then."""
        begin = time.monotonic()
        while True:
            now = Stock(self.server.pid)
            too_much = not SLOW_BUILD and now.memory > most_memory
            waited = time.monotonic() - begin
            if now.files == before.files and now.threads <= before.threads:
                if not too_much or waited > GIVEN_BACK:
                    return now
            elif waited > fleece.SOON:
                break
            # /proc has no event to wait for: the pace is that of waiting for the server's end.
            assert not fleece.has_ended(self.server.process, 0.01), "the server has ended"
        assert now.files == before.files, f"open files:\n{before.files}\nand now:\n{now.files}"
        raise AssertionError(f"{before.threads} threads, now {now.threads}")

    @contextlib.contextmanager
    def neighbours(self):
        """Neighbours work, and are served, until this is left."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(n(self)) for n in self._neighbours]

    def endure(self, attack, rounds=10, growth=GROWTH):
        """Do the harm, as the head of this file says. No other client may be connected."""
        with self.neighbours():
            attack()
        before = self._settle(self._untouched, float("inf"))
        for _ in range(GROWING):
            after = self._series(attack, rounds, before.memory + growth)
            if SLOW_BUILD or after.memory <= before.memory + growth:
                return
            before = after
        raise AssertionError(f"memory grows and grows: {after.memory} bytes by now")

    def _series(self, attack, rounds, most_memory):
        """Returns what it holds after so many rounds of harm."""
        before = Stock(self.server.pid)
        with self.neighbours() as neighbours:
            begin, done = time.monotonic(), 0
            while done < rounds or time.monotonic() < begin + AT_LEAST:
                attack()
                done += 1
            self.newcomer()
        after = self._settle(self._untouched, most_memory)
        assert self.server.process.poll() is None, "the server has died"
        waits = " and ".join(f"{type(n).__name__.lower()} {n.worst * 1000:.0f} ms, {n.turns} turns"
                             for n in neighbours)
        grown = (after.memory - before.memory) // KIB
        tap.note(f"{done} rounds; {grown} KiB more; longest wait: {waits}")
        return after
