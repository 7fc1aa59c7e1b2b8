#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The control socket as a wire: negotiation, envelopes, JSON errors, limits, several monitors, and
clients that mean harm. Error texts are those that qemu-storage-daemon gives."""

import asyncio
import contextlib
import json
import os
import resource
import socket
import sys

import fleece
from fleece import QmpError, Server
from qmp_checks import alive
from tap import main, test

DISK = ("--disk", "vda", "memory", "1M")
NOT_FOUND = "CommandNotFound"
GENERIC = "GenericError"
EXPECTING = "Expecting capabilities negotiation with 'qmp_capabilities'"


def fails(q, cls, desc, command, /, **arguments):
    try:
        result = q.cmd(command, **arguments)
    except QmpError as e:
        assert (e.cls, e.desc) == (cls, desc), e
        return
    raise AssertionError(f"{command} {arguments} returned {result}")


def answer(q, data):
    """The reply to bytes."""
    q.write(data)
    return q.reply()


def error(desc, cls=GENERIC, **more):
    return {"error": {"class": cls, "desc": desc}, **more}


def resident(pid):
    """Its resident memory, bytes."""
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@test
def the_greeting_and_the_negotiation():
    with Server(*DISK) as s:
        q = s.qmp(negotiate=False)
        version = q.greeting["QMP"]["version"]
        assert q.greeting == {"QMP": {"version": version, "capabilities": []}}, q.greeting
        assert version["qemu"] == {"major": 10, "minor": 0, "micro": 0}
        assert version["package"].startswith("nbdfleece ")
        fails(q, NOT_FOUND, EXPECTING, "query-version")
        fails(q, NOT_FOUND, EXPECTING, "no-such-command")
        fails(q, GENERIC, "Capability oob not available", "qmp_capabilities", enable=["oob"])
        fails(q, GENERIC, "Parameter 'null' does not accept value 'x'", "qmp_capabilities",
              enable=["x"])
        fails(q, GENERIC, "Invalid parameter type for 'enable', expected: array",
              "qmp_capabilities", enable="oob")
        fails(q, NOT_FOUND, EXPECTING, "query-version")
        assert q.cmd("qmp_capabilities", enable=[]) == {}
        fails(q, NOT_FOUND, "Capabilities negotiation is already complete, command ignored",
              "qmp_capabilities")
        fails(q, NOT_FOUND, "The command no-such-command has not been found", "no-such-command")
        assert q.cmd("query-version") == version


@test
def each_monitor_negotiates_for_itself():
    with Server(*DISK) as s:
        a, b = s.qmp(), s.qmp(negotiate=False)
        a.cmd("query-status")
        fails(b, NOT_FOUND, EXPECTING, "query-status")
        # a makes events, and b sees none before it has negotiated
        for monitors in [a], [a, b]:
            a.cmd("block-export-add", type="nbd", id="e", **{"node-name": "vda", "name": "e"})
            a.cmd("block-export-del", id="e")
            for q in monitors:
                assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": "e"}
            if b not in monitors:
                fails(b, NOT_FOUND, EXPECTING, "query-status")
                b.cmd("qmp_capabilities")
                assert b.events() == []


@test
def envelopes():
    with Server(*DISK) as s:
        q = s.qmp()
        for text, expected in [
            (b"[]", error("QMP input must be a JSON object")),
            (b"null\n", error("QMP input must be a JSON object")),
            (b"'x'", error("QMP input must be a JSON object")),
            (b"12\n", error("QMP input must be a JSON object")),
            (b"{}", error("QMP input lacks member 'execute'")),
            (b"{'id': 7}", error("QMP input lacks member 'execute'", id=7)),
            (b"{'execute': 1, 'id': 7}",
             error("QMP input member 'execute' must be a string", id=7)),
            (b"{'exec-oob': 'query-version', 'id': 7}",
             error("QMP input member 'exec-oob' is unexpected", id=7)),
            (b"{'execute': 'query-version', 'x': 1, 'id': 7}",
             error("QMP input member 'x' is unexpected", id=7)),
            (b"{'execute': 'query-version', 'arguments': []}",
             error("QMP input member 'arguments' must be an object")),
            (b"{'execute': 'query-version', 'arguments': {'x': 1}}",
             error("Parameter 'x' is unexpected")),
            (b"{'execute': 'query-name', 'arguments': {}}", {"return": {}}),
        ]:
            assert answer(q, text) == expected, text


@test
def ids_come_back_as_they_were():
    with Server(*DISK) as s:
        q = s.qmp()
        for text in ("1", "-5", "18446744073709551615", "1.5", "1e999", '"a"', '"\\u00e9\\n"',
                     "null", "true", "[]", "{}", '[1, {"id": [null]}]', '{"execute": "quit"}',
                     '""'):
            q.write(b'{"execute": "query-name", "id": %s}' % text.encode())
            line = q.reply()
            assert line == {"return": {}, "id": json.loads(text)}, line
        assert "id" not in answer(q, b"{'execute': 'query-name'}")
        assert answer(q, b"{'id': 1, 'id': 2}") == error("JSON parse error, duplicate key")


@test
def output_is_ascii_lines_that_end_in_crlf():
    with Server(*DISK) as s:
        q = s.qmp()
        q.write("{'execute': 'query-name', 'id': 'é😀\\u007f'}{'execute': 'é'}".encode())
        data = b""
        while data.count(b"\n") < 2:
            data += q.socket.recv(4096)
        assert data.endswith(b"\r\n") and data.count(b"\r\n") == 2, data
        assert all(32 <= c < 127 for c in data.replace(b"\r\n", b"")), data
        one, two = data.split(b"\r\n")[:2]
        assert one == b'{"return": {}, "id": "\\u00e9\\ud83d\\ude00\\u007f"}', one
        assert json.loads(two)["error"]["desc"] == "The command é has not been found"


@test
def json_errors_leave_the_monitor_usable():
    with Server(*DISK) as s:
        q = s.qmp()
        for text, desc in [
            (b"hello\n", "invalid keyword 'hello'"),
            (b"{]", "expecting value"),
            (b"}", "expecting value"),
            (b"{'a': 1,}", "expecting value"),
            (b"{'a' 1}", "missing : in object pair"),
            (b"{1: 2}", "key is not a string in object"),
            (b"{'a': 1 'b': 2}", "expected separator in dict"),
            (b"[1 2]", "expected separator in list"),
            (b"{'a': 1, 'a': 2}", "duplicate key"),
            (b"{'a': '\\q'}", "invalid escape sequence in string"),
            (b"{'a': '\\ud800'}", "\\ud800 is not a valid Unicode character"),
            (b"{'a': '\xc3('}", "invalid UTF-8 sequence in string"),
            (b"{'a': @}\n", "stray '@'"),
            (b"[01]\n", "stray '01'"),
            (b"{'execute': 'x', 'id': '\n", "stray ''\n'"),
            (b"{\x01", "stray '\x01'"),
            (b"{\xff", "stray '\ufffd'"),
            (b"\x00", "stray ''"),
            (b"/* comment */\n", "stray '/'"),
        ]:
            got = answer(q, text)
            assert got == error(f"JSON parse error, {desc}"), (text, got)
            assert answer(q, b"{'execute': 'query-name', 'id': 1}") == {"return": {}, "id": 1}, text


@test
def input_is_a_stream_and_not_lines():
    with Server(*DISK) as s:
        q = s.qmp()
        q.write(b"{'execute':'query-name','id':1}{'execute':'query-name','id':2}\r\n\r\n \t"
                b"{\n  \"execute\"\r\n:\n'query-name', 'id'\t:\n3}")
        assert [q.reply()["id"] for _ in range(3)] == [1, 2, 3]
        # one byte at a time
        for byte in b"{'execute': 'query-name', 'id': 'it\\'s \"slow\"'}":
            q.write(bytes([byte]))
        assert q.reply() == {"return": {}, "id": "it's \"slow\""}


@test
def the_conventions_of_qemus_own_python_clients():
    """qemu.qmp: asyncio streams, lines of at most 10 MiB, `oob` only if it is offered, ids of its
    own, qmp-shell's query-commands. Its ancestor, qmp.py: no line feed behind a request."""

    async def qemu_qmp(path):
        reader, writer = await asyncio.open_unix_connection(path, limit=10 << 20)

        async def execute(number, request):
            request["id"] = f"__qmp#{number:05d}"
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            while True:
                message = json.loads(await reader.readline())
                if "event" not in message:
                    assert message["id"] == request["id"]
                    return message["return"]

        greeting = json.loads(await reader.readline())["QMP"]
        assert isinstance(greeting["capabilities"], list) and "oob" not in greeting["capabilities"]
        assert await execute(0, {"execute": "qmp_capabilities", "arguments": {"enable": []}}) == {}
        assert {"name": "query-commands"} in await execute(1, {"execute": "query-commands"})
        add = {"node": "vda", "name": "b"}
        assert await execute(2, {"execute": "block-dirty-bitmap-add", "arguments": add}) == {}
        writer.close()
        await writer.wait_closed()

    with Server(*DISK) as s:
        asyncio.run(qemu_qmp(s.qmp_path))
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as c:
            c.connect(s.qmp_path)
            lines = c.makefile("r")
            assert "QMP" in json.loads(lines.readline())
            for command in "qmp_capabilities", "query-block":
                c.sendall(json.dumps({"execute": command}).encode())
                assert "return" in json.loads(lines.readline())


