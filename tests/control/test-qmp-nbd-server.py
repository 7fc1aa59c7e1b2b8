#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbd-server-start and -stop: the checks, and whom the listener serves with what."""

import contextlib
import os
import socket

import fleece
from fleece import Server, tmpdir
from qmp_checks import fails
from qmp_exports import DEL, DISKS, closing, connect, export, export_fails
from tap import main, test


def free_port():
    """A TCP port of the loopback that nobody has right now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fails_with(q, word, command, /, **arguments):
    """It fails, and the text names what it is about."""
    try:
        q.cmd(command, **arguments)
    except fleece.QmpError as e:
        assert e.cls == "GenericError" and word in e.desc, e
        return
    raise AssertionError(f"{command} {arguments} did not fail")


@test
def start_checks():
    with Server(*DISKS) as s, tmpdir() as d:
        q = s.qmp()
        start, stop = "nbd-server-start", "nbd-server-stop"
        path = os.path.join(d, "nbd")
        unix = {"type": "unix", "data": {"path": path}}
        inet = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(free_port())}}
        # The command line's own listener is not one that can be stopped.
        fails(q, "NBD server not running", stop)
        fails(q, "Parameter 'addr' is missing", start)
        fails(q, "Invalid parameter type for 'addr', expected: object", start, addr=path)
        fails(q, "Parameter 'addr.type' is missing", start, addr={})
        fails(q, "Parameter 'type' does not accept value 'vsock'", start,
              addr={"type": "vsock", "data": {"cid": "1", "port": "1"}})
        fails(q, "Parameter 'addr.data' is missing", start, addr={"type": "unix"})
        fails(q, "Parameter 'addr.data.path' is missing", start, addr={"type": "unix", "data": {}})
        fails(q, "Parameter 'addr.data.port' is missing", start,
              addr={"type": "inet", "data": {"host": "x"}})
        fails(q, "Invalid parameter type for 'addr.data.port', expected: string", start,
              addr={"type": "inet", "data": {"host": "x", "port": 1}})
        fails(q, "Parameter 'addr.data.ipv6' is unexpected", start,
              addr={"type": "inet", "data": {"host": "x", "port": "1", "ipv6": True}})
        for name in "max-connections", "handshake-max-seconds":
            fails(q, f"Parameter '{name}' expects uint32_t", start, addr=unix, **{name: -1})
            fails(q, f"Parameter '{name}' expects uint64", start, addr=unix, **{name: "1"})
        fails(q, "No TLS credentials with id 'tls0'", start, addr=unix, **{"tls-creds": "tls0"})
        fails(q, "Parameter 'tls-authz' is unexpected", start, addr=unix, **{"tls-authz": "a"})
        fails(q, "File descriptor named 'sock' has not been found", start,
              addr={"type": "fd", "data": {"str": "sock"}})
        for fd in "0", "1", "2":
            fails_with(q, "socket", start, addr={"type": "fd", "data": {"str": fd}})
        # As 16 bits 99999 is 34463, and 65536 and "" are any port. The words are QEMU's.
        for port, text in (("99999", "port 99999 out of range"), ("65536", "port 65536 out of range"),
                           ("-1", "can't convert to a number: -1"),
                           (" 80", "can't convert to a number:  80"),
                           ("", "can't convert to a number: ")):
            fails(q, text, start, addr={"type": "inet", "data": {"host": "127.0.0.1", "port": port}})
        fails_with(q, "127.0.0.1 port no-such-service", start,
                   addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "no-such-service"}})
        fails_with(q, "/nonexistent/nbd", start,
                   addr={"type": "unix", "data": {"path": "/nonexistent/nbd"}})
        fails_with(q, s.socket, start, addr={"type": "unix", "data": {"path": s.socket}})
        assert not os.path.exists(path)

        for addr in unix, inet:
            q.cmd(start, addr=addr)
            for again in unix, inet:
                fails(q, "NBD server already running", start, addr=again, **{"tls-creds": "x"})
            q.cmd(stop)
            fails(q, "NBD server not running", stop)
        assert not os.path.exists(path)


@test
def a_started_server_serves_and_its_stop_ends_all_exports():
    with Server(*DISKS) as s, tmpdir() as d:
        q = s.qmp()
        path, port = os.path.join(d, "nbd"), free_port()
        for addr, uri in [
            ({"type": "unix", "data": {"path": path}}, lambda name: fleece.uri(name, unix=path)),
            ({"type": "inet", "data": {"host": "127.0.0.1", "port": str(port)}},
             lambda name: fleece.uri(name, port=port, host="127.0.0.1")),
        ]:
            q.cmd("nbd-server-start", addr=addr)
            export(q, "e", "vda", name="mine")
            own = s.nbd("mine")  # on the command line's socket
            other = connect(uri("mine"))
            live = s.nbd("vda")
            for h in own, other, live:
                assert h.pread(1, 0) == b"\0"
            assert [v["live"] for v in q.cmd("query-nbd-servers")] == [True, False]
            q.cmd("nbd-server-stop")
            assert not os.path.exists(path)
            assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "e"}
            assert q.cmd("query-block-exports") == []
            for h in own, other:
                try:
                    h.pread(1, 0)
                    raise AssertionError("a client of what was stopped lives on")
                except Exception as e:
                    assert type(e).__name__ == "Error", e
            with closing(live):  # clients of the command line's socket keep their disks
                assert live.pread(1, 0) == b"\0"
            assert [v["live"] for v in q.cmd("query-nbd-servers")] == [True]


def refused(uri, how):
    """Connecting is refused, with a word of libnbd's error."""
    try:
        connect(uri)
    except Exception as e:
        assert type(e).__name__ == "Error" and how in str(e), e
        return
    raise AssertionError(f"{uri} is served")


