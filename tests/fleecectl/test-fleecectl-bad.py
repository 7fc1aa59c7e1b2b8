#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl with servers that are not there, are none, or say what no server says."""

import itertools
import json
import socket

from fakeqmp import GREETING, FakeQmp, Script, error
from fleece import fleecectl, tmpdir
from good_replies import GOOD, ctl
from tap import main, test


@test
def no_server():
    with tmpdir() as folder:
        path = f"{folder}/s"

        def fails(*args, code, env=None):
            result = fleecectl(*args, check=False, env=env)
            assert result.returncode == code and len(result.stderr.splitlines()) == 1, result
            assert result.stderr.startswith("fleecectl: ") and result.stdout == "", result
            return result.stderr

        assert "No such file" in fails("-C", path, "status", code=4)
        assert path in fails("status", code=4, env={"NBDFLEECE_CONTROL": path})
        fails("status", code=2)
        fails("-C", f"{folder}/{'x' * 200}", "status", code=4)
        fails("-C", path, "map", "vda", code=4)
        assert "No such file" in fails("map", f"nbd+unix:///x?socket={path}", code=4)
        fails("map", "nonsense://x", code=2)
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)  # but nobody listens
            assert "refused" in fails("-C", path, "status", code=4)


@test
def not_a_qmp_server():
    for greeting in (None, b"\r\n \n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"{}\n", b"[]\n", b"7\n",
                     {"QMP": 1}, {"QMP": {"version": 1}}, b"\xff\xfe\n", b'{"QMP": {"version":\n',
                     b"\0\0\0\n", error("no room").reply):
        with Script(greeting) if greeting else FakeQmp(greeting=None) as fake:
            line = ctl(fake, "status", code=4)
            assert fake.path in line, line
    with FakeQmp({"qmp_capabilities": error("too many monitors")}) as fake:
        assert "too many monitors" in ctl(fake, "status", code=4)


@test
def a_server_that_says_nothing():
    with tmpdir() as folder, socket.socket(socket.AF_UNIX) as s:
        s.bind(f"{folder}/s")
        s.listen()
        result = fleecectl("-C", f"{folder}/s", "status", check=False)
        assert result.returncode == 4 and "no answer" in result.stderr, result


@test
def server_goes_away():
    with FakeQmp({"view-create": None}) as fake:
        line = ctl(fake, "view", "create", "vda", "v0", code=4)
        assert "view-create" in line and "closed the connection" in line, line
    with Script(GREETING, {"return": {}}, b'{"return": ') as fake:
        assert "closed the connection" in ctl(fake, "view", "create", "vda", "v0", code=4)


@test
def absurd_replies():
    deep = b'{"return": ' + b"[" * 1000000 + b"]" * 1000000 + b"}\n"
    for reply in (b"{}\n", b"[]\n", b"nonsense\n", b'{"return": 1} {"return": 2}\n', deep,
                  b'{"error": {}}\n', b'{"error": 7}\n', b'{"error": {"desc": 7}}\n',
                  b'{"return": "\\ud800"}\n', b'{"return": 99999999999999999999}\n',
                  b'{"return": "\\u0000"}\n', b'{"return": "\xff"}\n', b'{"event": 1}\n'):
        with FakeQmp({"query-status": reply}) as fake:
            line = ctl(fake, "qmp", "query-status", code=1)
            assert "server" in line, line


