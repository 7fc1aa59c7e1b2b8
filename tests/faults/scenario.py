# SPDX-License-Identifier: BSD-3-Clause
"""The standard scenario, in which any call may fail, and what must hold nevertheless.

For each block of 4 KiB a set says of which bytes the block may consist. After an acknowledged write
that is one byte; after a write that failed, the old ones and the new one. If a connection ended
while a write was under way, that write may still happen later (`late`)."""

import contextlib
import io
import os
import time

from fleece import Qmp, QmpError, SOON
import grid

import rawnbd
from rawnbd import (BLOCK_STATUS, CACHE, Client, Closed, FLUSH, FUA, READ, TRIM,
                    WRITE, WRITE_ZEROES)

BLOCK = 4096
BLOCKS = {"vda": 1024, "vdb": 64}
CHANGES = (WRITE, WRITE_ZEROES, TRIM)


def blocks_of(data):
    return [data[i:i + BLOCK] for i in range(0, len(data), BLOCK)]


def consists_of(block, may):
    """True if the block has no other bytes than these."""
    return sum(block.count(v) for v in may) == len(block)


class Bitmap:
    """What is known of a bitmap that records: what the disk held at its start, and what was written
    since."""

    def __init__(self, image):
        self.before = [set(m) for m in image.may]
        self.tried, self.done = set(), set()

    def check(self, dirty, blocks, what):
        """`dirty` has the dirty blocks: all that have changed, and none that was not written."""
        changed = {i for i, b in enumerate(blocks) if not consists_of(b, self.before[i])}
        missing = (self.done | changed) - dirty
        assert not missing, f"{what}: changed, but not dirty: blocks {sorted(missing)}"
        assert dirty <= self.tried, f"{what}: dirty, but not written: {sorted(dirty - self.tried)}"


