#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl and nbdfleece together."""

import json
import os
import re
import socket
import subprocess

from fleece import (FLEECECTL, NBDFLEECE, SOON, Server, die_with_parent, fleecectl, tmpdir,
                    wait_ready)
from qmp_proxy import QmpProxy
from tap import main, test

K, M, G = 1 << 10, 1 << 20, 1 << 30


def ctl(server, *args, code=0):
    """Run fleecectl on the server and return its output. If it fails, return its error, one
    line."""
    result = fleecectl("-C", server.qmp_path, *args, check=False, env={"LC_ALL": "C.UTF-8"})
    assert result.returncode == code, (args, result)
    if code:
        assert len(result.stderr.splitlines()) == 1, result
        return result.stderr.rstrip("\n")
    return result.stdout


def ctl_json(server, *args):
    return json.loads(ctl(server, "--json", *args))


def dirty(server, disk, bitmap):
    """The dirty extents that fleecectl map gives: [(start, length)]."""
    return [(e["start"], e["length"]) for e in ctl_json(server, "map", disk, "-b", bitmap)["extents"]
            if e["type"] == "dirty"]


@test
def status_and_disks():
    with tmpdir() as folder:
        with open(f"{folder}/b.raw", "wb") as f:
            f.truncate(3 * M)
        with Server("--disk", "vda", "memory", "1G", "--disk", "vdb", "file",
                    f"{folder}/b.raw") as s:
            status = ctl_json(s, "status")
            assert status["disks"] == 2 and status["disk-bytes"] == G + 3 * M, status
            assert status["bitmaps"] == status["views"] == status["exports"] == 0, status
            assert status["checkpoints"] == status["sessions"] == 0, status
            assert status["nbd"] == [s.uri()], status
            assert s.uri() in ctl(s, "status")
            vda, vdb = ctl_json(s, "disks")
            assert vda["name"] == "vda" and vda["size"] == G and vda["driver"] == "memory", vda
            assert vdb["driver"] == "file" and vdb["file"] == f"{folder}/b.raw", vdb
            assert not vdb["read-only"]
            assert f"{folder}/b.raw" in ctl(s, "disks")
            h = s.nbd("vdb")
            h.pwrite(b"x" * 4096, 0)
            h.pread(512, 0)
            h.shutdown()
            assert ctl_json(s, "status")["io"] == [
                {"disk": "vda", "read-bytes": 0, "written-bytes": 0, "errors": 0},
                {"disk": "vdb", "read-bytes": 512, "written-bytes": 4096, "errors": 0}]
            assert "vdb: 512 read, 4 KiB written, 0 errors" in ctl(s, "status"), ctl(s, "status")
    with Server("-r", "memory", "1M") as s:
        assert ctl_json(s, "disks")[0]["read-only"]


@test
def bitmaps():
    with Server("--disk", "vda", "memory", "1G", "--disk", "vdb", "memory", "1M") as s:
        h = s.nbd("vda")
        ctl(s, "bitmap", "add", "vda", "b0")
        ctl(s, "bitmap", "add", "vda", "b1", "--granularity", "4k", "--disabled")
        h.pwrite(b"x" * 10, 5 * M - 5)
        assert dirty(s, "vda", "b0") == [(5 * M - 64 * K, 128 * K)]
        assert dirty(s, "vda", "b1") == []
        ctl(s, "bitmap", "enable", "vda", "b1")
        ctl(s, "bitmap", "disable", "vda", "b0")
        h.pwrite(b"x" * 10, 700 * M)
        assert dirty(s, "vda", "b0") == [(5 * M - 64 * K, 128 * K)]
        assert dirty(s, "vda", "b1") == [(700 * M, 4 * K)]
        ctl(s, "bitmap", "add", "vda", "both", "-g", "4096", "--disabled")
        ctl(s, "bitmap", "merge", "vda", "both", "b0", "b1")
        assert dirty(s, "vda", "both") == [(5 * M - 64 * K, 128 * K), (700 * M, 4 * K)]
        ctl(s, "bitmap", "clear", "vda", "b1")
        listed = {b["name"]: b for b in ctl_json(s, "bitmap", "list", "vda")}
        assert listed["b1"]["count"] == 0 and listed["b1"]["recording"]
        assert listed["both"]["count"] == 132 * K and listed["both"]["granularity"] == 4096
        assert not listed["b0"]["recording"]
        assert [b["name"] for b in listed.values()] == ["b0", "b1", "both"]
        assert ctl_json(s, "bitmap", "list", "vdb") == []
        ctl(s, "bitmap", "remove", "vda", "both")
        assert len(ctl_json(s, "bitmap", "list")) == 2
        h.shutdown()


