#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl with servers that are made up by the tests: its requests, and what it does with bad
replies."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess

from fakeqmp import GREETING, FakeQmp, Script, error
from fleece import FLEECECTL, die_with_parent, fleecectl, tmpdir
from tap import main, test

NODES = [
    {"node-name": "vda", "drv": "file", "file": "/srv/vda.raw", "ro": False,
     "image": {"virtual-size": 10 << 30},
     "dirty-bitmaps": [
         {"name": "b0", "count": 65536, "granularity": 65536, "recording": True, "busy": False,
          "persistent": False},
         {"name": "b1", "count": 0, "granularity": 4096, "recording": False, "busy": True,
          "persistent": True, "inconsistent": True, "inconsistent-reason": "torn"}]},
    {"node-name": "v0", "drv": "view", "file": "", "ro": True, "image": {"virtual-size": 1 << 30}},
    {"node-name": "vdb", "drv": "memory", "file": "", "ro": True, "image": {"virtual-size": 512}},
]
VIEWS = [{"name": "v0", "disk": "vda", "size": 1 << 30, "scratch-bytes": 4096, "broken": True,
          "reason": "disk full"}]
CHECKPOINTS = [
    {"name": "mon", "description": "before the update", "time": "2026-11-23T01:00:00.250Z", "disks": [
        {"disk": "vda", "bitmap": "mon", "granularity": 65536, "dirty-bytes": 3 << 20, "valid": True},
        {"disk": "vdb", "bitmap": "mon", "granularity": 4096, "dirty-bytes": 1 << 20,
         "valid": False, "reason": "its bitmap is inconsistent: torn"}]},
    {"name": "tue", "parent": "mon", "time": "2026-11-24T01:00:00.000Z", "disks": [
        {"disk": "vda", "bitmap": "tue", "granularity": 65536, "dirty-bytes": 65536, "valid": True}]}]
SESSION_DISKS = [
    {"disk": "vda", "export": "b1/vda", "uri": "nbd+unix:///b1%2Fvda?socket=/s",
     "context": "qemu:dirty-bitmap:backup-vda", "mode": "incremental", "dirty-bytes": 3 << 20,
     "size": 10 << 30},
    {"disk": "vdb", "export": "b1/vdb", "uri": "nbd+unix:///b1%2Fvdb?socket=/s",
     "context": "qemu:dirty-bitmap:backup-vdb", "mode": "full",
     "reason": "there is no checkpoint 'mon'", "dirty-bytes": 512, "size": 512}]
SESSIONS = [
    {"id": "b0", "state": "aborted", "reason": "its lease of 60 s has ended",
     "time": "2026-11-24T00:00:00.000Z", "lease": 60, "discard": False, "disks": []},
    {"id": "b1", "state": "active", "time": "2026-11-24T01:00:00.000Z", "since": "mon",
     "checkpoint": "tue", "lease": 3600, "lease-left": 3543, "discard": False, "quiesced": False,
     "quiesce-error": "no agent", "scratch-used": 8192,
     "disks": [{**d, "clients": 2, "scratch-bytes": 4096} for d in SESSION_DISKS]},
    {"id": "b2", "state": "active", "time": "2026-11-24T02:00:00.000Z", "lease": 60,
     "discard": True, "resumed": True, "scratch-used": 0, "disks": []}]
GOOD = {"query-checkpoints": CHECKPOINTS, "query-backups": SESSIONS, "query-named-block-nodes": NODES, "query-views": VIEWS, "query-name": {"name": "lab"},
        "query-status": {"running": True, "status": "running"}, "query-block-exports": [{"id": "e"}],
        "query-nbd-servers": [{"uri": "nbd+unix:///?socket=/s"}],
        "query-blockstats": [
            {"device": "vda", "node-name": "vda", "stats": {
                "rd_bytes": 3 << 20, "wr_bytes": 5 << 10, "zero_bytes": 1, "failed_rd_operations": 1,
                "failed_wr_operations": 20, "failed_zero_operations": 5,
                "failed_flush_operations": 300, "failed_unmap_operations": 4000}},
            {"node-name": "vdb", "stats": {}}]}


def ctl(fake, *args, code=0, **kwargs):
    """Run fleecectl and return its output. If it fails, the output is one line, which begins with
    the name of the program."""
    result = fleecectl("-C", fake.path, *args, check=False, **kwargs)
    assert result.returncode == code, (args, result)
    if code == 0:
        assert result.stderr == "", result
        return result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("fleecectl: "), result
    return lines[0]


