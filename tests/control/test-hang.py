# SPDX-License-Identifier: BSD-3-Clause
"""A disk whose backend hangs for ever holds up no other disk.

`bad` and `good` are disks of one server. A write to offset 0 of `bad` never comes back. While one
is under way:

- Every command on `good`, on another monitor, is answered while a command on `bad` waits. The order
  of events shows this: the command on `bad` is still open when the others have been answered.
- The command on `bad` fails by its deadline, and the error names `bad`.
- SIGTERM ends the server. `good` answers the requests that it has, is flushed and is closed, and
  the log says what was left.
"""

import contextlib
import os
import re
import select
import shutil
import signal
import tempfile

from fleece import BUILD, SOON, Server
from rawnbd import ERR_UNKNOWN, FUA, OPT_GO, WRITE, Client
from tap import main, note, skip, test

PLUGIN = f"{BUILD}/tests/plugins-src/.libs/stuck.so"
MIB = 1 << 20
BLOCK = b"x" * 4096
STOP_TIMEOUT = 5  # seconds after which the server leaves what hangs


class Rig:
    """A server with both disks, and their requests that are stuck."""

    def __init__(self):
        if not os.path.exists(PLUGIN):
            skip("nbdkit-plugin.h is not installed")
        self._stack = contextlib.ExitStack()
        self.dir = tempfile.mkdtemp(prefix="fleece-hang-")
        self._stack.callback(shutil.rmtree, self.dir, ignore_errors=True)
        self.fifos = {}
        for name in "begun", "good-begun", "good-go":
            path = f"{self.dir}/{name}"
            os.mkfifo(path)
            self.fifos[name] = os.open(path, os.O_RDWR)
            self._stack.callback(os.close, self.fifos[name])
        with open(f"{self.dir}/notes", "w", encoding="ascii"):
            pass
        self.server = Server("--stop-timeout", STOP_TIMEOUT,
                             "--disk", "bad", PLUGIN, f"begun={self.dir}/begun",
                             "--disk", "good", PLUGIN, f"begun={self.dir}/good-begun",
                             f"go={self.dir}/good-go", f"notes={self.dir}/notes")
        self.extra = f"{self.dir}/extra"  # the socket of nbd-server-start

    def __enter__(self):
        self._stack.enter_context(self.server)
        return self

    def __exit__(self, *exception):
        return self._stack.__exit__(*exception)

    def client(self, export, extra=False):
        c = Client(self.extra if extra else self.server.socket)
        self._stack.callback(c.close)
        return c.go(export)

    def wait_begun(self, fifo):
        """Wait until a call is stuck in the plugin, and return the name of the call."""
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.fifos[fifo]], [], [], SOON)
            assert ready, "the write has not begun"
            line += os.read(self.fifos[fifo], 1)
        return line.decode().strip()

    def stick(self, extra=None):
        """Let a client of `bad` send a write that gets stuck. With a view it is stuck already where
        the old data is read. extra: the client uses the export of that name on the second
        listener."""
        c = self.client(extra or "bad", extra=extra is not None)
        c.request(WRITE, 0, len(BLOCK), data=BLOCK)
        self.wait_begun("begun")

    def notes(self):
        with open(f"{self.dir}/notes", encoding="ascii") as f:
            return f.read().split()


class Pending:
    """A command on a monitor of its own. Nobody waits for its reply."""

    def __init__(self, rig, command, **arguments):
        self.monitor = rig.server.qmp()
        self.command = command
        self.monitor.write({"execute": command, "arguments": arguments, "id": "pending"})

    def is_open(self):
        """True if no reply has come yet. Events may have come."""
        while select.select([self.monitor.socket], [], [], 0)[0]:
            if "event" not in self.monitor.read():
                return False
        return True

    def succeeds(self):
        reply = self.monitor.reply("pending")
        assert "return" in reply, (self.command, reply)

    def fails(self):
        """Wait until the command has failed, and return the text of its error."""
        reply = self.monitor.reply("pending")
        assert "error" in reply, (self.command, reply)
        note(f"{self.command}: {reply['error']['desc']}")
        return reply["error"]["desc"]