@test
def replies_keep_the_order_of_many_requests_at_once():
    with Server(*DISK) as s:
        q = s.qmp()
        q.write(b"".join(b"{'execute':'query-status','id':%d}" % i for i in range(1000)))
        assert [q.reply()["id"] for _ in range(1000)] == list(range(1000))


@test
def limits_refuse_a_value_and_take_no_memory():
    with Server(*DISK) as s:
        q = s.qmp()
        q.cmd("query-status")
        before = resident(s.pid)
        most = 0
        piece = b"x" * (1 << 20)
        q.write(b"{'execute': '")
        for _ in range(100):
            q.write(piece)
            most = max(most, resident(s.pid))
        q.write(b"'}\n")
        assert q.reply() == error("JSON token size limit exceeded")
        if fleece.SANITIZER == "no":
            assert most - before < 48 << 20, most - before
        for text, what in [
            (b"[" * 100000 + b"\n", "nesting depth"),
            (b"{'a':" * 100000 + b"\n", "nesting depth"),
            (b"[" + b"1," * 1000000 + b"1]\n", "token count"),
            (b"1" * 10000000 + b"\n", "token size"),
        ]:
            assert answer(q, text) == error(f"JSON {what} limit exceeded"), what
            assert answer(q, b"{'execute': 'query-name', 'id': 1}") == {"return": {}, "id": 1}
        # 1024 deep is allowed, also through json-glib
        deep = b"[" * 1022 + b"]" * 1022
        sys.setrecursionlimit(10000)  # json.loads, which reads it here
        assert answer(q, b"{'execute': 'query-name', 'id': " + deep + b"}") == \
            {"return": {}, "id": json.loads(deep)}
        alive(s)