@test
def status():
    with FakeQmp(GOOD) as fake:
        text = ctl(fake, "status")
        assert "nbdfleece 0.1.0" in text and "lab" in text and "running" in text, text
        assert "\033" not in text
        obj = json.loads(ctl(fake, "--json", "status"))
        assert obj == {"server": "nbdfleece 0.1.0", "name": "lab", "state": "running", "disks": 2,
                       "disk-bytes": (10 << 30) + 512, "bitmaps": 2, "bitmaps-recording": 1,
                       "checkpoints": 2, "sessions": 2, "views": 1, "views-broken": 1, "exports": 1, "scratch-bytes": 4096,
                       "nbd": ["nbd+unix:///?socket=/s"], "nbd-added": [], "io": [
                           {"disk": "vda", "read-bytes": 3 << 20, "written-bytes": 5 << 10,
                            "errors": 4321},
                           {"disk": "vdb", "read-bytes": 0, "written-bytes": 0,
                            "errors": 0}]}, obj
        a, b = [line for line in text.splitlines() if line.startswith("disk  ")]
        assert a == "disk         vda: 3 MiB read, 5 KiB written, 4321 errors", a
        assert b == "disk         vdb: 0 read, 0 written, 0 errors", b


@test
def two_sockets_of_one_uri_are_shown_once():
    """A listener for all addresses has one for IPv4 and one for IPv6."""
    added = {"uri": "nbd://localhost:10810/", "live": False}
    live = {"uri": "nbd://localhost:10809/", "live": True}
    with FakeQmp({**GOOD, "query-nbd-servers": [live, added, live, added]}) as fake:
        text = ctl(fake, "status")
        assert [line for line in text.splitlines() if line.startswith("nbd ")] == [
            "nbd          nbd://localhost:10809/",
            "nbd          nbd://localhost:10810/  (only exports that were added)"], text
        obj = json.loads(ctl(fake, "--json", "status"))
        assert obj["nbd"] == [live["uri"]] and obj["nbd-added"] == [added["uri"]], obj


@test
def disks():
    with FakeQmp(GOOD) as fake:
        lines = ctl(fake, "disks").splitlines()
        assert lines[0].split() == ["NAME", "SIZE", "DRIVER", "ACCESS", "BITMAPS", "VIEWS", "FILE"]
        assert lines[1].split() == ["vda", "10", "GiB", "file", "rw", "2", "1", "/srv/vda.raw"]
        assert lines[2].split() == ["vdb", "512", "memory", "ro", "0", "0", "-"]
        assert len(lines) == 3
        assert json.loads(ctl(fake, "disks", "--json"))[0] == {
            "name": "vda", "size": 10 << 30, "driver": "file", "file": "/srv/vda.raw",
            "read-only": False, "bitmaps": 2, "views": 1}


@test
def bitmap_and_view_lists():
    with FakeQmp(GOOD) as fake:
        lines = ctl(fake, "bitmap", "list").splitlines()
        assert lines[1].split() == ["vda", "b0", "64", "KiB", "64", "KiB", "recording", "no", "-"]
        assert lines[2].split() == ["vda", "b1", "0", "4", "KiB", "inconsistent", "yes", "torn"]
        assert len(ctl(fake, "bitmap", "list", "vdb").splitlines()) == 1
        bitmaps = json.loads(ctl(fake, "--json", "bitmap", "list", "vda"))
        assert [b["name"] for b in bitmaps] == ["b0", "b1"] and bitmaps[0]["count"] == 65536
        assert bitmaps[1]["inconsistent-reason"] == "torn"
        line = ctl(fake, "bitmap", "list", "vdx", code=1)
        assert line == "fleecectl: disk vdx: no such disk; the server has vda, vdb", line
        assert "broken: disk full" in ctl(fake, "view", "list")
        assert json.loads(ctl(fake, "view", "list", "--json")) == VIEWS


