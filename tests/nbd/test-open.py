#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Plugins that open a handle for the server, but fail or hang when they open one for a client."""

import contextlib
import json
import os
import subprocess
import time

from fleece import (BUILD, SOON, Server, die_with_parent, require_plugin, require_program, run,
                    tmpdir, wait_file)
from rawnbd import *
from tap import main, skip, test
from waiting import wait_logged, wait_until

MIB = 1 << 20
JUDGE = f"{BUILD}/tests/plugins-src/.libs/judge.so"


class Plugin:
    """nbdkit's eval plugin over a file. `opened` and `closed` say how often that was done so far.
    Handles have numbers from 1. Those in `hangs` hang in open until release(); those in `fails`
    fail."""

    def __init__(self, folder, hangs=(), fails=(), more=()):
        require_plugin("eval")
        self.folder = folder
        self.image = f"{folder}/image"
        with open(self.image, "wb") as f:
            f.truncate(MIB)
        os.mkfifo(f"{folder}/fifo")
        # Opened for reading and writing, so that no open waits and nothing written is lost.
        self.fifo = os.open(f"{folder}/fifo", os.O_RDWR)
        self.more = more
        cases = "".join(f"{n}) read line < {folder}/fifo ;; " for n in hangs)
        cases += "".join(f"{n}) echo 'EIO no more than one' >&2; exit 1 ;; " for n in fails)
        self.script = (f"n=1; until mkdir {folder}/open.$n; do n=$((n + 1)); done 2>/dev/null; "
                       f"case $n in {cases} *) ;; esac; echo handle$n")

    def args(self):
        of = f"of={self.image} conv=notrunc oflag=seek_bytes seek=$4 status=none"
        return ("eval", "thread_model=echo parallel", f"open={self.script}",
                f"close=mkdir {self.folder}/close.$2",
                f"get_size=echo {MIB}", "can_multi_conn=exit 0", "can_write=exit 0",
                "can_flush=exit 0", "flush=exit 0",
                f"pread=dd if={self.image} iflag=skip_bytes,count_bytes skip=$4 count=$3 "
                f"bs=65536 status=none",
                f"pwrite=dd bs=65536 {of}", *self.more)

    def _count(self, what):
        return sum(name.startswith(what) for name in os.listdir(self.folder))

    @property
    def opened(self):
        return self._count("open.")

    @property
    def closed(self):
        return self._count("close.")

    def wait_opened(self, n):
        wait_until(lambda: self.opened >= n, self.folder)

    def wait_closed(self, n):
        wait_until(lambda: self.closed >= n, self.folder)

    def release(self):
        """Let all handles go on that hang, also those that have not begun to read the FIFO yet."""
        os.write(self.fifo, b"go\n" * 16)


@contextlib.contextmanager
def serve(*args, hangs=(), fails=(), more=(), late=True):
    """`late`: the server has given up the opens that hang when they come back."""
    with tmpdir() as d:
        plugin = Plugin(d, hangs, fails, more)
        with Server(*args, "--disk", "vda", *plugin.args()) as s:
            try:
                yield s, plugin
                plugin.release()
                if hangs and late and s.process:  # so that the server can end in order
                    wait_logged(s, "has come and was closed")
            finally:
                plugin.release()
                os.close(plugin.fifo)


def user(s, export="vda"):
    return Client(s.socket).go(export)


def has_duplicate_socket(s):
    """Does the server have a socket open under two numbers?"""
    folder = f"/proc/{s.pid}/fd"
    links = []
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(os.path.join(folder, fd)))
    sockets = [link for link in links if link.startswith("socket:")]
    return len(sockets) > len(set(sockets))


def check_works(c, at):
    c.write(at, b"mine")
    assert c.read(at, 4) == b"mine"
    assert c.do(FLUSH) == 0


@test
def a_client_whose_open_fails_uses_the_servers_handle():
    with serve(fails=[2, 4]) as (s, plugin):
        assert plugin.opened == 1
        with user(s) as c, user(s) as own:
            assert plugin.opened == 3
            assert not c.eflags & CAN_MULTI_CONN and own.eflags & CAN_MULTI_CONN
            check_works(c, 0)
            check_works(own, 512)
            assert own.read(0, 4) == b"mine" and c.read(512, 4) == b"mine"
        with Client(s.socket) as c:  # the old option, which cannot report an error
            c.export_name("vda")
            assert not c.eflags & CAN_MULTI_CONN
            check_works(c, 1024)
        assert "disk vda: eval: " in s.log() and "no more than one" in s.log()
        assert "shares the server's" in s.log()


@test
def an_open_that_hangs_holds_up_one_client_for_half_the_deadline():
    with serve("--handshake-timeout", "4", hangs=[2]) as (s, plugin):
        begin = time.monotonic()
        with user(s) as c:
            took = time.monotonic() - begin
            assert 1.9 < took, took
            assert not c.eflags & CAN_MULTI_CONN
            check_works(c, 0)
            # The server begins no other open while that one hangs.
            for _ in range(3):
                with user(s) as other:
                    assert not other.eflags & CAN_MULTI_CONN
                    assert other.read(0, 4) == b"mine"
            assert plugin.opened == 2
            assert "open does not come back in time" in s.log()
            # When it comes back it is closed. After that each client has its own handle again.
            assert has_duplicate_socket(s)
            plugin.release()
            wait_logged(s, "has come and was closed")
            assert plugin.closed == 1
            # The plugin's copy of that client's socket is closed, though no new client has come.
            assert not has_duplicate_socket(s)
            with user(s) as own:
                assert own.eflags & CAN_MULTI_CONN and plugin.opened == 3
                assert own.read(0, 4) == b"mine"
            check_works(c, 0)


