# SPDX-License-Identifier: BSD-3-Clause
"""A server, its guests, and a repository into which `fleecectl backup` backs them up. The truth of
each backup is known: a proxy makes views of the same instant, which are read at once.

    with BackupRig("vda", "vdb") as rig:
        rig.write(rng)
        rig.backup()
        rig.check()
"""

import contextlib
import hashlib
import json
import os
import subprocess
import threading

import nbd

import fleece
from fleece import SOON, Server, fleecectl, run, tmpdir
from qmp_exports import closing, connect
from qmp_proxy import QmpProxy
from rig import MIB, image, read_all
from writers import Clock, Trigger, Writer

STEPS = f"{fleece.BUILD}/tests/fleecectl/.libs/steps.so"


class BackupRig:
    """disks: their names, or {name: size}. options: of the server. state: False: without --state.
    prepare(path): fills a new image, before the server starts. plugin: of the disks; with "qcow2", which has
    images of its own, prepare(path, size) makes them.

    The truth of an instant is read on a thread of the proxy, while the test may kill the server and start
    another one in its place. If it has ended the server that began the session, an error is none, and
    fleecectl is cut off."""

    def __init__(self, *disks, size=8 * MIB, options=(), state=True, repository=None, prepare=None,
                 plugin="file"):
        self.disks = disks[0] if isinstance(disks[0], dict) else {name: size for name in disks}
        self._options, self._state = list(options), state
        self._repository, self._prepare, self._plugin = repository, prepare, plugin
        self.truth = {}  # {session: {disk: bytes}}
        self.reading = lambda place: None  # hook: "begun", "connected": what is done of reading a truth
        self._ended = set()  # servers that the test has ended, from before it did so
        self.clock = Clock()
        self.server = self.process = None
        self._count = 0

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.dir = stack.enter_context(tmpdir())
            self.repo = self._repository or f"{self.dir}/repo"
            for name, size in self.disks.items():
                self._new_image(self.image(name), size)
            os.mkdir(f"{self.dir}/state")
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind, value, trace):
        try:
            self.server.__exit__(kind, value, trace)
        finally:
            self._stack.close()

    # ---- the server ----

    def image(self, disk):
        return f"{self.dir}/{disk}.{'raw' if self._plugin == 'file' else self._plugin}"

    def _new_image(self, path, size):
        if self._plugin != "file":
            self._prepare(path, size)
            return
        image(path, size)
        if self._prepare:
            self._prepare(path)

    def start(self):
        words = [word for name in self.disks
                 for word in ("--disk", name, self._plugin, self.image(name))]
        state = ["--state", f"{self.dir}/state"] if self._state else []
        self.server = Server(*state, *self._options, *words, dir=self.dir)
        self.server.__enter__()

    def kill(self):
        self._ended.add(self.server)
        self.server.kill()

    def restart(self, **disks):
        """Start the server again, after its death or an orderly end, with these disks besides."""
        for name, size in disks.items():
            self._new_image(self.image(name), size)
        self.disks.update(disks)
        self._ended.add(self.server)
        self.server.stop()
        self.start()

    def qmp(self):
        return contextlib.closing(fleece.Qmp(self.server.qmp_path))

    def writer(self, disk, rng, **more):
        """A guest that writes."""
        return Writer(self.clock, disk, self.server.uri(disk), rng, Trigger(None, None), **more)

    def write(self, rng, disks=None, most=20):
        """Some writes, which are done when it returns."""
        for disk in disks or self.disks:
            with self.writer(disk, rng, most=most) as writer:
                writer.join(SOON)

    # ---- backups ----

    def _begin(self, request):
        """The session's views, and views for the truth of the same instant."""
        self._count += 1
        views = [{"type": "view-create", "data": {"disk": d["disk"], "name": self._view(d["disk"])}}
                 for d in request["arguments"]["disks"]]
        begin = {"type": "backup-begin", "data": request["arguments"]}
        return {"execute": "transaction", "arguments": {"actions": [begin, *views]}}

    def _view(self, disk):
        return f"truth{self._count}-{disk}"

    def _read(self, uri):
        with closing(connect(uri, [])) as h:
            self.reading("connected")
            return read_all(h)

    def _read_left(self, sessions):
        """A session that goes on, and whose run was killed before its truth was read: then it is what its exports
        have."""
        for session in sessions:
            if session["state"] == "active" and session["id"].startswith("backup-") \
                    and session["id"] not in self.truth:
                self.truth[session["id"]] = {d["disk"]: self._read(d["uri"]) for d in session["disks"]}

    def _read_truth(self, request):
        truth = {}
        self.reading("begun")
        with self.qmp() as q:
            for disk in [d["disk"] for d in request["arguments"]["disks"]]:
                view = self._view(disk)
                q.cmd("block-export-add", type="nbd", id=view, name=view, **{"node-name": view})
                truth[disk] = self._read(self.server.uri(view))
                q.cmd("block-export-del", id=view, mode="hard")
                while q.wait_event("BLOCK_EXPORT_DELETED")["data"]["id"] != view:
                    pass
                q.cmd("view-delete", name=view)
        self.truth[request["arguments"]["id"]] = truth

    @contextlib.contextmanager
    def proxy(self, before=None, after=None):
        """The path of a control socket for one backup. before(request), after(request, reply): hooks
        of qmp_proxy.py, which are told of what fleecectl has sent."""
        begun_by = {}  # {session, or command: the server}; each server has the same sockets

        def send(request):
            if before:
                request = before(request)
            if request and request["execute"] == "backup-begin":
                begun_by[request["arguments"]["id"]] = self.server
                return self._begin(request)
            if request:
                begun_by[request["execute"]] = self.server
            return request

        def receive(request, reply):
            if request["execute"] == "backup-begin" and "return" in reply:
                try:
                    self._read_truth(request)
                except (EOFError, OSError, nbd.Error, fleece.QmpError):
                    if begun_by[request["arguments"]["id"]] not in self._ended:
                        raise
                    return None  # a run that goes on with the session reads it
            if request["execute"] == "query-backups" and "return" in reply:
                try:
                    self._read_left(reply["return"])
                except (EOFError, OSError, nbd.Error):
                    if begun_by["query-backups"] not in self._ended:
                        raise
            return after(request, reply) if after else reply

        with QmpProxy(f"{self.dir}/proxy", self.server.qmp_path, send, receive) as p:
            yield p.path

    def command(self, path, *args):
        return [fleece.FLEECECTL, "-C", path, "backup", "-o", self.repo, "--retry", "10", *args]

    def backup(self, *args, before=None, after=None, check=True, env=None):
        """Run it to its end: what run() returns."""
        with self.proxy(before, after) as path:
            return run(*self.command(path, *args), check=check, env=env)

    @contextlib.contextmanager
    def running(self, *args, before=None, after=None, **popen):
        """A run that goes on meanwhile: Popen, which hooks find in `process` of the rig. Killed at the end, if
        it still runs."""
        known = threading.Event()

        def first(request):
            assert known.wait(SOON)
            return before(request) if before else request

        with self.proxy(first, after) as path:
            process = self.process = subprocess.Popen(
                self.command(path, *args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, preexec_fn=fleece.by_hand, **popen)
            known.set()
            try:
                yield process
            finally:
                process.kill()
                process.communicate()

    # ---- what is there ----

    def manifest(self):
        with open(f"{self.repo}/manifest.json", encoding="utf-8") as f:
            return json.load(f)

    def members(self):
        return self.manifest()["members"]

    def newest(self):
        return self.members()[-1]

    def disk(self, name, member=None):
        """What the manifest says of a disk of a member (default: the newest)."""
        member = member or self.newest()
        return next(d for d in member["disks"] if d["disk"] == name)

    def levels(self, member=None):
        return {d["disk"]: d["level"] for d in (member or self.newest())["disks"]}

    def content(self, file):
        """The disk, as qemu-img reads it."""
        raw = f"{self.dir}/content.raw"
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", f"{self.repo}/{file}", raw)
        with open(raw, "rb") as f:
            return f.read()

    def check_member(self, member):
        for d in member["disks"]:
            run("qemu-img", "check", "-q", f"{self.repo}/{d['file']}")
            truth = self.truth[member["session"]][d["disk"]]
            assert d["size"] == len(truth), (d, len(truth))
            assert self.content(d["file"]) == truth, f"backup {member['id']}: {d} is another disk"

    def files(self):
        """All of the repository but its manifest and lock."""
        found = []
        for folder, _, names in os.walk(self.repo):
            found += [os.path.relpath(os.path.join(folder, name), self.repo) for name in names]
        return sorted(set(found) - {"manifest.json", "manifest.json.old", "lock"})

    def check_files(self):
        """Nothing is there but what the manifest names, and that is as it says."""
        named = [d["file"] for m in self.members() for d in m["disks"]]
        assert self.files() == sorted(named + [f"{name}.sums" for name in named]), self.files()
        for d in (d for m in self.members() for d in m["disks"]):
            with open(f"{self.repo}/{d['file']}.sums", "rb") as f:
                assert hashlib.sha256(f.read()).hexdigest() == d["sums"], d
            assert os.path.getsize(f"{self.repo}/{d['file']}") == d["bytes"], d

    def check_server(self):
        """No session lives, and no checkpoint of ours is there that no member has."""
        with self.qmp() as q:
            left = [s for s in q.cmd("query-backups") if s["state"] == "active"]
            assert not left, left
            there = {c["name"] for c in q.cmd("query-checkpoints")}
        members = {m["checkpoint"] for m in self.members()}
        stray = {name for name in there if name.startswith("backup-")} - members
        assert not stray, stray

    def check(self):
        """Everything, of all members."""
        for member in self.members():
            self.check_member(member)
        self.check_files()
        self.check_server()

    def status(self, *args, check=True):
        return fleecectl("-C", self.server.qmp_path, *args, check=check)