@test
def checkpoint_lists():
    with FakeQmp(GOOD) as fake:
        utc = {"TZ": "UTC"}
        lines = ctl(fake, "checkpoint", "list", env=utc).splitlines()
        assert [re.split("  +", line) for line in lines] == [
            ["NAME", "TIME", "PARENT", "DISKS", "DIRTY", "STATE", "DESCRIPTION"],
            ["mon", "2026-11-23 01:00:00", "-", "2", "4 MiB", "valid on 1 of 2 disks",
             "before the update"],
            ["tue", "2026-11-24 01:00:00", "mon", "1", "64 KiB", "valid", "-"]], lines
        assert "02:00:00" in ctl(fake, "checkpoint", "list", env={"TZ": "UTC-1"})
        lines = ctl(fake, "checkpoint", "show", "mon", env=utc).splitlines()
        assert [re.split("  +", line) for line in lines] == [
            ["name", "mon"], ["time", "2026-11-23 01:00:00"],
            ["description", "before the update"], [""],
            ["DISK", "BITMAP", "DIRTY", "GRANULARITY", "STATE"],
            ["vda", "mon", "3 MiB", "64 KiB", "valid"],
            ["vdb", "mon", "1 MiB", "4 KiB", "its bitmap is inconsistent: torn"]], lines
        assert "parent       mon" in ctl(fake, "checkpoint", "show", "tue")
        assert json.loads(ctl(fake, "--json", "checkpoint", "list")) == CHECKPOINTS
        assert json.loads(ctl(fake, "--json", "checkpoint", "show", "tue")) == CHECKPOINTS[1]
        line = ctl(fake, "checkpoint", "show", "wed", code=1)
        assert line == "fleecectl: checkpoint wed: there is no such checkpoint", line


@test
def session_list():
    with FakeQmp(GOOD) as fake:
        lines = ctl(fake, "session", "list", env={"TZ": "UTC"}).splitlines()
        assert [re.split("  +", line) for line in lines] == [
            ["ID", "STATE", "TIME", "SINCE", "CHECKPOINT", "DISKS", "DIRTY", "SCRATCH", "CLIENTS",
             "LEASE", "NOTE"],
            ["b0", "aborted", "2026-11-24 00:00:00", "-", "-", "-", "-", "-", "-", "-",
             "its lease of 60 s has ended"],
            ["b1", "active", "2026-11-24 01:00:00", "mon", "tue", "2", "3 MiB", "8 KiB", "4",
             "59 min 3 s", "not quiesced: no agent"],
            ["b2", "active", "2026-11-24 02:00:00", "-", "-", "0", "0", "0", "0", "held", "resumed"]], lines
        assert json.loads(ctl(fake, "--json", "session", "list")) == SESSIONS
    for left, text in ((59, "59 s"), (60, "1 min 0 s"), (7260, "2 h 1 min")):
        with FakeQmp({"query-backups": [{**SESSIONS[1], "lease-left": left}]}) as fake:
            assert f"  {text}  " in ctl(fake, "session", "list")


@test
def session_begin():
    with FakeQmp({"backup-begin": SESSION_DISKS}) as fake:
        lines = ctl(fake, "session", "begin", "b1", "--since", "mon").splitlines()
        assert fake.requests[-1]["arguments"] == {"id": "b1", "since": "mon"}
        assert [re.split("  +", line) for line in lines] == [
            ["DISK", "MODE", "DIRTY", "SIZE", "REASON", "URI"],
            ["vda", "incremental", "3 MiB", "10 GiB", "-", SESSION_DISKS[0]["uri"]],
            ["vdb", "full", "512", "512", "there is no checkpoint 'mon'",
             SESSION_DISKS[1]["uri"]]], lines
        assert json.loads(ctl(fake, "--json", "session", "begin", "b1")) == SESSION_DISKS
        fake.replies["backup-begin"] = [{**d, "quiesced": False, "quiesce-error": "no agent"}
                                        for d in SESSION_DISKS]
        lines = ctl(fake, "session", "begin", "b1").splitlines()
        assert lines[3:] == ["", "not quiesced  no agent"], lines
        ctl(fake, "session", "begin", "--since=mon", "b1", "--checkpoint", "tue", "vda", "--strict",
            "--lease", "0", "--discard", "--scratch-limit", "1g", "vdb")
        assert fake.requests[-1] == {"execute": "backup-begin", "arguments": {
            "id": "b1", "disks": [{"disk": "vda"}, {"disk": "vdb"}], "since": "mon",
            "checkpoint": "tue", "mode": "strict", "discard": True, "lease": 0,
            "scratch-limit": 1 << 30}}, fake.requests[-1]
        n = len(fake.requests)
        for bad in ("--lease=1h", "--lease=-1", "--lease=", "--lease= 1", "--scratch-limit=x"):
            assert bad.split("=")[0] in ctl(fake, "session", "begin", "b1", bad, code=2)
        ctl(fake, "session", "begin", code=2)
        ctl(fake, "session", "renew", "b1", "--lease", "9" * 30, code=2)
        assert len(fake.requests) == n