@test
def errors_are_the_servers_words():
    with Server("--disk", "vda", "memory", "1G") as s:
        ctl(s, "bitmap", "add", "vda", "b0")
        for args, line in (
                ("bitmap add vda b0", "disk vda: bitmap b0: Bitmap already exists: b0"),
                ("bitmap add vda b1 -g 1000", "disk vda: bitmap b1: Granularity must be power of 2 "
                                              "and at least 512"),
                ("bitmap clear vda nix", "disk vda: bitmap nix: Dirty bitmap 'nix' not found"),
                ("bitmap enable vdx b0", "disk vdx: bitmap b0: Node 'vdx' not found"),
                ("bitmap merge vda b0 nix", "disk vda: bitmap b0: Dirty bitmap 'nix' not found"),
                ("bitmap list vdx", "disk vdx: no such disk; the server has vda"),
                ("view create vdx v", "disk vdx: view v: Node 'vdx' not found"),
                ("view delete v", "view v: Node 'v' not found"),
                ("qmp nix", "nix: The command nix has not been found"),
                ("qmp query-version a=1", "query-version: Parameter 'a' is unexpected"),
                ("qmp query-version a=1e41", "query-version: Parameter 'a' is unexpected")):
            assert ctl(s, *args.split(), code=1) == f"fleecectl: {line}", ctl(s, *args.split(),
                                                                              code=1)
        assert "--granularity 64q" in ctl(s, "bitmap", "add", "vda", "b2", "-g", "64q", code=2)
        line = ctl(s, "map", "vdx", code=1)
        assert line.endswith("the server has no such export; it has vda"), line
        line = ctl(s, "map", "vda", "-b", "nix", code=1)
        assert line.endswith("no context qemu:dirty-bitmap:nix; it has base:allocation, "
                             "qemu:dirty-bitmap:b0"), line
        assert len(ctl_json(s, "bitmap", "list")) == 1


@test
def populate():
    with tmpdir() as folder:
        with open(f"{folder}/a.raw", "wb") as f:
            f.truncate(3 * M)
            f.seek(M)
            f.write(b"x" * M)
        with Server("--disk", "vda", "file", f"{folder}/a.raw") as s:
            ctl(s, "bitmap", "add", "vda", "b0")
            ctl(s, "bitmap", "populate", "vda", "b0")
            assert dirty(s, "vda", "b0") == [(M, M)]


TWO = "--disk", "vda", "memory", "64M", "--disk", "vdb", "memory", "1M"


