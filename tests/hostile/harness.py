# SPDX-License-Identifier: BSD-3-Clause
"""The grid of the hostile clients: harm x a well-behaved neighbour x nothing left behind.

    with Ground() as g:
        def attack():
            with g.client(flags=None) as c:
                c.send(b"GET / HTTP/1.1\\r\\n\\r\\n")
        g.endure(attack, rounds=20)

endure() does the harm once, for the memory that is taken only once (heaps, plugins' buffers), takes
stock, does it `rounds` times more (and for AT_LEAST seconds), lets somebody new in, and then waits
until the server holds the files and threads that it held before its first client.

Memory is no such count: heaps do not shrink to the page, and how many of them there are depends on
how threads happened to meet. What tells a leak from that is that it goes on. So memory fails a test
only if each of GROWING such series in a row has left more than `growth`.

A neighbour is a thread of the test that does verified work and fails the test if any of it takes
longer than PATIENCE. Bounds are generous because the machine may be busy: what they are to tell
apart is waiting for the harmful client, which here lasts for ever, or until the handshake's
deadline, which is DEADLINE unless the test says another.
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
# Seconds that nothing a neighbour does may take: far from milliseconds, and from DEADLINE.
PATIENCE = DEADLINE / 2
# Seconds in which an export's removal and the server's end are through, whatever clients do: two of
# grace, and what a busy machine adds.
END_WITHIN = DEADLINE / 2
# Seconds for which harm is done while neighbours are looked at.
AT_LEAST = 0.3
# Bytes of anonymous memory that a series of harm may leave, and how many series in a row have to
# leave more for it to be a leak.
GROWTH = 3 * MIB
GROWING = 4
# Seconds in which memory that an idle connection gives back (after one) has been given back.
GIVEN_BACK = 5

DISK = 64 * MIB
AREA = MIB  # the end of the disk is the neighbour's


def rst(sock):
    """Close a connection the hard way: TCP sends a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def push(sock, data):
    """Send as much of what may be too much as goes in at once, also to somebody who hangs up.
    Returns how much that was."""
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
    """Send it all, unless the server hangs up before."""
    try:
        sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


class Neighbour:
    """A thread that works until the `with` is left, and then fails the test if it was ill served."""

    def __init__(self, ground):
        self.ground = ground
        self.worst = 0
        self.turns = 0
        self._stop = threading.Event()
        self._begun = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._main, daemon=True)

    def begin(self):
        """Connect; in its own thread."""

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
    """Writes to the end of the disk and reads it back, and is the only one to write there."""

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

    args: the server's, besides `--disk vda memory 64M` and a deadline; tcp: on TCP (`address`) instead of a Unix
    socket; neighbours: classes; server: keyword arguments of fleece.Server."""

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
        """Somebody new is served, within PATIENCE."""
        begin = time.monotonic()
        with self.user(export) as c:
            assert len(c.read(0, 4096)) == 4096
            c.request(DISC)
        took = time.monotonic() - begin
        assert took <= PATIENCE, f"a newcomer waited for {took:.2f} s"

    def qmp(self):
        """A monitor, to be closed by who asked for it: `with`."""
        return fleece.Qmp(self.server.qmp_path)

    @contextlib.contextmanager
    def setting(self):
        """A monitor to set the scene with. What is made there belongs to the stock."""
        with self.qmp() as q:
            yield q
            q.hang_up()
        self._untouched = Stock(self.server.pid)

    # ---- what it holds ----

    def peak(self):
        """The most memory resident since calm()."""
        with open(f"/proc/{self.server.pid}/status") as f:
            return int(re.search(r"^VmHWM:\s*(\d+) kB", f.read(), re.M).group(1)) * KIB

    def calm(self):
        """Forget the peak; the memory now."""
        with open(f"/proc/{self.server.pid}/clear_refs", "w") as f:
            f.write("5")
        return self.peak()

    def check_peak(self, calm, most):
        """Since `calm`, never more than `most` bytes came on top. Sanitizers keep what is freed."""
        if not SLOW_BUILD:
            peak = self.peak()
            assert peak - calm <= most, f"{(peak - calm) / MIB:.1f} MiB more at the peak"

    def _settle(self, before, most_memory):
        """Wait until it holds the files and threads that it held `before`; and no more memory than
        that, for a moment. Returns what it holds then."""
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
            time.sleep(0.01)  # nothing in /proc can be waited for
        assert now.files == before.files, f"open files:\n{before.files}\nand now:\n{now.files}"
        raise AssertionError(f"{before.threads} threads, now {now.threads}")

    @contextlib.contextmanager
    def neighbours(self):
        """Neighbours are served while in here."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(n(self)) for n in self._neighbours]

    def endure(self, attack, rounds=10, growth=GROWTH):
        """The grid's test, see above. Nobody else may be connected."""
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