@test
def requests():
    """What each command sends."""
    ok = {name: {} for name in (
        "block-dirty-bitmap-add", "block-dirty-bitmap-remove", "block-dirty-bitmap-clear",
        "block-dirty-bitmap-enable", "block-dirty-bitmap-disable", "block-dirty-bitmap-merge",
        "view-create", "view-delete", "nbd-server-start", "block-dirty-bitmap-populate",
        "checkpoint-create", "checkpoint-delete", "backup-renew", "backup-end")}
    node = {"node": "vda", "name": "b0"}
    cases = [
        ("bitmap add vda b0", "block-dirty-bitmap-add", node),
        ("bitmap add vda b0 --granularity 64k --disabled", "block-dirty-bitmap-add",
         {**node, "granularity": 65536, "disabled": True}),
        ("bitmap add vda b0 --persistent on", "block-dirty-bitmap-add",
         {**node, "persistent": True}),
        ("bitmap add vda b0 --persistent off", "block-dirty-bitmap-add",
         {**node, "persistent": False}),
        ("bitmap remove vda b0", "block-dirty-bitmap-remove", node),
        ("bitmap clear vda b0", "block-dirty-bitmap-clear", node),
        ("bitmap enable vda b0", "block-dirty-bitmap-enable", node),
        ("bitmap disable vda b0", "block-dirty-bitmap-disable", node),
        ("bitmap populate vda b0", "block-dirty-bitmap-populate", node),
        ("bitmap merge vda b0 b1 b2", "block-dirty-bitmap-merge",
         {"node": "vda", "target": "b0", "bitmaps": ["b1", "b2"]}),
        ("checkpoint create mon", "checkpoint-create", {"name": "mon"}),
        ("checkpoint create mon vda vdb --description all --granularity 4k", "checkpoint-create",
         {"name": "mon", "disks": ["vda", "vdb"], "description": "all", "granularity": 4096}),
        ("checkpoint delete mon", "checkpoint-delete", {"name": "mon"}),
        ("session renew b1", "backup-renew", {"id": "b1"}),
        ("session renew b1 --lease 60", "backup-renew", {"id": "b1", "lease": 60}),
        ("session commit b1", "backup-end", {"id": "b1", "result": "commit"}),
        ("session abort b1", "backup-end", {"id": "b1", "result": "abort"}),
        ("view create vda v0", "view-create", {"disk": "vda", "name": "v0"}),
        ("view delete v0", "view-delete", {"name": "v0"}),
    ]
    with FakeQmp(ok) as fake:
        for line, command, arguments in cases:
            assert ctl(fake, *line.split()) == "", line
            assert fake.requests[-1] == {"execute": command, "arguments": arguments}, fake.requests
        assert ctl(fake, "--json", "view", "delete", "v0") == "{}\n"


@test
def qmp():
    replies = {"nbd-server-start": {}, "query-status": {"running": True, "list": [1, {"a": None}]}}
    with FakeQmp(replies) as fake:
        ctl(fake, "qmp", "nbd-server-start", "addr.type=inet", "addr.data.host=localhost",
            'addr.data.port="10809"', "max-connections=5", "tls=false")
        assert fake.requests[-1]["arguments"] == {
            "addr": {"type": "inet", "data": {"host": "localhost", "port": "10809"}},
            "max-connections": 5, "tls": False}
        pretty = ctl(fake, "qmp", "query-status")
        assert json.loads(pretty) == replies["query-status"] and len(pretty.splitlines()) > 3
        compact = ctl(fake, "--json", "qmp", "query-status")
        assert json.loads(compact) == replies["query-status"] and len(compact.splitlines()) == 1
        ctl(fake, "qmp", ' {"execute": "query-status", "id": [1]} ')
        assert fake.requests[-1] == {"execute": "query-status", "id": [1]}
        n = len(fake.requests)
        for bad in '{"execute": "query-status"', '{"execute": "a"} {"execute": "b"}', "{'a", "{]":
            ctl(fake, "qmp", bad, code=2)
        ctl(fake, "qmp", '{"execute": "query-status"}', "more", code=2)
        ctl(fake, "qmp", "query-status", "argument", code=2)
        assert len(fake.requests) == n  # a wrong command line is not sent
        line = ctl(fake, "qmp", "no-such", code=1)
        assert line == "fleecectl: no-such: The command no-such has not been found", line


@test
def errors_name_the_object():
    no = error("Node 'vda' not found")
    with FakeQmp({"block-dirty-bitmap-add": no, "view-create": no, "view-delete": no,
                  "block-dirty-bitmap-merge": no, "checkpoint-create": no, "checkpoint-delete": no,
                  "backup-begin": no, "backup-renew": no, "backup-end": no}) as fake:
        line = ctl(fake, "bitmap", "add", "vda", "b0", code=1)
        assert line == "fleecectl: disk vda: bitmap b0: Node 'vda' not found", line
        assert "bitmap t: Node" in ctl(fake, "bitmap", "merge", "vda", "t", "s", code=1)
        assert "disk vda: view v0: Node" in ctl(fake, "view", "create", "vda", "v0", code=1)
        assert "view v0: Node" in ctl(fake, "view", "delete", "v0", code=1)
        for action in "create", "delete":
            line = ctl(fake, "checkpoint", action, "mon", code=1)
            assert line == "fleecectl: checkpoint mon: Node 'vda' not found", line
        for action in "begin", "renew", "commit", "abort":
            line = ctl(fake, "session", action, "b1", code=1)
            assert line == "fleecectl: session b1: Node 'vda' not found", line


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
        fails("map", "nonsense://x", code=4)
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