@test
def a_client_that_never_reads_hurts_only_itself():
    with Server(*DISK) as s:
        slow, q = s.qmp(), s.qmp()
        before = resident(s.pid)
        # It asks and asks, until its own socket is full, and stays so while others are served.
        slow.socket.setblocking(False)
        request = b"{'execute': 'query-commands'}" * 100
        sent = full = 0
        while full < 50:
            try:
                sent += slow.socket.send(request)
                full = 0
            except BlockingIOError:
                q.cmd("query-status")
                full += 1
            assert sent < 4 << 20, "the server reads without end"
        # And events are made all the time.
        for i in range(20000):
            q.write(b"{'execute':'block-export-add','arguments':{'type':'nbd','id':'e',"
                    b"'node-name':'vda','name':'e'}}{'execute':'block-export-del','arguments':"
                    b"{'id':'e'}}")
            for _ in range(2):
                assert q.reply() == {"return": {}}
        assert len(q.events()) == 20000
        if fleece.SANITIZER == "no":
            assert resident(s.pid) - before < 32 << 20
        assert "reads too slowly: it loses events" in s.log()
        alive(s)
        slow.close()
        alive(s)


@test
def clients_that_go_away_leave_nothing_behind():
    with Server(*DISK) as s:
        q = s.qmp()
        before = descriptors(s.pid)
        for how in (b"", b"{'execute': 'qmp_capabilities'", b"GET / HTTP/1.1\r\n\r\n",
                    b"{'execute': 'query-commands'}" * 50, b"\x16\x03\x01\x02\x00", b"[" * 500):
            for shut in False, True:
                c = socket.socket(socket.AF_UNIX)
                c.connect(s.qmp_path)
                c.sendall(how)
                if shut:
                    c.shutdown(socket.SHUT_WR)
                    while c.recv(65536):
                        pass
                c.close()
        alive(s)
        # Each turn of the server's main loop sees all of them; two turns end one.
        for _ in range(4):
            q.cmd("query-name")
        assert descriptors(s.pid) == before


@test
def many_monitors_but_not_without_end():
    with Server(*DISK) as s:
        monitors = [s.qmp() for _ in range(64)]
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as more:
            more.connect(s.qmp_path)
            assert more.recv(100) == b""
        assert "there are 64 monitors already" in s.log()
        for q in monitors:
            q.cmd("query-name")
        monitors[0].close()
        for _ in range(4):
            monitors[1].cmd("query-name")
        alive(s)


@test
def no_descriptor_left_to_accept_with():
    with Server(*DISK) as s:
        q = s.qmp()
        limits = resource.prlimit(s.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (descriptors(s.pid), limits[1]))
        for n in range(1, 6):
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as refused:
                refused.settimeout(fleece.SOON)
                refused.connect(s.qmp_path)
                assert refused.recv(4096) == b""
            for _ in range(400):  # the server does not turn in circles meanwhile
                q.cmd("query-name")
            assert s.log().count("Too many open files") == n, s.log()
        resource.prlimit(s.pid, resource.RLIMIT_NOFILE, limits)
        alive(s)


@test
def quit_and_signals_are_told():
    with Server(*DISK) as s:
        q, other = s.qmp(), s.qmp()
        assert q.cmd("quit") == {}
        for monitor in q, other:
            event = monitor.wait_event("SHUTDOWN")
            assert event["data"] == {"guest": False, "reason": "host-qmp-quit"}, event
            assert set(event) == {"event", "data", "timestamp"}
            assert set(event["timestamp"]) == {"seconds", "microseconds"}
            try:
                raise AssertionError(f"{monitor.read()} after the end")
            except EOFError:
                pass
        s.wait()
        assert not os.path.exists(s.qmp_path)
    with Server(*DISK) as s:
        q = s.qmp()
        s.stop()
        assert q.wait_event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-signal"}


main()
