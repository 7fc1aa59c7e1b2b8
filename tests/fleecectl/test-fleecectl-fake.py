#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl with servers that are made up by the tests: what it sends, and what it shows of replies."""

import json
import re
import subprocess

from fakeqmp import FakeQmp, error
from fleece import FLEECECTL
from good_replies import CHECKPOINTS, GOOD, SESSION_DISKS, SESSIONS, VIEWS, ctl
from tap import main, test


@test
def status():
    with FakeQmp(GOOD) as fake:
        text = ctl(fake, "status")
        assert "nbdfleece 0.1.0" in text and "lab" in text and "running" in text, text
        assert "\033" not in text
        obj = json.loads(ctl(fake, "--json", "status"))
        assert obj == {"server": "nbdfleece 0.1.0", "name": "lab", "state": "running", "disks": 2,
                       "disk-bytes": (10 << 30) + 512, "bitmaps": 2, "bitmaps-recording": 1,
                       "checkpoints": 2, "sessions": 2, "views": 1, "views-broken": 1,
                       "exports": 1, "scratch-bytes": 4096,
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
def full_output():
    with FakeQmp(GOOD) as fake, open("/dev/full", "w") as full:
        result = subprocess.run([FLEECECTL, "-C", fake.path, "disks"], stdout=full,
                                stderr=subprocess.PIPE, text=True)
        assert result.returncode == 1 and "standard output" in result.stderr, result


main()