@test
def checkpoints():
    with Server(*TWO) as s:
        ctl(s, "checkpoint", "create", "mon", "--description", "before the update", "-g", "4k")
        h = s.nbd("vda")
        h.pwrite(b"x" * 10, 5 * M)
        ctl(s, "checkpoint", "create", "tue", "vda")
        h.pwrite(b"x" * 10, 6 * M)
        h.shutdown()
        mon, tue = ctl_json(s, "checkpoint", "list")
        assert [d["dirty-bytes"] for d in mon["disks"]] == [8 * K, 0], mon
        assert [d["dirty-bytes"] for d in tue["disks"]] == [64 * K], tue
        assert tue["parent"] == "mon" and mon == ctl_json(s, "checkpoint", "show", "mon")
        lines = ctl(s, "checkpoint", "list").splitlines()
        assert re.match(r"mon +20\d\d-\S+ \d\d:\d\d:\d\d +- +2 +8 KiB +valid +before the update$",
                        lines[1]), lines
        lines = ctl(s, "checkpoint", "show", "mon").splitlines()
        assert re.match(r"vdb +mon +0 +4 KiB +valid$", lines[-1]), lines
        assert ctl_json(s, "status")["checkpoints"] == 2
        assert [(b["disk"], b["checkpoint"]) for b in ctl_json(s, "bitmap", "list")] == [
            ("vda", "mon"), ("vda", "tue"), ("vdb", "mon")]
        assert re.search(r"^vda +mon +8 KiB +4 KiB +recording, checkpoint +no +-$",
                         ctl(s, "bitmap", "list"), re.M), ctl(s, "bitmap", "list")
        line = ctl(s, "bitmap", "clear", "vda", "mon", code=1)
        assert line.endswith("Bitmap 'mon' is readonly and cannot be modified"), line
        line = ctl(s, "checkpoint", "create", "mon", code=1)
        assert line == "fleecectl: checkpoint mon: Checkpoint already exists: mon", line
        ctl(s, "checkpoint", "delete", "mon")
        assert [c["name"] for c in ctl_json(s, "checkpoint", "list")] == ["tue"]
        line = ctl(s, "checkpoint", "delete", "mon", code=1)
        assert line == "fleecectl: checkpoint mon: Checkpoint 'mon' not found", line


@test
def sessions():
    with Server(*TWO) as s:
        begun = ctl_json(s, "session", "begin", "b1", "--checkpoint", "mon")
        assert [(d["disk"], d["mode"]) for d in begun] == [("vda", "full"), ("vdb", "full")], begun
        text = ctl(s, "session", "begin", "b2", "vda", "--lease", "0", "--discard",
                   "--scratch-limit", "1m")
        assert text.rstrip().endswith(s.uri("b2/vda")), text
        assert ctl_json(s, "status")["sessions"] == 2
        assert ctl_json(s, "checkpoint", "list") == []  # nobody knows yet whether it is to be
        ctl(s, "session", "renew", "b1", "--lease", "60")
        ctl(s, "session", "commit", "b1")
        ctl(s, "session", "abort", "b2")
        assert [c["name"] for c in ctl_json(s, "checkpoint", "list")] == ["mon"]
        h = s.nbd("vda")
        h.pwrite(b"x" * 10, 5 * M)
        text = ctl(s, "session", "begin", "b3", "--since", "mon", "--strict")
        assert re.search(r"^vda +incremental +64 KiB +64 MiB +- +nbd\+unix:", text, re.M), text
        assert dirty(s, "b3/vda", "backup-vda") == [(5 * M, 64 * K)]
        h.pwrite(b"y" * 10, 6 * M)  # the session's view stands still
        h.shutdown()
        assert dirty(s, "b3/vda", "backup-vda") == [(5 * M, 64 * K)]
        line = ctl(s, "session", "begin", "b4", "--since", "nix", "--strict", code=1)
        assert line.startswith("fleecectl: session b4: ") and "'nix'" in line, line
        text = ctl(s, "session", "begin", "b4", "vdb", "--since", "nix")
        assert re.search(r"^vdb +full +1 MiB +1 MiB +\S.*nix.* nbd\+unix:", text, re.M), text
        ctl(s, "session", "abort", "b3")
        for id, how in ("b1", "committed"), ("b3", "aborted"), ("nix", "not found"):
            for action in "commit", "abort", "renew":
                line = ctl(s, "session", action, id, code=1)
                assert line.startswith(f"fleecectl: session {id}: ") and how in line, line
        states = [(b["id"], b["state"]) for b in ctl_json(s, "session", "list")]
        assert states == [("b1", "committed"), ("b2", "aborted"), ("b3", "aborted"),
                          ("b4", "active")], states
        lines = ctl(s, "session", "list").splitlines()
        assert re.match(r"b1 +committed +20\S+ \S+ +- +mon +- +- +- +- +- +-$", lines[1]), lines
        assert re.match(r"b4 +active +20\S+ \S+ +nix +- +1 +1 MiB +0 +0 +(1 h 0|59) min", lines[4]), \
            lines