@test
def a_client_whose_open_hung_sees_the_end():
    """It sees the end even while the plugin still has a copy of its socket."""
    with serve("--handshake-timeout", "2", hangs=[2]) as (s, plugin):
        with Client(s.socket) as c:
            assert c.info("vda") == REP_ACK
            assert c.option(OPT_ABORT) == (REP_ACK, [])
            c.socket.settimeout(SOON / 3)  # if the server ends the connection, it does so at once
            c.expect_end()
    with serve("--handshake-timeout", "2", hangs=[2]) as (s, plugin):
        with user(s) as c:
            c.request(DISC)
            c.expect_end()


@test
def a_view_needs_no_handle_of_its_own():
    with serve("--handshake-timeout", "0", hangs=[2], late=False) as (s, plugin):
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="v")
        q.cmd("block-export-add", type="nbd", id="v", name="v", **{"node-name": "v"})
        with Client(s.socket) as hung:
            hung.send_option(OPT_GO, hung.go_data("vda"))
            plugin.wait_opened(2)
            with Client(s.socket) as c:
                c.structured()
                c.set_contexts("v", "base:allocation")
                c.go("v")
                assert c.eflags & CAN_MULTI_CONN
                assert c.read(0, 4096) == bytes(4096)
                assert c.block_status(0, MIB)
            assert plugin.opened == 2
            plugin.release()
            assert hung.option_reply(OPT_GO)[0] == REP_INFO


@test
def an_export_is_removed_while_an_open_hangs():
    with serve("--handshake-timeout", "0", hangs=[2]) as (s, plugin):
        q = s.qmp()
        q.cmd("block-export-add", type="nbd", id="e", name="e", writable=True,
              **{"node-name": "vda"})
        with Client(s.socket) as c:
            c.send_option(OPT_GO, c.go_data("e"))
            plugin.wait_opened(2)
            q.cmd("block-export-del", id="e", mode="hard")
            q.wait_event("BLOCK_EXPORT_DELETED")
            type, why = c.option_reply(OPT_GO)
            assert type == ERR_UNKNOWN and b"is being removed" in why, (hex(type), why)
            c.go("vda")  # the client may go on with another export
            check_works(c, 0)


@test
def a_client_can_leave_while_its_open_hangs():
    with serve("-v", "--handshake-timeout", "0", hangs=[2]) as (s, plugin):
        with Client(s.socket) as c:
            c.send_option(OPT_GO, c.go_data("vda"))
            plugin.wait_opened(2)
        wait_logged(s, "client 1: gone")
        assert plugin.closed == 0


@test
def the_server_ends_while_an_open_hangs():
    for timeout in "0", "1":
        with serve("--handshake-timeout", timeout, hangs=[2]) as (s, plugin):
            with Client(s.socket) as c:
                c.send_option(OPT_GO, c.go_data("vda"))
                plugin.wait_opened(2)
                if timeout == "1":
                    assert c.option_reply(OPT_GO)[0] == REP_INFO
                s.stop(1)
            assert "the plugin is not ended" in s.log(), s.log()
            assert "the server did not end in order" in s.log(), s.log()
            assert plugin.closed == 0


@test
def the_server_ends_after_a_late_open_has_come():
    with serve("--handshake-timeout", "1", hangs=[2]) as (s, plugin):
        with user(s):
            plugin.release()
            plugin.wait_closed(1)
        s.stop()
        assert "the plugin is not ended" not in s.log(), s.log()
        assert plugin.closed == 2


@test
def a_client_that_a_plugin_refuses_is_told_why():
    with tmpdir() as d:
        more = (f"preconnect=mkdir {d}/first 2>/dev/null && exit 0; "
                f"test -e {d}/all || {{ echo 'not you' >&2; exit 1; }}",)
        with serve(more=more) as (s, plugin):
            with Client(s.socket) as c:
                assert c.info("vda") == ERR_POLICY
                assert "is there, but its plugin does not open it for this client" in c.message
                assert c.info("nope") == ERR_UNKNOWN
                assert c.message == 'there is no export named "nope"'
                assert c.info("vda") == ERR_POLICY
                open(f"{d}/all", "w").close()
                c.go("vda")
            assert "not you" in s.log()
            os.unlink(f"{d}/all")
            with Client(s.socket) as c:
                c.send_option(OPT_EXPORT_NAME, b"vda")
                c.expect_end()


@test
def a_plugin_that_looks_at_clients_may_refuse_them():
    """A client that the plugin refuses does not get the handle of the server instead."""
    if not os.path.exists(JUDGE):
        skip("test plugins need nbdkit-plugin.h")
    with tmpdir() as d, Server("--disk", "vda", JUDGE, f"open={d}/open") as s:
        with Client(s.socket) as c:
            assert c.info("vda") == ERR_POLICY
            open(f"{d}/open", "w").close()
            c.go("vda")
            assert c.eflags & CAN_MULTI_CONN


@test
def a_remote_server_that_takes_one_connection():
    require_program("nbdkit")
    require_plugin("nbd")
    with tmpdir() as d:
        server = subprocess.Popen(
            ["nbdkit", "-f", "-P", f"{d}/pid", "-U", f"{d}/sock", "--filter=limit", "memory", "1M",
             "limit=1"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent)
        try:
            assert wait_file(server, f"{d}/pid"), "nbdkit has not started"
            with Server("--disk", "vda", "nbd", f"socket={d}/sock") as s:
                with user(s) as a, user(s) as b:
                    assert not (a.eflags | b.eflags) & CAN_MULTI_CONN
                    check_works(a, 0)
                    assert b.read(0, 4) == b"mine"
                info = json.loads(run("nbdinfo", "--json", s.uri("vda")).stdout)["exports"][0]
                assert info["export-size"] == MIB and not info["can_multi_conn"]
        finally:
            server.kill()
            server.wait()


main()
