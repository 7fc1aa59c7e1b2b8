#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A plugin may ask for the end of the server, or of its client. It asks in each callback where that
is allowed, and the server does it."""

import os
import select
import signal
import subprocess

from fleece import NBDFLEECE, SOON, Server, die_with_parent, nbdfleece, sanitizer_env
from fleece import sanitizer_reports, tmpdir
from tap import main, note, skip, test

import rawnbd

ENDER = os.path.join(os.environ["top_builddir"], "tests/plugins-src/.libs/ender.so")
AT_START = ("config", "config_complete", "thread_model", "get_ready", "after_fork", "preconnect",
            "open", "get_size", "can_multi_conn")
DATA_CALLS = ("pread", "pwrite", "flush", "extents")


def ender(**how):
    if not os.path.exists(ENDER):
        skip("nbdkit-plugin.h was not there to build test plugins with")
    return [ENDER] + [f"{key}={value}" for key, value in how.items()]


# ---- the server's end ----

@test
def shutdown_during_the_start():
    with tmpdir() as d:
        for where in AT_START:
            note(where)
            nbdfleece("-f", "-U", f"{d}/sock", *ender(shutdown=where))
        note("load")
        nbdfleece("-f", "-U", f"{d}/sock", *ender(), env={"ENDER": "load"})
        note("another thread")
        nbdfleece("-f", "-U", f"{d}/sock", *ender(thread=1))


@test
def shutdown_during_a_start_in_the_background():
    """Whoever started the server is told that it started; then it ends."""
    with tmpdir() as d:
        for where in "get_ready", "after_fork", "open":
            note(where)
            os.mkfifo(f"{d}/alive")
            reader = os.open(f"{d}/alive", os.O_RDONLY | os.O_NONBLOCK)
            writer = os.open(f"{d}/alive", os.O_WRONLY)
            subprocess.run([NBDFLEECE, "-U", f"{d}/sock", "-P", f"{d}/pid",
                            *ender(shutdown=where)], check=True, timeout=SOON,
                           stdin=subprocess.DEVNULL, pass_fds=[writer], env=sanitizer_env(d))
            os.close(writer)
            # The FIFO ends when the last process that could write to it has ended.
            ended = select.select([reader], [], [], SOON / 2)[0]
            if not ended:
                with open(f"{d}/pid") as f:
                    os.kill(int(f.read()), signal.SIGKILL)
            assert ended, "it runs on"
            os.close(reader)
            os.unlink(f"{d}/alive")
        assert sanitizer_reports(d) == ""


@test
def shutdown_with_a_command_and_on_standard_input():
    # The server ends the command, too. The exit code does not matter here.
    nbdfleece("-U", "-", *ender(shutdown="after_fork"), "--run", "exec sleep 1000", check=False)
    with tmpdir() as d:
        reader, writer = os.pipe()  # a client that says nothing
        server = subprocess.Popen([NBDFLEECE, "-s", *ender(shutdown="after_fork")], stdin=reader,
                                  stdout=subprocess.PIPE, env=sanitizer_env(d),
                                  preexec_fn=die_with_parent)
        assert server.wait(SOON) == 0
        server.stdout.close()
        os.close(reader)
        os.close(writer)
        assert sanitizer_reports(d) == ""


def do(h, call, offset=0):
    """Send a request for which the server makes this data call."""
    if call == "pread":
        return h.pread(512, offset)
    if call == "pwrite":
        return h.pwrite(bytes(512), offset)
    if call == "flush":
        return h.flush()
    return h.block_status(512, offset, lambda *args: 0)


@test
def shutdown_from_a_client_s_call():
    for multi_conn in 0, 1:
        for call in DATA_CALLS:
            note(f"{call} multi_conn={multi_conn}")
            with Server("--disk", "vda", *ender(shutdown=call, multi_conn=multi_conn)) as s:
                h = s.nbd("vda", contexts=["base:allocation"])
                do(h, call)  # raises if it is not answered
                s.wait()
    with Server("--disk", "vda", *ender(shutdown="close", multi_conn=1)) as s:
        s.nbd("vda").shutdown()
        s.wait()


# ---- a client's end ----

class Pipes:
    """A server's standard input and output, with the interface of rawnbd's sockets."""

    def __init__(self, process):
        self.process = process

    def sendall(self, data):
        self.process.stdin.write(data)

    def recv(self, n):
        return os.read(self.process.stdout.fileno(), n)

    def settimeout(self, seconds):
        pass

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()


def request(client, call, offset=0):
    kind = {"pread": rawnbd.READ, "pwrite": rawnbd.WRITE, "flush": rawnbd.FLUSH,
            "extents": rawnbd.BLOCK_STATUS}[call]
    length = 0 if call == "flush" else 512
    client.request(kind, offset, length, data=bytes(512) if call == "pwrite" else b"")


def assert_ended_at_once(client):
    """The connection ends, and not even the request under way is answered."""
    try:
        client.expect_end()
    except BrokenPipeError:
        pass


def whole_reply(client):
    while not (reply := client.reply()).done:
        assert reply.error == 0, reply
    return reply


def assert_ended_in_order(client):
    """The request under way is answered. A later one is refused, or not received at all."""
    assert whole_reply(client).error == 0
    try:
        request(client, "pread", 4096)
        assert whole_reply(client).error == rawnbd.ESHUTDOWN
        client.expect_end()
    except (rawnbd.Closed, BrokenPipeError, ConnectionResetError):
        pass


def a_client(where, export):
    client = rawnbd.Client(where)
    client.structured()
    client.set_contexts(export, "base:allocation")
    client.go(export)
    return client


def each_way():
    for force in 0, 1:
        for multi_conn in 0, 1:
            for call in DATA_CALLS:
                note(f"{call} force={force} multi_conn={multi_conn}")
                yield call, ender(disconnect=call, force=force, multi_conn=multi_conn), \
                    assert_ended_at_once if force else assert_ended_in_order


@test
def disconnect_ends_the_caller_and_no_other():
    for call, plugin, assert_ended in each_way():
        with Server("--disk", "vda", *plugin) as s:
            with a_client(s.socket, "vda") as other, a_client(s.socket, "vda") as client:
                request(client, "pread", 4096)
                assert whole_reply(client).error == 0
                request(client, call)
                assert_ended(client)
                assert other.read(4096, 512) == b"e" * 512
            with a_client(s.socket, "vda") as again:
                assert again.read(4096, 512) == b"e" * 512


@test
def disconnect_on_standard_input_and_output():
    for call, plugin, assert_ended in each_way():
        with tmpdir() as d:
            server = subprocess.Popen([NBDFLEECE, "-s", *plugin], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, bufsize=0, env=sanitizer_env(d),
                                      preexec_fn=die_with_parent)
            client = a_client(Pipes(server), "")
            request(client, call)
            assert_ended(client)
            assert server.wait(SOON) == 0
            client.close()
            assert sanitizer_reports(d) == ""


@test
def disconnect_while_the_handle_is_opened():
    """The disk's own handle has no client, so nothing is ended. A client that would get a handle of
    its own is not let in, and the server goes on."""
    for where in "preconnect", "open", "get_size", "can_multi_conn":
        for force in 0, 1:
            note(f"{where} force={force}")
            with Server("--disk", "vda", *ender(disconnect=where, force=force, multi_conn=1),
                        "--disk", "vdb", *ender(disconnect=where, force=force)) as s:
                client = rawnbd.Client(s.socket)
                try:
                    client.go("vda")
                    raise AssertionError("let in")
                except (rawnbd.Closed, BrokenPipeError, ConnectionResetError):
                    pass
                client.close()
                with a_client(s.socket, "vdb") as other:
                    assert other.read(0, 512) == b"e" * 512


@test
def disconnect_of_a_view_s_reader_spares_the_guest():
    with Server("--disk", "vda", *ender(disconnect="pread")) as s:
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="v")
        q.cmd("block-export-add", type="nbd", id="e", **{"node-name": "v"})
        with a_client(s.socket, "vda") as guest, a_client(s.socket, "v") as reader:
            request(reader, "pread")
            assert_ended_in_order(reader)
            assert guest.read(4096, 512) == b"e" * 512
            # Before a write, the server reads the old data to keep it. That call is made for the
            # guest, so it ends the guest's connection, after the reply.
            request(guest, "pwrite", 512)
            assert whole_reply(guest).error == 0
        assert not q.cmd("query-views")[0]["broken"]


main()