@test
def views():
    with Server("--disk", "vda", "memory", "64M") as s:
        h = s.nbd("vda")
        h.pwrite(b"a" * M, 0)
        ctl(s, "view", "create", "vda", "v0")
        h.pwrite(b"b" * M, M // 2)
        view, = ctl_json(s, "view", "list")
        assert view["name"] == "v0" and view["disk"] == "vda" and view["size"] == 64 * M, view
        assert view["scratch-bytes"] >= M // 2, view
        assert re.search(r"^v0 +vda +64 MiB .* idle$", ctl(s, "view", "list"), re.M)
        assert ctl_json(s, "status")["views"] == 1
        assert "v0" not in ctl(s, "disks")
        line = ctl(s, "map", "v0", code=1)
        assert line == "fleecectl: map v0: it is a view: export it first, by block-export-add", line
        ctl(s, "qmp", "block-export-add", "type=nbd", "id=e0", "node-name=v0")
        assert "exported" in ctl(s, "view", "list")
        # The export of a view has a map too. It shows the data at the instant of the view.
        data = [(e["start"], e["length"]) for e in ctl_json(s, "map", "v0")["extents"]
                if e["type"] == "data"]
        assert data == [(0, M)], data
        assert "in use" in ctl(s, "view", "delete", "v0", code=1)
        ctl(s, "qmp", '{"execute": "block-export-del", "arguments": {"id": "e0"}}')
        ctl(s, "view", "delete", "v0")
        assert ctl_json(s, "view", "list") == []
        h.shutdown()


@test
def map_of_a_disk():
    with Server("--disk", "vda", "memory", "1G") as s:
        ctl(s, "bitmap", "add", "vda", "b0")
        h = s.nbd("vda")
        h.pwrite(b"x" * 512, 0)
        h.zero(100 * M, 256 * M)
        h.shutdown()
        text = ctl(s, "map", "vda", "--bitmap", "b0")
        assert "          0  ░···" in text and "    256 MiB  ████" in text, text
        assert "dirty" in text and "total         1 GiB" in text
        assert text == ctl(s, "map", s.uri("vda"), "-b", "b0").replace(s.uri("vda"), "vda")
        page = ctl(s, "map", "vda", "-b", "b0", "--html", "-")
        assert "<svg" in page and "104923136 bytes" in page  # 100 MiB and one granule
        assert ctl_json(s, "map", "vda")["context"] == "base:allocation"


@test
def map_over_tcp():
    with Server("-p", "0", "-i", "127.0.0.1", "memory", "10M", unix=False) as s:
        uri, = ctl_json(s, "status")["nbd"]
        assert uri.startswith("nbd://"), uri
        assert ctl_json(s, "map", "disk0")["size"] == 10 * M


@test
def nbd_servers_that_are_started_and_stopped():
    """`status` shows the socket that nbd-server-start opens, until nbd-server-stop."""
    with Server("--disk", "vda", "memory", "1M") as s:
        other = s.path("other")
        ctl(s, "qmp", "nbd-server-start", "addr.type=unix", f"addr.data.path={other}")
        status = ctl_json(s, "status")
        assert status["nbd"] == [s.uri()] and len(status["nbd-added"]) == 1, status
        assert other in status["nbd-added"][0]
        line, = [x for x in ctl(s, "status").splitlines() if other in x]
        assert line.endswith("(only exports that were added)"), line
        ctl(s, "qmp", "nbd-server-stop")
        assert ctl_json(s, "status")["nbd-added"] == []


@test
def map_goes_where_the_disk_is_served():
    """`map` of a disk does not use the socket of nbd-server-start, though it is the only Unix
    socket and has an export with the name of the disk. That export is a view and has no dirty
    bitmap."""
    with Server("-p", "0", "-i", "127.0.0.1", "--disk", "vda", "memory", "1M", unix=False) as s:
        ctl(s, "bitmap", "add", "vda", "b")
        ctl(s, "view", "create", "vda", "now")
        ctl(s, "qmp", "nbd-server-start", "addr.type=unix", f"addr.data.path={s.path('other')}")
        ctl(s, "qmp", "block-export-add", "type=nbd", "id=e", "node-name=now", "name=vda")
        ctl(s, "qmp", "block-export-add", "type=nbd", "id=f", "node-name=now", "name=now")
        assert dirty(s, "vda", "b") == []
        assert ctl_json(s, "map", "now")["size"] == M
        line = ctl(s, "map", "now", "-b", "b", code=1)
        assert "no context qemu:dirty-bitmap:b" in line, line


@test
def map_of_a_server_without_a_socket_for_its_disks():
    with tmpdir() as folder:
        os.mkfifo(f"{folder}/pid")
        ours, theirs = socket.socketpair()
        p = subprocess.Popen([NBDFLEECE, "-s", "-C", f"{folder}/qmp", "-P", f"{folder}/pid",
                              "--disk", "vda", "memory", "1M"], stdin=theirs, stdout=theirs,
                             stderr=subprocess.PIPE, preexec_fn=die_with_parent)
        theirs.close()
        wait_ready(p, f"{folder}/pid")

        def of(*args):
            return fleecectl("-C", f"{folder}/qmp", *args, check=False)

        assert of("map", "vda").stderr == ("fleecectl: where vda is served: the server has no NBD "
                                           "socket\n")
        for args in (("view", "create", "vda", "now"),
                     ("qmp", "nbd-server-start", "addr.type=unix", f"addr.data.path={folder}/nbd"),
                     ("qmp", "block-export-add", "type=nbd", "id=e", "node-name=now", "name=vda"),
                     ("qmp", "block-export-add", "type=nbd", "id=f", "node-name=now")):
            assert of(*args).returncode == 0, args
        result = of("map", "vda")  # the export "vda" of that socket is not the disk
        assert result.returncode == 1 and result.stderr == (
            "fleecectl: where vda is served: the server has no NBD socket for its disks\n"), result
        assert of("map", "now").returncode == 0
        ours.close()
        assert p.wait(SOON) == 0
        p.stderr.close()


@test
def arguments_get_the_type_that_the_command_wants():
    """A name may look like a number: fleecectl sends it as a string, because the server takes no
    number as a name."""
    with Server("--disk", "vda", "memory", "1M") as s:
        add = ("qmp", "block-dirty-bitmap-add", "node=vda")
        for name in "20261128", "true", "null", "1e3", "-0", "99999999999999999999", "[1]", "{}":
            ctl(s, *add, f"name={name}", "granularity=4096", "disabled=true")
            assert ctl_json(s, "bitmap", "list")[-1]["name"] == name
        line = ctl(s, "qmp", "view-create", "disk=vda", "name=20261128", code=1)
        assert line == "fleecectl: view-create: Invalid node-name: '20261128'", line
        ctl(s, "qmp", "view-create", "disk=vda", "name=v")
        ctl(s, "qmp", "nbd-server-start", "addr.type=inet", "addr.data.host=127.0.0.1",
            "addr.data.port=0")
        ctl(s, "qmp", "block-export-add", "type=nbd", "id=e", "node-name=v", "name=1",
            "description=2.50", "writable=false")
        uri, = ctl_json(s, "status")["nbd-added"]
        assert ctl_json(s, "map", f"{uri}1")["size"] == M
        # JSON is sent unchanged, and the server is strict about types.
        actions = [{"type": "view-create", "data": {"disk": "vda", "name": 5}}]
        line = ctl(s, "qmp", "transaction", f"actions={json.dumps(actions)}", code=1)
        assert line == ("fleecectl: transaction: Invalid parameter type for 'actions[0].data.name', "
                        "expected: string (in JSON a string has double quotes)"), line
        line = ctl(s, "qmp", json.dumps({"execute": "view-delete", "arguments": {"name": 5}}),
                   code=1)
        assert line.endswith("Invalid parameter type for 'name', expected: string"), line
        line = ctl(s, *add, "name=x", "granularity=4k", code=1)
        assert line.endswith("Parameter 'granularity' expects uint64"), line
        line = ctl(s, *add, "name=x", "disabled=1", code=1)
        assert line.endswith("Invalid parameter type for 'disabled', expected: boolean"), line


@test
def qmp_transaction():
    with Server("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "1M") as s:
        actions = [{"type": "view-create", "data": {"disk": d, "name": f"{d}-now"}}
                   for d in ("vda", "vdb")]
        assert ctl_json(s, "qmp", "transaction", f"actions={json.dumps(actions)}") == {}
        assert [v["name"] for v in ctl_json(s, "view", "list")] == ["vda-now", "vdb-now"]
        actions[0]["data"]["name"], actions[1]["data"]["name"] = "v", "vdb-now"
        assert "vdb-now" in ctl(s, "qmp", "transaction", f"actions={json.dumps(actions)}", code=1)
        assert len(ctl_json(s, "view", "list")) == 2


@test
def watch():
    """watch prints events as they come, and ends when the server ends."""
    with Server("--disk", "vda", "memory", "1M") as s:
        watcher = subprocess.Popen([FLEECECTL, "-C", s.qmp_path, "--json", "watch"], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   preexec_fn=die_with_parent)
        assert "watching" in watcher.stderr.readline()  # from now on it misses nothing
        ctl(s, "qmp", "block-export-add", "type=nbd", "id=e0", "node-name=vda", "name=x")
        ctl(s, "qmp", "block-export-del", "id=e0")
        event = json.loads(watcher.stdout.readline())
        assert event["event"] == "BLOCK_EXPORT_DELETED" and event["data"]["id"] == "e0", event
        ctl(s, "session", "begin", "b1")
        ctl(s, "session", "abort", "b1")
        event = json.loads(watcher.stdout.readline())
        assert event["event"] == "BACKUP_ENDED", event
        assert event["data"] == {"id": "b1", "result": "abort"}, event
        s.stop()
        rest = [json.loads(line)["event"] for line in watcher.stdout]
        assert rest == ["BLOCK_EXPORT_DELETED", "SHUTDOWN"], rest  # the session's export
        assert watcher.wait(SOON) == 0
        watcher.stdout.close()
        watcher.stderr.close()
    assert fleecectl("-C", s.qmp_path, "status", check=False).returncode == 4


@test
def quit_command():
    with Server("memory", "1M") as s:
        assert ctl_json(s, "qmp", "quit") == {}
        s.wait()


@test
def a_view_that_is_made_meanwhile_is_no_disk():
    """Views and nodes are two questions: the view comes between them."""
    with tmpdir() as folder, Server("--disk", "vda", "memory", "1M") as server:
        def after(request, reply):
            if request["execute"] == "query-views" and not reply["return"]:
                ctl(server, "view", "create", "vda", "v")
            return reply

        path = f"{folder}/proxy"
        with QmpProxy(path, server.qmp_path, after=after):
            result = fleecectl("-C", path, "--json", "disks")
        assert "vda" in result.stdout and '"v"' not in result.stdout, result.stdout


main()