def work_on_good(rig, pending=None):
    """Run every command that concerns a disk, on `good`, and the queries of all disks. Each is
    answered while `pending` is open."""
    q = rig.server.qmp()

    def do(command, /, **arguments):
        result = q.cmd(command, **{key.replace("_", "-"): value
                                   for key, value in arguments.items()})
        assert not pending or pending.is_open(), \
            f"{command} on good was answered after {pending.command} on bad"
        return result
    for query in ("query-version", "query-commands", "query-status", "query-block",
                  "query-named-block-nodes", "query-views", "query-block-exports",
                  "query-nbd-servers"):
        do(query)
    for name in "a", "b":
        do("block-dirty-bitmap-add", node="good", name=name)
    with Client(rig.server.socket) as c:  # a new client is served, too
        c.go("good")
        c.write(4096, BLOCK)
        assert c.read(4096, 4096) == BLOCK
    do("block-dirty-bitmap-disable", node="good", name="a")
    do("block-dirty-bitmap-enable", node="good", name="a")
    do("block-dirty-bitmap-merge", node="good", target="b", bitmaps=["a"])
    do("block-dirty-bitmap-clear", node="good", name="a")
    do("x-debug-block-dirty-bitmap-sha256", node="good", name="a")
    do("transaction", actions=[
        {"type": "block-dirty-bitmap-remove", "data": {"node": "good", "name": "a"}},
        {"type": "view-create", "data": {"disk": "good", "name": "now"}}])
    do("view-create", disk="good", name="later")
    do("query-views")
    if not pending or pending.command != "nbd-server-stop":
        do("block-export-add", type="nbd", id="now", node_name="now", name="now")
        do("query-block-exports")
        do("block-export-del", id="now")
        q.wait_event("BLOCK_EXPORT_DELETED")
    for view in "now", "later":
        do("view-delete", name=view)
    do("block-dirty-bitmap-remove", node="good", name="b")
    do("block_resize", node_name="good", size=MIB + 65536)
    do("query-block")


# Commands that wait for the write that is stuck: {command: arguments}. prepare() makes what they
# name.
WAITING = {
    "block-dirty-bitmap-add": {"node": "bad", "name": "new"},
    "block-dirty-bitmap-clear": {"node": "bad", "name": "old"},
    "transaction": {"actions": [
        {"type": "block-dirty-bitmap-add", "data": {"node": "bad", "name": "new"}},
        {"type": "view-create", "data": {"disk": "bad", "name": "new"}}]},
    "view-delete": {"name": "old"},
    "block_resize": {"node-name": "bad", "size": MIB + 65536},
    "nbd-server-stop": {},
}
BY_EXPORT = "block-export-del", "nbd-server-stop"  # these end the client whose write is stuck


def prepare(rig, command):
    q = rig.server.qmp()
    q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": rig.extra}})
    if command in BY_EXPORT:
        q.cmd("block-export-add", type="nbd", id="added", name="added", writable=True,
              **{"node-name": "bad"})
        rig.stick("added")
    else:
        q.cmd("block-dirty-bitmap-add", node="bad", name="old")
        if command != "block_resize":
            q.cmd("view-create", disk="bad", name="old")
        rig.stick()
    return q