@test
def absurd_values():
    """Replies that are valid QMP, but have the wrong type for the command."""
    for command, values in {
            "query-views": ({}, 1, [1], [[]], [{}], [{"name": 7}], "x"),
            "query-named-block-nodes": ({}, [1], [{}], [{"node-name": {}}],
                                        [{"node-name": "a", "dirty-bitmaps": [1]}],
                                        [{"node-name": "a", "dirty-bitmaps": [{}]}]),
            "query-name": ([], 1), "query-status": ([], "running"),
            "query-block-exports": ({}, [1]), "query-nbd-servers": ({}, [1]),
            "query-blockstats": ({}, [1], "x"),
            "query-checkpoints": ({}, [1], [{}], [{"name": "a", "disks": 1}],
                                  [{"name": "a", "disks": [1]}], [{"name": "a", "disks": [{}]}]),
            "query-backups": ({}, [1], [{}], [{"id": "a", "disks": {}}],
                              [{"id": "a", "disks": [[]]}], [{"id": "a", "disks": [{"disk": 1}]}]),
    }.items():
        for value in values:
            with FakeQmp({**GOOD, command: value}) as fake:
                line = ctl(fake, "status", code=1)
                assert command in line, line
    # Strange but possible values are shown as well as they can be.
    strange = [{"node-name": "a", "image": 1, "drv": [], "ro": "yes", "dirty-bitmaps": {}},
               {"node-name": "b", "image": {"virtual-size": -5}}]
    with FakeQmp({**GOOD, "query-named-block-nodes": strange, "query-name": {"name": 1},
                  "query-blockstats": [{}, {"node-name": "a"}, {"node-name": "b", "stats": 1},
                                       {"node-name": "c", "stats": {"rd_bytes": "x"}}],
                  "query-checkpoints": [
                      {"name": "a", "time": 7, "parent": [], "description": {}},
                      {"name": "b", "time": "yesterday",
                       "disks": [{"disk": "x", "valid": "yes", "reason": 1, "dirty-bytes": -1}]}],
                  "query-backups": [{"id": "a", "state": 1, "lease": "x", "lease-left": [], "disks": [
                      {"disk": "x", "uri": 1, "clients": 1.5}]}],
                  "query-status": {}, "query-views": [{"name": "v", "instant": {
                      "seconds": (1 << 63) - 1, "microseconds": (1 << 63) - 1}}]}) as fake:
        for command in (["status"], ["disks"], ["bitmap", "list"], ["view", "list"],
                        ["checkpoint", "list"], ["checkpoint", "show", "a"],
                        ["checkpoint", "show", "b"], ["session", "list"]):
            ctl(fake, *command)
            json.loads(ctl(fake, "--json", *command))


@test
def absurd_answers_to_backup_begin():
    """They are an error, which says that the session may be there: the server has said yes."""
    for value in ({}, 1, [1], [{}], [{"disk": 1}]):
        with FakeQmp({"backup-begin": value}) as fake:
            assert "backup-begin" in ctl(fake, "session", "begin", "b1", code=1)


@test
def names_cannot_act_on_the_terminal():
    nodes = [{"node-name": "\033[2Jx\u202e", "drv": "a\nb"}]
    with FakeQmp({**GOOD, "query-named-block-nodes": nodes,
                  "view-delete": error("bad\033[31m\r\nworse")}) as fake:
        text = ctl(fake, "disks")
        assert "\033" not in text and "\u202e" not in text and len(text.splitlines()) == 2, text
        assert "\033" not in ctl(fake, "view", "delete", "v0", code=1)
        assert json.loads(ctl(fake, "--json", "disks"))[0]["name"] == "\033[2Jx\u202e"


@test
def huge_reply():
    """A reply of many megabytes is read. A line without an end is refused."""
    views = [{"name": f"v{i}", "disk": "vda", "reason": "x" * 900} for i in range(10000)]
    with FakeQmp({**GOOD, "query-views": views}) as fake:
        assert len(ctl(fake, "view", "list").splitlines()) == 10001

    endless = itertools.chain([b'{"return": "'], itertools.repeat(b"x" * 1000000))
    with Script(GREETING, {"return": {}}, endless) as fake:
        assert "longer than" in ctl(fake, "qmp", "query-status", code=1)


@test
def events_before_a_reply_are_passed_over():
    event = b'{"event": "X", "timestamp": {"seconds": 1, "microseconds": 2}}\r\n'
    with FakeQmp({"query-status": event * 1000 + b'{"return": {"a": 1}}\r\n'}) as fake:
        assert json.loads(ctl(fake, "qmp", "query-status")) == {"a": 1}


main()