@test
def full_output():
    with FakeQmp(GOOD) as fake, open("/dev/full", "w") as full:
        result = subprocess.run([FLEECECTL, "-C", fake.path, "disks"], stdout=full,
                                stderr=subprocess.PIPE, text=True)
        assert result.returncode == 1 and "standard output" in result.stderr, result


EVENTS = [
    {"timestamp": {"seconds": 0, "microseconds": 7}, "event": "VIEW_BROKEN",
     "data": {"name": "v0", "disk": "vda", "reason": "no space\033[2J", "n": 5, "o": {"a": [1]}}},
    {"timestamp": {"seconds": 0, "microseconds": 8}, "event": "BITMAP_INCONSISTENT",
     "data": {"node": "vda", "name": "b0", "reason": "the state folder failed"}},
    {"timestamp": {"seconds": 0, "microseconds": 9}, "event": "BACKUP_ENDED",
     "data": {"id": "b1", "result": "abort", "reason": "its lease of 60 s has ended"}},
    {"timestamp": {"seconds": 0, "microseconds": 10}, "event": "CHECKPOINT_DELETED",
     "data": {"name": "mon", "reason": "backup-end"}},
    {"event": "ODD", "timestamp": 5, "data": 7},
    {"event": "SHUTDOWN", "timestamp": {"seconds": 1, "microseconds": 0}, "data": {"guest": False}},
]


@test
def watch_prints_events():
    lines = b"".join(json.dumps(e).encode() + b"\r\n" for e in EVENTS)
    with FakeQmp(after_ready=lines) as fake:
        result = fleecectl("-C", fake.path, "watch", env={"TZ": "UTC"})
        assert result.stdout.splitlines() == [
            "1970-01-01 00:00:00.000007  VIEW_BROKEN  name=v0  disk=vda  "
            'reason="no space\\u001b[2J"  n=5  o={"a":[1]}',
            "1970-01-01 00:00:00.000008  BITMAP_INCONSISTENT  node=vda  name=b0  "
            'reason="the state folder failed"',
            "1970-01-01 00:00:00.000009  BACKUP_ENDED  id=b1  result=abort  "
            'reason="its lease of 60 s has ended"',
            "1970-01-01 00:00:00.000010  CHECKPOINT_DELETED  name=mon  reason=backup-end",
            "-  ODD",
            "1970-01-01 00:00:01.000000  SHUTDOWN  guest=false"], result.stdout
        assert fake.path in result.stderr
        result = fleecectl("-C", fake.path, "--json", "watch")
        assert [json.loads(line) for line in result.stdout.splitlines()] == EVENTS
    # It is an error if the connection ends without a SHUTDOWN event, or if a line is broken.
    with FakeQmp(after_ready=json.dumps(EVENTS[0]).encode() + b"\n") as fake:
        assert fleecectl("-C", fake.path, "watch", check=False).returncode == 4
    with FakeQmp(after_ready=b"nonsense\n") as fake:
        assert fleecectl("-C", fake.path, "watch", check=False).returncode == 1


GREETED = b'{"return": {}}\r\n' + json.dumps(EVENTS[0]).encode() + b"\r\n"


def start_watch(fake, stdout):
    return subprocess.Popen([FLEECECTL, "-C", fake.path, "watch"], stdout=stdout,
                            stderr=subprocess.DEVNULL, text=True, preexec_fn=die_with_parent)


@test
def watch_ends_when_interrupted():
    for number in signal.SIGINT, signal.SIGTERM:
        with Script(GREETING, GREETED, stay=True) as fake:
            watch = start_watch(fake, subprocess.PIPE)
            assert "VIEW_BROKEN" in watch.stdout.readline()  # each line is flushed
            watch.send_signal(number)
            assert watch.wait(60) == 0
            watch.stdout.close()


@test
def watch_ends_with_its_reader():
    with Script(GREETING, GREETED, stay=True) as fake:
        reader, writer = os.pipe()
        watch = start_watch(fake, writer)
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        assert watch.wait(60) == 0


main()