@test
def commands_on_others_are_answered_while_one_waits():
    """All commands wait at the same time, each on a server of its own, so that their deadlines pass
    together."""
    with contextlib.ExitStack() as stack:
        waiting = []
        for command, arguments in WAITING.items():
            rig = stack.enter_context(Rig())
            prepare(rig, command)
            pending = Pending(rig, command, **arguments)
            work_on_good(rig, pending)
            waiting.append((rig, pending))
        for rig, pending in waiting:
            assert ("added" if pending.command in BY_EXPORT else "bad") in pending.fails()
            # What failed has changed nothing, and the disk still does what it can.
            q = rig.server.qmp()
            nodes = {n["node-name"]: n for n in q.cmd("query-named-block-nodes")}
            assert "new" not in nodes
            for node in "good", "bad":
                assert {b["name"] for b in nodes[node].get("dirty-bitmaps", [])} <= {"old"}
            assert nodes["bad"]["image"]["virtual-size"] == MIB
            with Client(rig.server.socket) as c:
                c.go("bad")
                c.write(4096, BLOCK)
                assert c.read(4096, 4096) == BLOCK
            rig.server.kill()


@test
def a_change_behind_one_that_never_ends_fails():
    """A resize of `bad` never ends. A transaction over both disks fails by its deadline, and the
    error names `bad`. A command on `good` waits behind the transaction almost as long, and then
    succeeds."""
    with Rig() as rig:
        resize = Pending(rig, "block_resize", **{"node-name": "bad", "size": 2 * MIB})
        assert rig.wait_begun("begun") == "resize"
        both = Pending(rig, "transaction", actions=[
            {"type": "block-dirty-bitmap-add", "data": {"node": "good", "name": "new"}},
            {"type": "block-dirty-bitmap-add", "data": {"node": "bad", "name": "new"}}])
        rig.server.qmp().cmd("query-version")  # the server has read both
        assert both.is_open()
        behind = Pending(rig, "block-dirty-bitmap-add", node="good", name="behind")
        assert "disk bad: an earlier change" in both.fails()
        behind.succeeds()
        assert resize.is_open()
        work_on_good(rig, resize)
        nodes = {n["node-name"]: n for n in rig.server.qmp().cmd("query-named-block-nodes")}
        assert {b["name"] for b in nodes["good"]["dirty-bitmaps"]} == {"behind"}
        rig.server.kill()


@test
def an_export_is_removed_while_its_client_hangs():
    """The command is answered at once. No client can use the export any more; it stays, shown as
    shutting down, until its client ends."""
    with Rig() as rig:
        q = prepare(rig, "block-export-del")
        q.cmd("block-export-del", id="added", mode="hard")
        work_on_good(rig)
        left, = q.cmd("query-block-exports")
        assert left["id"] == "added" and left["shutting-down"], left
        with Client(rig.extra) as c:
            assert c.info("added", option=OPT_GO) == ERR_UNKNOWN
        with Client(rig.server.socket) as c:
            c.go("bad")
            c.write(4096, BLOCK)
        told = [e["data"]["id"] for e in q.events()]
        assert told == ["now"], f"events tell that these are gone: {told}"
        rig.server.kill()


@test
def the_end_is_bounded_and_says_what_was_left():
    """A write to `good` is under way at SIGTERM, and goes on after it. The write is answered, then
    the disk is flushed, then closed. A second client of `good` has nothing under way."""
    with Rig() as rig:
        rig.stick()
        idle = rig.client("good")
        busy = rig.client("good")
        cookie = busy.request(WRITE, 0, len(BLOCK), FUA, data=BLOCK)
        rig.wait_begun("good-begun")
        rig.server.process.send_signal(signal.SIGTERM)
        idle.expect_end()
        assert "pwrite" not in rig.notes(), rig.notes()
        os.write(rig.fifos["good-go"], b"\n")
        reply = busy.reply()
        assert reply.cookie == cookie and reply.error == 0, reply
        assert "flush" in rig.notes(), rig.notes()
        busy.expect_end()
        rig.server.wait(expect=1)
        notes = rig.notes()
        note(rig.server.log())
        assert notes.index("pwrite") < notes.index("flush"), notes
        assert notes[-3:] == ["flush", "close", "unload"], notes
        assert re.search('client process .* of export "bad" .*a WRITE is in the plugin',
                         rig.server.log())
        assert re.search("disk bad: .* is not closed", rig.server.log())
        assert "good" not in rig.server.log()


main()
