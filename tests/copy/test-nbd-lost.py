# SPDX-License-Identifier: BSD-3-Clause
"""Servers of a copy that go away, come back or not, come back as others, or hang."""

import struct
import threading

from copying import CANCELLED, CHANGED, UNREACHABLE, Running, copied, dirty, fails, mapped
from fakenbd import ALLOCATION, PLAIN_FLAGS, Export, FakeServer, Gone
from rawnbd import *
from tap import main, test

K, M = 1 << 10, 1 << 20
B0 = dirty("b0")
RETRY = "100"  # seconds: far more than is needed


def both(size=M, flags=1):
    return {ALLOCATION: [(size, 0)], B0: [(size, flags)]}


class Once(Export):
    """Something happens at the first request of a kind; `meanwhile(c)` with the connection."""

    kind = READ
    count = 1

    def request(self, c, r):
        with c.server.lock:
            now = r.kind == self.kind and self.count > 0
            self.count -= now
        if now:
            self.happens(c, r)
        else:
            super().request(c, r)

    def happens(self, c, r):
        raise Gone


@test
def reads_that_were_not_answered_are_asked_again():
    class MidReply(Once):
        """Half of the header, or half of the data, and the end."""

        count = 3

        def happens(self, c, r):
            c.send(struct.pack(">IHHQI", CHUNK_MAGIC, DONE, TYPE_DATA, r.cookie, r.length + 8)
                   [:10 if self.count else 20])
            if not self.count:
                c.send(struct.pack(">Q", r.offset) + b"\xee" * (r.length // 2))
            raise Gone

    with FakeServer(MidReply(8 * M, contexts=both(8 * M))) as s:
        content, figures = copied(s.uri, "--context", B0, "--retry", RETRY)
        assert content == s.export.data
        assert s.connections > 4, s.connections


@test
def all_of_several_requests_is_asked_again():
    class Later(Once):
        """The last of several small reads is answered, then the connection ends."""

        blocks = (512, 512, 8 * K)

        def request(self, c, r):
            if r.kind != READ or not self.count:
                Export.request(self, c, r)
                return
            c.held = getattr(c, "held", []) + [r]
            if len(c.held) == 5:
                self.count = 0
                self.read(c, c.held[3])
                raise Gone

    with FakeServer(Later(M, flags=PLAIN_FLAGS & ~CAN_MULTI_CONN, contexts={})) as s:
        content, _ = copied(s.uri, "--retry", RETRY)
        assert content == s.export.data


@test
def extents_that_were_not_answered_are_asked_again():
    class Half(Once):
        kind = BLOCK_STATUS

        def happens(self, c, r):
            c.extents(r, B0, [(r.length, 0)])
            raise Gone

    with FakeServer(Half(M, contexts=both())) as s:
        assert mapped(s.uri, "--context", B0, "--retry", RETRY) == [(0, M, "data")]


@test
def a_server_that_says_that_it_ends_is_connected_to_anew():
    class Ends(Once):
        def happens(self, c, r):
            c.done(r, ESHUTDOWN)

    with FakeServer(Ends(M, contexts=both())) as s:
        content, _ = copied(s.uri, "--retry", RETRY)
        assert content == s.export.data


@test
def a_server_that_is_started_anew_is_found():
    class Stops(Once):
        def happens(self, c, r):
            c.server.stop()
            stopped.set()
            raise Gone

    stopped = threading.Event()
    with FakeServer(Stops(M, contexts=both())) as s:
        with Running("--retry", RETRY, "--context", B0, s.uri) as copy:
            assert stopped.wait(60)
            # The first that comes back is a server that does not have the export yet.
            before = s.connections
            export, s.export = s.export, Export(name="other", contexts={})
            s.listen()
            s.wait_connections(before + 1)
            s.export = export
            copy.end(0)
            assert copy.content() == export.data


@test
def a_server_that_does_not_come_back_is_an_error():
    class Stops(Once):
        def happens(self, c, r):
            c.server.stop()
            raise Gone

    with FakeServer(Stops(M, contexts=both())) as s:
        why = fails(UNREACHABLE, s.uri)
        assert why.startswith("the server has gone: "), why
    with FakeServer(Stops(M, contexts=both())) as s:
        why = fails(UNREACHABLE, "--retry", "1", s.uri)
        assert why.startswith("the server has gone, and was not back in 1 seconds: "), why
    why = fails(UNREACHABLE, "--retry", RETRY, "nbd+unix:///?socket=/nonexistent/s")
    assert "No such file or directory" in why, why


@test
def a_server_that_lets_in_and_never_answers_has_gone():
    class Never(Once):
        count = 1 << 30

    with FakeServer(Never(M, contexts=both())) as s:
        why = fails(UNREACHABLE, "--retry", "2", s.uri)
        assert why.startswith("the server has gone, and was not back in 2 seconds: "), why
        # It is not asked all the time.
        assert s.connections < 4 * 20, s.connections


@test
def a_server_that_comes_back_as_another_is_an_error():
    class Changes(Once):
        def happens(self, c, r):
            c.server.export = self.then
            raise Gone

    def small_blocks(export):
        export.blocks = (4 * K, 4 * K, 32 * M)
        return export

    for then, says in (
            (Export(M // 2, contexts=both(M // 2)), f"another size: {M // 2} bytes, not {M}"),
            (Export(2 * M, contexts=both(2 * M)), f"another size: {2 * M} bytes, not {M}"),
            (Export(M, contexts={ALLOCATION: [(M, 0)]}), f"has no context {B0}"),
            (small_blocks(Export(M, contexts=both())), "other block sizes")):
        export = Changes(M, contexts=both())
        export.then = then
        with FakeServer(export) as s:
            why = fails(CHANGED, "--retry", RETRY, "--context", B0, s.uri)
            assert says in why, why

    # A view that comes back as its live disk would be trimmed.
    export = Changes(M, flags=PLAIN_FLAGS & ~SEND_WRITE_ZEROES)
    export.then = Export(M)
    with FakeServer(export) as s:
        why = fails(CHANGED, "--retry", RETRY, "--trim", s.uri)
        assert "come back as a disk that can be written" in why, why


@test
def allocation_that_does_not_come_back_is_done_without():
    class Changes(Once):
        kind = BLOCK_STATUS

        def happens(self, c, r):
            c.server.export = Export(M, contexts={}, data=self.data)
            raise Gone

    with FakeServer(Changes(M, contexts={ALLOCATION: [(M, 0)]})) as s:
        data = s.export.data
        content, _ = copied(s.uri, "--retry", RETRY)
        assert content == data


# ---- servers that hang ----


class Hangs(Once):
    """Every request of the kind is never answered."""

    count = 1 << 30

    def happens(self, c, r):
        pass


@test
def a_copy_whose_server_hangs_can_be_cancelled():
    for kind in READ, BLOCK_STATUS:
        export = Hangs(M, contexts=both())
        export.kind = kind
        with FakeServer(export) as s, Running("--context", B0, s.uri) as copy:
            s.wait_requests(1, kind)
            copy.interrupt()
            why = copy.end(1)
            assert why == "The copy was cancelled\n", why


class Silent(Export):
    """From the connection `let_in` on it says nothing."""

    def __init__(self, let_in):
        super().__init__(M, contexts=both())
        self.let_in = let_in

    def accepted(self, c):
        if c.number >= self.let_in:
            c.receive(1)


@test
def a_copy_that_waits_for_its_server_can_be_cancelled():
    class Stops(Once):
        def happens(self, c, r):
            c.server.export = silent
            raise Gone

    silent = Silent(0)
    with FakeServer(Stops(M, contexts=both())) as s:
        with Running("--retry", RETRY, "--connections", "1", s.uri) as copy:
            s.wait_connections(2)
            copy.interrupt()
            assert copy.end(1) == "The copy was cancelled\n"


class Mute(Export):
    """It greets, and answers no option."""

    def option(self, c, option, data):
        c.receive(1)


def that_hang():
    """Exports that hang while somebody connects, and at which connection."""
    return (Silent(0), 1), (Silent(1), 2), (Mute(M, contexts=both()), 1)


def is_interrupted(export, connections, source=None):
    """A copy from this export, or from `source` into it, while it makes this connection to it."""
    with FakeServer(export) as s, Running(source or s.uri, target=source and s.uri) as copy:
        s.wait_connections(connections)
        copy.interrupt()
        assert copy.end(CANCELLED) == "interrupted\n"


@test
def connecting_to_a_server_that_hangs_can_be_interrupted():
    for export, connections in that_hang():
        is_interrupted(export, connections)


@test
def connecting_to_a_target_that_hangs_can_be_interrupted():
    with FakeServer(Export(M)) as source:
        for export, connections in that_hang():
            is_interrupted(export, connections, source.uri)


@test
def a_machine_that_vanishes_is_asked_whether_it_is_there():
    """While a copy waits for an answer, the kernel's timer of its connections is that of
    keep-alives."""
    def timers(port):
        with open("/proc/net/tcp", encoding="ascii") as f:
            rows = [line.split() for line in f]
        return [r[5].split(":")[0] for r in rows if r[2].endswith(f":{port:04X}") and r[3] == "01"]

    with FakeServer(Hangs(M, contexts={}), tcp=True) as s, Running(s.uri) as copy:
        s.wait_requests(1, READ)
        # Requests that the peer's kernel has not acknowledged yet have another timer, for moments.
        while "02" not in timers(s.port):
            assert copy.process.poll() is None
        copy.interrupt()
        copy.end(1)


main()
