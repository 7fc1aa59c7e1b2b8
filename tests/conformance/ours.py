# SPDX-License-Identifier: BSD-3-Clause
"""Our server as a target: one process with a disk for each role, and more processes for parts that
end or change a server."""

import contextlib

import storage
from client import DIRTY, Client, NotOffered, Where
from fleece import Server, nbdfleece
from targets import Target, make_certificates

MIB = 1 << 20
KEPT = "backup-disk0"  # the bitmap of the backup's export
DESCRIPTION = "what it is, in \u00fcmlauts"


def is_on(command_line_option):
    """Does the server know this option, as its --help says?"""
    return command_line_option in nbdfleece("--help").stdout


class Ours(Target):
    """inside: the server requires TLS, and every client begins with STARTTLS. state: each server
    has a state folder, so all bitmaps are persistent."""

    name = "nbdfleece"
    is_ours = True

    def __init__(self, inside=False, state=False):
        self._inside, self._state = inside, state
        self._options, self._ca = [], None
        self._servers = 0

    def prepare(self):
        if self._inside:
            if not is_on("--tls"):
                raise NotOffered("tls")
            self._ca = make_certificates(self.path("pki"))
            self._options = ["--tls=require", f"--tls-certificates={self.path('pki')}"]
        disks = [("main", ["memory", "256M"], {}), ("other", ["memory", "64K"], {}),
                 ("large", ["memory", "6G"], {}), ("bitmaps", ["memory", "16M"], {}),
                 ("kept", ["memory", "4M"], {}), ("tight", ["memory", "4M"], {}),
                 ("full", ["full", "1M"], {}),
                 ("odd", ["file", self._file("odd", 1000)], {}),
                 ("empty", ["file", self._file("empty", 0)], {}),
                 ("growing", ["file", self._file("growing", MIB)], {})]
        for name, (arguments, more) in {
                "bad": storage.bad(), "logged": storage.logged(self.path("log")),
                "aligned": storage.aligned(), "fragments": storage.fragments(),
                "slow-zero": storage.slow_zero(self.path("slow")),
                "no-trim": storage.no_trim(self.path("no-trim"))}.items():
            disks.append((name, ["eval", *arguments], more))
        self._more = {name: more for name, _, more in disks}
        self._more["bitmaps"] = {"dirt": [(65536, 0), (65536, 1)]}
        command = [word for name, plugin, _ in disks for word in ("--disk", name, *plugin)]
        self.server = self.stack.enter_context(self._new_server(*command))
        self.qmp = self.server.qmp()
        self._bitmaps()
        self._views()

    def _new_server(self, *words):
        """A server, not started. Its state folder is its own."""
        self._servers += 1
        state = ["--state", self.path(f"state-{self._servers}")] if self._state else []
        return Server(*self._options, *state, *words)

    def _file(self, name, size):
        path = self.path(name)
        with open(path, "wb") as f:
            f.truncate(size)
        return path

    def _export(self, node, name, **more):
        self.qmp.cmd("block-export-add", type="nbd", id=name, name=name, **{"node-name": node},
                     **more)

    def _where(self, name, **more):
        return self._seen(self.server, name, **more)

    def _seen(self, server, name, **more):
        return Where(server.socket, name, self._ca, self._inside, **more)

    def _bitmaps(self):
        for name in "b0", "b1":
            self.qmp.cmd("block-dirty-bitmap-add", node="bitmaps", name=name, granularity=65536)
        with Client(self._where("bitmaps")) as c:
            c.go()
            c.write(65536, b"x" * 65536)
            c.write(9 * MIB, b"x" * 100)
        self.qmp.cmd("block-dirty-bitmap-clear", node="bitmaps", name="b1")

    def _views(self):
        """A backup: a view, and one bitmap of its disk."""
        self.qmp.cmd("block-dirty-bitmap-add", node="kept", name=KEPT)
        with Client(self._where("kept")) as c, Client(self._where("tight")) as tight:
            c.go().write(0, b"before" * 1000)
            tight.go().write(0, b"x" * tight.size)  # so that there is something to keep
        self.qmp.transaction(("view-create", {"disk": "kept", "name": "view"}),
                             ("block-dirty-bitmap-disable", {"node": "kept", "name": KEPT}))
        self._export("view", "backup", bitmaps=[{"node": "kept", "name": KEPT}])
        self.qmp.cmd("view-create", disk="kept", name="discarded")
        self._export("discarded", "discard", discard=True)
        self.qmp.cmd("view-create", disk="tight", name="no-room",
                     **{"on-cbw-error": "break-guest-write", "scratch-limit": MIB})
        self._export("main", "described", description=DESCRIPTION)
        self._export("main", "readonly")

    def export(self, role):
        if role in self._more:
            return self._where(role, **self._more[role])
        return super().export(role)

    def start_default(self):
        return self._where("main")

    def start_described(self):
        return self._where("described", description=DESCRIPTION)

    def start_readonly(self):
        return self._where("readonly")

    def start_bad_status(self):
        return self._where("bad")

    def start_backup(self):
        return self._where("backup", bitmap=DIRTY + KEPT)

    def start_discard(self):
        return self._where("discard")

    def start_full_scratch(self):
        return self._where("tight")

    def start_masked(self):
        server = self.stack.enter_context(
            self._new_server("--mask-handshake=1", "memory", "1M"))
        return self._seen(server, "")

    # TLS with certificates, over the same socket. `secret` is an export with tls-required.

    def _tls(self, mode):
        if not is_on("--tls"):
            raise NotOffered("tls")
        folder = self.path("pki-" + mode)
        ca = make_certificates(folder)
        server = self.stack.enter_context(
            self._new_server(f"--tls={mode}", f"--tls-certificates={folder}", "memory", "1M"))
        return server, Where(server.socket, "disk0", ca=ca, secret="secret")

    def start_tls_required(self):
        return self._tls("require")[1]

    def start_tls_selective(self):
        server, where = self._tls("on")
        server.qmp().cmd("block-export-add", type="nbd", id="secret", name="secret",
                         **{"node-name": "disk0", "tls-required": True})
        return where

    def start_tls(self):
        return self.export("tls-selective")

    # ---- servers and exports that a part ends or changes ----

    @contextlib.contextmanager
    def held(self):
        with storage.Fifos() as fifos, \
                self._new_server("--disk", "vda", "eval", *fifos.arguments()) as server:
            where = self._seen(server, "vda")
            with Client(where) as c:  # so that the server knows that this disk is slow
                c.go()
                for _ in range(8):
                    c.read(4096, 512)
            yield storage.Held(server.pid, fifos, where)
            server.wait()

    @contextlib.contextmanager
    def lost_bitmap(self):
        there = self.qmp.cmd("block-dirty-bitmap-add", node="other", name="lost") == {}

        def lose():
            nonlocal there
            self.qmp.cmd("block-dirty-bitmap-remove", node="other", name="lost")
            there = False
        try:
            yield self._where("other"), DIRTY + "lost", lose
        finally:
            if there:
                lose()

    @contextlib.contextmanager
    def removable(self):
        self._export("other", "removable")
        yield (self._where("removable"),
               lambda: self.qmp.cmd("block-export-del", id="removable", mode="hard"))

    @contextlib.contextmanager
    def growing(self):
        def grow():
            self.qmp.cmd("block_resize", device="growing", size=2 * MIB)
            return 2 * MIB
        yield self._where("growing"), grow