class Image:
    """What a disk may hold."""

    def __init__(self, n):
        self.may = [{0x11} if i < n // 2 else {0} for i in range(n)]
        self.late = [set() for _ in range(n)]
        self.bitmaps = {}  # name: Bitmap

    def file_content(self):
        """The beginning of the image file. The rest is a hole."""
        return bytes([0x11]) * (len(self.may) // 2 * BLOCK)

    def changed(self, type, first, n, value, error):
        """A request has ended. `error` is 0, an errno, or None if the connection was closed."""
        for i in range(first, first + n):
            if error == 0 and type != TRIM:
                self.may[i] = {value} | self.late[i]
            else:
                self.may[i] = self.may[i] | {value}
            if error is None:
                self.late[i] |= {value}
        for b in self.bitmaps.values():
            b.tried |= set(range(first, first + n))
            if error == 0:
                b.done |= set(range(first, first + n))

    def check(self, data, what, first=0, may=None):
        for i, block in enumerate(blocks_of(data), first):
            expected = (may or self.may)[i]
            assert consists_of(block, expected), (
                f"{what}: block {i} is of {sorted(set(block))}, expected: {sorted(expected)}")


class GaveUp(Exception):
    """A part of the scenario cannot go on, because a call fails for ever; the rest of it is left
    out."""


class Run:
    """One run of the scenario with one fault (None: nothing fails)."""

    def __init__(self, folder, fault, policy="break-snapshot"):
        self.folder, self.fault, self.policy = folder, fault, policy
        self.control = grid.Control(os.path.join(folder, "faults"))
        self.images = {name: Image(n) for name, n in BLOCKS.items()}
        self.nbd_errors = []   # what clients were told
        self.closed = 0        # connections that ended under them
        self.qmp_errors = []
        self.q = None
        self.views = {}        # name: (disk, what it may hold)
        self.clients = []
        self.a = self.b = self.c = None

    @property
    def may_fail(self):
        return self.fault is not None and self.fault.is_visible

    # ---- the server ----

    def options(self):
        """Further options of the server."""
        return ()

    def start(self):
        """Start the server. False: it has refused to start."""
        args = []
        for name, image in self.images.items():
            path = os.path.join(self.folder, name)
            with open(path, "wb") as f:
                f.write(image.file_content())
                f.truncate(BLOCKS[name] * BLOCK)
            args += ["--disk", name, "file", path]
        self.server = grid.server(self.folder, self.control, "--scratch", self.folder,
                                  "--on-cbw-error", self.policy, *self.options(), *args)
        if self.fault:
            self.control.arm(self.fault)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # hides what start() prints about failures
                self.server.start()
            self.holds = self.held()
            return True
        except RuntimeError:
            assert self.may_fail and self.control.fired(), f"no start: {self.server.log()}"
            return False

    def held(self):
        """How many descriptors and threads the server has."""
        return tuple(len(os.listdir(f"/proc/{self.server.pid}/{what}")) for what in ("fd", "task"))

    # ---- the control socket ----

    def monitor(self):
        for _ in range(3):
            try:
                self.q = Qmp(self.server.qmp_path)
                return
            except (EOFError, OSError):
                assert self.may_fail, "a monitor was hung up on"
        raise GaveUp("no monitor")

    def command(self, name, is_done, /, **arguments):
        """Execute a command until it is done. If its answer is lost, `is_done()` says whether it
        is."""
        for _ in range(3):
            if self.q is None:
                self.monitor()
            try:
                return self.q.cmd(name, **arguments)
            except QmpError as e:
                assert self.may_fail, f"{name}: {e}"
                self.qmp_errors.append(f"{name}: {e}")
                assert not is_done(), f"{name} failed, but is done: {e}"
            except (EOFError, OSError):
                assert self.may_fail, f"{name}: the monitor was hung up on"
                self.q.close()
                self.q = None
                if is_done():
                    return None
        raise GaveUp(name)

    def ask(self, name):
        return self.command(name, lambda: False)

    def node_names(self):
        return {n["node-name"] for n in self.ask("query-named-block-nodes")}

    def bitmap_names(self, disk):
        nodes = {n["node-name"]: n for n in self.ask("query-named-block-nodes")}
        return {b["name"] for b in nodes[disk].get("dirty-bitmaps", [])}

    # ---- NBD ----

    def connect(self):
        """A client that has not sent any option."""
        return Client(self.server.socket)

    def client(self, export, *contexts):
        for _ in range(1 if self.may_fail and self.fault.forever else 3):
            c = None
            try:
                c = self.connect()
                final, _ = c.option(rawnbd.OPT_STRUCTURED_REPLY)
                c.is_structured = final == rawnbd.REP_ACK
                if final == rawnbd.REP_ACK and contexts:
                    final, got = c.meta(rawnbd.OPT_SET_META, export, *contexts)
                    c.contexts = {context: id for id, context in got}
                if final == rawnbd.REP_ACK:
                    final = c.info(export, option=rawnbd.OPT_GO)
                if final == rawnbd.REP_ACK:
                    c.export = export
                    self.clients.append(c)
                    return c
                assert self.may_fail, f"handshake: {final:#x} {c.message}"
                self.nbd_errors.append(f"handshake: {c.message}")
            except (Closed, OSError):
                assert self.may_fail, "closed in the handshake"
                self.closed += 1
            if c:
                c.close()
        raise GaveUp(f"no connection to {export}")

    def requests(self, c, *requests):
        """Send all requests (type, first block, blocks, value[, flags]) at once, and receive the
        answers. Returns two lists in the same order: the results (0, an error, or None if the
        connection has ended), and the chunks of the replies."""
        return self.answers(c, requests, self.send(c, requests))

    def send(self, c, requests):
        """Send the requests and return their cookies; fewer if the connection has ended."""
        cookies = []
        try:
            for type, first, n, value, *flags in requests:
                length = 0 if type == FLUSH else n * BLOCK
                data = bytes([value]) * length if type == WRITE else b""
                cookies.append(c.request(type, first * BLOCK, length, flags[0] if flags else 0,
                                         data=data))
        except (Closed, OSError):
            assert self.may_fail, "a connection was closed"
        return cookies

    def answers(self, c, requests, cookies):
        """Receive the answers to requests that send() has sent. Returns the same as requests()."""
        results, replies = [None] * len(requests), [[] for _ in requests]
        is_open = getattr(c, "is_open", True)
        try:
            errors = {}
            while None in results:
                m = c.reply()
                i = cookies.index(m.cookie)
                replies[i].append(m)
                errors[i] = errors.get(i, 0) or m.error
                if m.done:
                    results[i] = errors[i]
        except (Closed, OSError):
            assert self.may_fail, "a connection was closed"
            self.closed += is_open
            c.is_open = False
        for i, (type, first, n, value, *_) in enumerate(requests):
            if results[i]:
                assert self.may_fail, f"request {type} of blocks {first}+{n}: error {results[i]}"
                self.nbd_errors.append(f"{c.export}: {type} {first}+{n}: {results[i]}")
            if type in CHANGES:
                self.images[c.export].changed(type, first, n, value, results[i])
            elif type == READ and results[i] == 0:
                self.check_read(c, first, n, replies[i])
        return results, replies

    def check_read(self, c, first, n, messages):
        data = bytearray(n * BLOCK)
        for m in messages:
            if m.data:
                at = m.offset - first * BLOCK
                data[at:at + len(m.data)] = m.data
        if c.export in self.images:
            self.images[c.export].check(data, c.export, first)
        else:
            disk, may = self.views[c.export]
            self.images[disk].check(data, f"view {c.export}", first, may)

    def do(self, c, *requests):
        """Do requests, and repeat those that failed, on a new connection if the old one has ended:
        a fault that comes once does not come again. Returns the client to go on with."""
        if c is None:
            raise GaveUp("no client")
        for _ in range(3):
            results, _ = self.requests(c, *requests)
            if not getattr(c, "is_open", True):
                c.close()
                c = self.client(c.export, *c.contexts)
            requests = [r for r, error in zip(requests, results)
                        if error != 0 and not (error and r[0] == FLUSH) and not
                        (error and len(r) > 4)]  # after a failed flush all flushes and FUA fail
            if not requests:
                return c
        if self.fault.forever or c.export in self.views:
            return c
        raise AssertionError(f"{c.export}: fails again and again: {requests}")

    # ---- the scenario ----

    def play(self):
        with contextlib.suppress(GaveUp):
            self.record()
        with contextlib.suppress(GaveUp):
            self.guests()
        with contextlib.suppress(GaveUp):
            self.freeze()
            self.guests_under_views()
            self.pull()
        with contextlib.suppress(GaveUp):
            self.hang_up()
        with contextlib.suppress(GaveUp):
            self.thaw()

    def record(self):
        self.command("block-dirty-bitmap-add", lambda: "b0" in self.bitmap_names("vda"),
                     node="vda", name="b0", granularity=BLOCK)
        self.images["vda"].bitmaps["b0"] = Bitmap(self.images["vda"])

    def guests(self):
        contexts = ["base:allocation"]
        if "b0" in self.images["vda"].bitmaps:
            contexts.append("qemu:dirty-bitmap:b0")
        a, b = self.client("vda", *contexts), self.client("vda")
        a = self.do(a, (WRITE, 0, 4, 0x21))
        b = self.do(b, (READ, 0, 16, 0))
        a = self.do(a, (WRITE, 4, 1, 0x22, FUA), (FLUSH, 0, 0, 0))
        a = self.do(a, (WRITE_ZEROES, 8, 4, 0), (TRIM, 16, 4, 0), (CACHE, 0, 4, 0),
                    (BLOCK_STATUS, 0, 64, 0))
        b = self.do(b, *((READ, 64 + 16 * i, 16, 0) for i in range(8)),
                    *((WRITE, 32 + i, 1, 0x30 + i) for i in range(8)), (FLUSH, 0, 0, 0))
        c = self.client("vdb")
        c = self.do(c, (WRITE, 0, 8, 0x41), (FLUSH, 0, 0, 0))
        self.a, self.b, self.c = a, b, c

    def freeze(self):
        """Views and bitmaps of both disks at one instant."""
        both = ("vda", "view-a"), ("vdb", "view-b")
        actions = [{"type": t, "data": data} for disk, view in both
                   for t, data in (("block-dirty-bitmap-add", {"node": disk, "name": "b1",
                                                               "granularity": BLOCK}),
                                   ("view-create", {"disk": disk, "name": view}))]
        self.command("transaction", self.is_frozen, actions=actions)
        for disk, view in both:
            image = self.images[disk]
            image.bitmaps["b1"] = Bitmap(image)
            self.views[view] = disk, [set(m) for m in image.may]
            self.command("block-export-add", lambda: view in self.export_ids(), type="nbd",
                         id=view, **{"node-name": view, "name": view})

    def is_frozen(self):
        there = [view in self.node_names() for view in ("view-a", "view-b")]
        there += ["b1" in self.bitmap_names(disk) for disk in self.images]
        assert len(set(there)) == 1, f"a transaction is done in part: {there}"
        return there[0]

    def export_ids(self):
        """The exports, without those that are shutting down: the command has done its part for
        them."""
        return {e["id"] for e in self.ask("query-block-exports") if not e["shutting-down"]}

    def guests_under_views(self):
        a, b, c = self.a, self.b, self.c
        a = self.do(a, (WRITE, 0, 600, 0x51))  # more than a receive buffer and than the memory of scratch
        b = self.do(b, (WRITE, 610, 2, 0x52), (WRITE, 700, 2, 0x53, FUA), (TRIM, 64, 32, 0))
        b = self.do(b, (WRITE_ZEROES, 100, 100, 0), (READ, 0, 32, 0),
                    *((WRITE, 800 + i, 1, 0x60 + i) for i in range(8)), (FLUSH, 0, 0, 0))
        c = self.do(c, (WRITE, 2, 16, 0x61), (WRITE_ZEROES, 40, 2, 0))
        self.a, self.b, self.c = a, b, c

    def pull(self):
        """Read the views. The data is right, or there is an error and the view is shown as
        broken."""
        for view, (disk, _) in self.views.items():
            r = self.client(view, "base:allocation")
            n = BLOCKS[disk]
            step = min(n, 256)
            r = self.do(r, (BLOCK_STATUS, 0, n, 0),
                        *((READ, i, step, 0) for i in range(0, n, step)))
            r.close()

    def hang_up(self):
        """A client hangs up while its write is under way, without waiting for the answer."""
        gone = self.client("vda")
        with contextlib.suppress(OSError):
            gone.request(WRITE, 900 * BLOCK, 8 * BLOCK, data=b"\x71" * (8 * BLOCK))
            gone.request(READ, 0, 64 * BLOCK)
        gone.close()
        self.images["vda"].changed(WRITE, 900, 8, 0x71, None)

    def thaw(self):
        """Delete one of the views; the other stays, for verify()."""
        if "view-b" not in self.views:
            return
        self.command("block-export-del", lambda: "view-b" not in self.export_ids(), id="view-b",
                     mode="hard")
        self.delete_view("view-b")
        del self.views["view-b"]

    def delete_view(self, name):
        """Delete a view whose export is gone. A client that has read it may not be gone altogether,
        so the command is repeated while the view is in use."""
        until = time.monotonic() + SOON
        while name in self.node_names():
            try:
                if self.q is None:
                    self.monitor()
                self.q.cmd("view-delete", name=name)
            except QmpError as e:
                assert "in use" in str(e) or self.may_fail, e
                assert time.monotonic() < until, e
            except (EOFError, OSError):
                assert self.may_fail, "the monitor was hung up on"
                self.q = None

    # ---- what must hold ----

    spare_descriptors = 2  # more than at the start: one for the monitor, one for scratch
    spare_threads = 0

    def good_bitmaps(self, disk):
        """The names of the bitmaps that have to be right."""
        return sorted(self.images[disk].bitmaps)

    def verify(self):
        """No call fails any more. The server lives, and all that it has promised is true."""
        calls, told = self.control.calls(), (list(self.nbd_errors), self.closed)
        fired, what = self.control.fired(), self.control.what()
        self.control.disarm()
        fault, self.fault = self.fault, None
        if self.q:
            self.q.close()
        self.q = None
        self.drain()
        self.verify_views()
        for disk in self.images:
            self.verify_disk(disk)
        self.fault = fault
        self.verify_log(told[0], fired, what)
        return calls, fired

    def drain(self):
        """Make an instant of both disks. It waits for writes under way, also for those of clients
        that have hung up. If one fails and breaks a view, the view is broken then."""
        self.ask("query-version")
        for kind in "add", "remove":
            self.q.cmd("transaction", actions=[
                {"type": f"block-dirty-bitmap-{kind}", "data": {"node": disk, "name": "drain"}}
                for disk in self.images])

    def verify_views(self):
        broken = {v["name"]: v for v in self.ask("query-views") if v["broken"]}
        if broken:
            assert self.policy == "break-snapshot", f"broken: {broken}"
            assert fault_can_break(self.control.what()), f"{self.control.what()} broke {broken}"
        for name in broken:
            assert f"view {name}" in self.server.log(), f"nothing in the log of {broken[name]}"
        for view in set(self.views) - set(broken):
            if view in self.export_ids():
                disk = self.views[view][0]
                r = self.client(view)
                results, _ = self.requests(r, (READ, 0, BLOCKS[disk], 0))
                assert results == [0]
                r.close()

    def verify_disk(self, disk):
        image = self.images[disk]
        names = self.good_bitmaps(disk)
        c = self.client(disk, *(f"qemu:dirty-bitmap:{name}" for name in names))
        _, replies = self.requests(c, (READ, 0, BLOCKS[disk], 0))
        data = b"".join(m.data for m in replies[0])
        for name in names:
            at, dirty = 0, set()
            for length, flags in c.map(f"qemu:dirty-bitmap:{name}", 0, BLOCKS[disk] * BLOCK):
                if flags & 1:
                    dirty |= set(range(at // BLOCK, (at + length) // BLOCK))
                at += length
            image.bitmaps[name].check(dirty, blocks_of(data), f"{disk}: bitmap {name}")
        c.close()

    def verify_log(self, told, fired, what):
        """If an NBD client was given an error, the log has a line about an error."""
        log = self.server.log()
        if told and what.split()[0] not in ("recv", "send", "sendmsg"):
            assert "error: " in log, f"{what}: clients got {told}, the log says nothing"

    def finish(self):
        """The server has no descriptors or threads left over, and ends by SIGTERM. Then the files
        must hold what clients have read."""
        self.fault = None
        for c in self.clients:
            c.close()
        for export in self.export_ids() & {"view-a", "view-b"}:
            self.q.cmd("block-export-del", id=export, mode="hard")
        for view in self.node_names() & {"view-a", "view-b"}:
            self.delete_view(view)
        until = time.monotonic() + SOON
        allowed = self.holds[0] + self.spare_descriptors, self.holds[1] + self.spare_threads
        while any(n > most for n, most in zip(self.held(), allowed)):
            assert time.monotonic() < until, f"left: {self.held()}, at the start: {self.holds}"
            self.ask("query-version")  # asked again until it has closed them
        self.server.stop()
        for disk, image in self.images.items():
            with open(os.path.join(self.folder, disk), "rb") as f:
                image.check(f.read(), f"{disk}'s file")


def fault_can_break(what):
    """True if a view may break because this call has failed."""
    return what.split()[0] not in ("recv", "send", "sendmsg", "accept4", "pthread_create",
                                   "fdatasync")