def names_at(path):
    """The names that NBD_OPT_LIST tells on a Unix socket."""
    import nbd
    h, names = nbd.NBD(), []
    h.set_opt_mode(True)
    h.connect_unix(path)
    h.opt_list(lambda name, description: names.append(name) or 0)
    h.opt_abort()
    return names


@test
def a_started_server_serves_no_disk():
    """A port that is opened for a backup client does not serve the guests' disks: not by name, not as
    "", not in the list, not by INFO or as contexts."""
    import nbd
    with Server(*DISKS) as s:
        q = s.qmp()
        path = s.path("other")
        q.cmd("block-dirty-bitmap-add", node="vda", name="b")
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": path}})

        def told(name):
            """Which of INFO and LIST_META_CONTEXT answer with something."""
            answers = []
            h = nbd.NBD()
            h.set_opt_mode(True)
            h.set_export_name(name)
            h.connect_unix(path)
            for ask in h.opt_info, lambda: h.opt_list_meta_context(lambda context: 0):
                try:
                    ask()
                    answers.append(True)
                except nbd.Error:
                    answers.append(False)
            h.opt_abort()
            return answers

        def hidden(*names):
            for name in names:
                refused(fleece.uri(name, unix=path), "no export named")
                assert told(name) == [False, False], name

        assert names_at(path) == []
        hidden("vda", "vdb", "")
        export(q, "e", "vda", name="added")
        assert names_at(path) == ["added"] and names_at(s.socket) == ["vda", "vdb", "added"]
        hidden("vda", "vdb", "")
        assert told("added") == [True, True]
        with closing(connect(fleece.uri("added", unix=path))) as h:
            assert h.is_read_only()


@test
def an_export_is_named_as_its_disk():
    """libvirt names exports so. By that name the command line's clients get the disk, and the others
    get the export; the same with ""."""
    with Server(*DISKS) as s:
        q = s.qmp()
        path = s.path("other")
        with closing(s.nbd("vda")) as h:
            h.pwrite(b"then" * 128, 0)
            q.cmd("view-create", disk="vda", name="view")
            h.pwrite(b"now!" * 128, 0)
        # The name is taken while there is no listener whose clients would find the export by it.
        export_fails(q, "NBD server already has export named 'vda'", "e", "view", name="vda")
        for round in range(2):
            q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": path}})
            for number, name in enumerate(("vda", "", "vdb")):
                export(q, f"e{number}", "view", name=name)
                export_fails(q, f"NBD server already has export named '{name}'", "again", "view",
                             name=name)
                with closing(connect(fleece.uri(name, unix=path))) as h:
                    assert h.pread(4, 0) == b"then" and h.is_read_only(), name
                with closing(s.nbd(name)) as h:
                    assert h.pread(4, 0) == (b"\0\0\0\0" if name == "vdb" else b"now!"), name
                    assert not h.is_read_only(), name
            assert names_at(path) == ["vda", "", "vdb"] and names_at(s.socket) == ["vda", "vdb"]
            q.cmd(DEL, id="e0")
            refused(fleece.uri("vda", unix=path), "no export named")
            export(q, "e0", "view", name="vda")  # the name is free again
            if round == 0:
                q.cmd("nbd-server-stop")
                export_fails(q, "NBD server already has export named 'vda'", "e", "view",
                             name="vda")
            else:
                s.stop()  # as it is


@test
def limits_of_a_started_server():
    with Server(*DISKS) as s, tmpdir() as d:
        q = s.qmp()
        path = os.path.join(d, "nbd")
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": path}},
              **{"handshake-max-seconds": 1, "max-connections": 1})
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as silent:
            silent.settimeout(9)  # the command line's would be 10
            silent.connect(path)
            assert len(silent.recv(100)) > 0
            assert silent.recv(100) == b""
        export(q, "a", "vda", name="a")
        export(q, "b", "vdb", name="b")
        one = connect(fleece.uri("a", unix=path))
        try:  # one client an export
            connect(fleece.uri("a", unix=path)).shutdown()
            raise AssertionError("a second client is served")
        except Exception as e:
            assert type(e).__name__ == "Error" and "policy" in str(e), e
        with closing(connect(fleece.uri("b", unix=path))):
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as more:
                more.setblocking(False)
                more.connect(path)
                assert one.pread(1, 0) == b"\0"
                try:  # all exports are full: waits
                    raise AssertionError(f"served: {more.recv(100)}")
                except BlockingIOError:
                    pass
        one.shutdown()
        q.cmd("nbd-server-stop")


@test
def an_inherited_descriptor():
    with tmpdir() as d, contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        path = os.path.join(d, "nbd")
        listener.bind(path)
        listener.listen(5)
        fd = listener.fileno()
        with Server(*DISKS, pass_fds=[fd]) as s:
            q = s.qmp()
            for _ in range(2):
                q.cmd("nbd-server-start", addr={"type": "fd", "data": {"str": str(fd)}})
                export(q, "e", "vda")
                with closing(connect(fleece.uri("vda", unix=path))) as h:
                    assert h.pread(1, 0) == b"\0"
                q.cmd("nbd-server-stop")


main()
