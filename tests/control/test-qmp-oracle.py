#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""qemu-storage-daemon and nbdfleece give exactly the same replies to the same requests.

Two kinds of requests are left out: those whose replies QEMU has changed between 7.2, which Debian
12 has, and 10.2; and those that nbdfleece answers otherwise on purpose (nbdfleece-qmp(7),
DIFFERENCES)."""

import json
import os
import random
import socket
import subprocess

import fleece
from fleece import Server, tmpdir
from tap import main, note, test

# Bytes; a line feed follows each.
BEFORE = [
    b"{'execute': 'query-version', 'id': 1}", b"{'execute': 'x'}",
    b"{'execute': 'qmp_capabilities', 'arguments': {'enable': ['x']}}",
    b"{'execute': 'qmp_capabilities', 'arguments': {'enable': [1]}}",
    b"{'execute': 'qmp_capabilities', 'arguments': {'enable': {}}}",
    b"{'execute': 'qmp_capabilities', 'arguments': {'x': 1}}", b"{'execute': 'qmp_capabilities'}",
]
WIRE = [
    b"[]", b"null", b"'x'", b"12", b"-1.5", b"{}", b"{'id': 1}", b"{'execute': 1, 'id': 'a'}",
    b"{'exec-oob': 'x', 'id': null}", b"{'execute': 'x', 'bla': 1, 'id': [1, {'a': -0.5}]}",
    b"{'execute': 'x', 'arguments': [], 'id': 18446744073709551615}",
    b"{'execute': 'x', 'arguments': 1}", b"{'execute': 'no-such-command', 'id': {}}",
    b"{'execute': 'qmp_capabilities'}", b"hello", b"tru", b"{]", b"[}", b"}", b"]", b",", b":",
    b"{,}", b"{'a': }", b"{'a'}", b"{'a' 1}", b"{'a', 'b'}", b"{1: 2}", b"{null: 2}", b"{'a': 1,}",
    b"[1,]", b"[,1]", b"[1 2]", b"[1: 2]", b"{'a': 1 'b': 2}", b"{'a': 1, 'a': 2}",
    b"{'a': {'b': 1, 'b': 1}}", b"{'a': '\\q'}", b"{'a': '\\ud800'}", b"{'a': '\\udc00'}",
    b"{'a': '\xc3('}", b"@", b"{'a': @ }", b"%d", b"[01]", b"[-]", b"[1.]",
    b"[1e]", b"[1e+]", b"TRUE", b"'abc", b"{'a': 'x", b"{\x01", b"\x7f", b"{\xff", b"\xfe",
    b"'bad \xff", b"{'execute': 'x', 'id': '\\u00e9\\ud83d\\ude00\\n\\/\\\\'}",
    b"{'execute': 'x', 'id': 'it\\'s \"q\"'}", b"\t{ 'execute'\r:\t'x' , 'id':1 } ",
]

ACTIONS = "transaction"


def bitmap(verb, **data):
    return {"type": f"block-dirty-bitmap-{verb}", "data": data}


def requests():
    """(command, arguments), in order: later requests need what earlier ones have made."""
    add, merge = "block-dirty-bitmap-add", "block-dirty-bitmap-merge"
    nbd, inet = "nbd-server-start", {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}

    yield "query-name-and-address", {}
    yield "query-block-exports", {"x": 1}
    for arguments in (
            {}, {"node": 1}, {"node": None, "name": "b"}, {"node": "vda"},
            {"node": "vda", "name": []}, {"node": "vda", "name": ""}, {"node": "x", "name": ""},
            {"node": "x", "name": "b"},
            {"node": "x", "name": "", "bogus": 1},
            {"node": "vda", "name": "b" * 1024}, {"node": "vda", "name": "b", "disabled": "yes"},
            {"node": "vda", "name": "b", "persistent": 1},
            {"node": "vda", "name": "b", "persistent": True}):
        yield add, arguments
    for granularity in ("x", None, -1, 0, 1, 511, 768, 1 << 32, 65536.0, 1.5, True, [], 1 << 64):
        yield add, {"node": "vda", "name": "b", "granularity": granularity}
    for arguments in (
            {"node": "vda", "name": "b"}, {"node": "vda", "name": "b"},
            {"node": "vdb", "name": "b", "granularity": 512}, {"node": "vda", "name": "c" * 1023},
            {"node": "vda", "name": "off", "disabled": True},
            {"node": "vda", "name": "big", "granularity": 1 << 31}):
        yield add, arguments
    for verb in "remove", "clear", "enable", "disable":
        for arguments in ({}, {"node": "vda"}, {"node": "x", "name": "b"},
                          {"node": "vda", "name": "none"}, {"node": "vda", "name": "b", "x": 1}):
            yield f"block-dirty-bitmap-{verb}", arguments
    for verb in "clear", "disable", "disable", "enable", "enable":
        yield f"block-dirty-bitmap-{verb}", {"node": "vda", "name": "b"}
    for bitmaps in (None, "b", {}, [1], [None], [[]], ["none"], ["b", "none"], [{}],
                    [{"node": "vda"}], ["b", {"node": "vda"}], [{"node": "vda", "name": 3}],
                    [{"node": "vda", "name": "b", "x": 1}], [{"node": "x", "name": "b"}],
                    [{"node": "vdb", "name": "none"}], ["off"], [{"node": "vda", "name": "off"}]):
        yield merge, {"node": "vda", "target": "b", "bitmaps": bitmaps}
    yield merge, {"node": "vda", "target": "b"}
    yield merge, {"node": "vda", "target": "none", "bitmaps": ["off"]}
    yield merge, {"node": "x", "target": "b", "bitmaps": ["off"]}
    for node, name in ("vda", "b"), ("vda", "off"), ("vda", "none"), ("x", "b"), ("vdb", "b"):
        yield "x-debug-block-dirty-bitmap-sha256", {"node": node, "name": name}

    good = bitmap("add", node="vda", name="t")
    for actions in (
            None, {}, ["x"], [1], [{}], [{"type": 1}], [{"type": "x"}], [{"type": "abort"}],
            [{"type": "abort", "data": {}}], [{"type": "abort", "data": {"x": 1}}],
            [{"type": "abort", "data": []}], [{**good, "z": 1}],
            [good, {"type": "abort", "data": {}}], [bitmap("add", x=1)], [bitmap("add", node=1)],
            [bitmap("add", node="vda", name="t", z=1)],
            [good, bitmap("add", node="vda", name="t", granularity=-1)], [good, good],
            [good, bitmap("add", node="x", name="t")], [good, bitmap("add", node="vda", name="")],
            [good, bitmap("clear", node="x", name="b")],
            [good, bitmap("clear", node="vda", name="x")],
            [good, bitmap("add", node="vda", name="p", persistent=True)],
            [good, bitmap("merge", node="vda", target="t", bitmaps=["none"])],
            [good, bitmap("merge", node="vda", target="t", bitmaps=[{"node": "vda"}])],
            [bitmap("remove", node="vda", name="b"), bitmap("add", node="vda", name="b")],
            [bitmap("remove", node="vda", name="b"), bitmap("clear", node="vda", name="b")],
            [bitmap("remove", node="vda", name="b"), bitmap("enable", node="vda", name="b")],
            [bitmap("remove", node="vda", name="b"), bitmap("remove", node="vda", name="b")],
            [bitmap("remove", node="vda", name="b"),
             bitmap("merge", node="vda", target="off", bitmaps=["b"])],
            [bitmap("remove", node="vda", name="b"),
             bitmap("merge", node="vda", target="b", bitmaps=["off"])],
            [], [good, bitmap("merge", node="vda", target="t", bitmaps=["b"]),
                 bitmap("disable", node="vda", name="t")],
            [bitmap("remove", node="vda", name="t")]):
        yield ACTIONS, {"actions": actions}
    # QEMU 7.2 disables the bitmap when it rolls back an `enable` that failed.
    yield "block-dirty-bitmap-enable", {"node": "vda", "name": "b"}
    for properties in (1, {"x": 1}, {"completion-mode": 1}, {"completion-mode": "x"},
                       {"completion-mode": "individual"}, {}):
        yield ACTIONS, {"actions": [], "properties": properties}
    yield ACTIONS, {}

    for arguments in (
            {"size": 1}, {"size": -1}, {"node-name": "vda"}, {"node-name": "vda", "size": "x"},
            {"node-name": "vda", "size": -1}, {"node-name": "vda", "size": (1 << 64) - 1},
            {"node-name": "vda", "size": 1 << 63}, {"node-name": "vda", "size": 1.0},
            {"device": "x", "size": 1}, {"device": "x", "node-name": "y", "size": 1},
            {"node-name": "ro", "size": 1048576}):
        yield "block_resize", arguments

    export = {"type": "nbd", "id": "e", "node-name": "vda", "name": "n"}
    yield "block-export-add", {**export, "id": "9"}
    yield "block-export-add", {**export, "node-name": "x"}
    yield "block-export-add", {**export, "node-name": "ro", "writable": True}
    yield "nbd-server-stop", {}
    for arguments in (
            {}, {"addr": 1}, {"addr": {}}, {"addr": {"type": "x", "data": {}}},
            {"addr": {"type": "unix"}}, {"addr": {"type": "unix", "data": {}}},
            {"addr": {"type": "unix", "data": {"path": 1}}},
            {"addr": {"type": "inet", "data": {"host": "127.0.0.1"}}},
            {"addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": 1}}},
            {"addr": inet, "max-connections": -1}, {"addr": inet, "max-connections": "1"},
            {"addr": inet, "max-connections": 1 << 32}, {"addr": inet, "tls-creds": "tls0"},
            {"addr": inet, "x": 1}):
        yield nbd, arguments
    yield nbd, {"addr": inet}
    yield nbd, {"addr": inet}
    for change in (
            {"type": "x"}, {"type": 1}, {"id": 1}, {"id": ""}, {"id": "a b"}, {"writable": 1},
            {"node-name": "x"}, {"node-name": "ro", "writable": True}, {"name": "n" * 4097},
            {"description": "d" * 4097}, {"bitmaps": "b"}, {"bitmaps": [3]}, {"bitmaps": ["none"]},
            {"bitmaps": [{"node": "vda"}]}, {"bitmaps": ["b"]}, {"bitmaps": ["off", "none"]},
            {"bitmaps": [{"node": "vda", "name": "none"}]},
            {"bitmaps": [{"node": "x", "name": "b"}]}, {"x": 1}, {"bitmaps": ["off"]}, {},
            {"id": "e2"}, {"id": "e2", "name": "m", "bitmaps": ["off"]},
            {"id": "e2", "name": "m", "bitmaps": [{"node": "vda", "name": "off"}]}):
        yield "block-export-add", {**export, **change}
    yield "query-block-exports", {}
    for verb in "remove", "clear", "enable", "disable":
        yield f"block-dirty-bitmap-{verb}", {"node": "vda", "name": "off"}
    yield merge, {"node": "vda", "target": "off", "bitmaps": ["b"]}
    yield merge, {"node": "vda", "target": "b", "bitmaps": ["off"]}
    yield ACTIONS, {"actions": [good, bitmap("clear", node="vda", name="off")]}
    for arguments in {}, {"id": "x"}, {"id": "e", "mode": "x"}, {"id": "e", "x": 1}, {"id": 1}:
        yield "block-export-del", arguments
    yield "block-export-del", {"id": "e"}
    yield "block-export-del", {"id": "e"}
    yield "block-export-add", {**export, "writable": True, "bitmaps": ["b"]}
    yield "nbd-server-stop", {}
    yield "nbd-server-stop", {}
    yield "block-export-del", {"id": "e"}


class Daemon:
    """qemu-storage-daemon on one end of a socket pair."""

    def __init__(self):
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        self.process = subprocess.Popen(
            [fleece.require_program("qemu-storage-daemon"), "--chardev",
             f"socket,id=c,fd={fd}", "--monitor", "chardev=c",
             "--blockdev", "null-co,node-name=vda,size=1048576,read-zeroes=on",
             "--blockdev", "null-co,node-name=vdb,size=1048576,read-zeroes=on",
             "--blockdev", "null-co,node-name=ro,size=1048576,read-only=on,read-zeroes=on"],
            pass_fds=[fd], preexec_fn=fleece.die_with_parent, stdin=subprocess.DEVNULL)
        theirs.close()
        ours.settimeout(fleece.SOON)
        self.stream = ours.makefile("rwb")
        self.socket = ours

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()
        self.process.terminate()
        self.process.wait()


def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(fleece.SOON)
    s.connect(path)
    return s.makefile("rwb")


END = b"\n{'execute': 'query-version', 'arguments': {'x': 1}, 'id': '__end'}\n"


def first_reply(stream, request):
    """The first reply to `request`. QEMU gives several errors for one bad line, nbdfleece one. A
    second request shows where the replies end."""
    stream.write(request + END)
    stream.flush()
    first = None
    while True:
        line = json.loads(stream.readline())
        if line.get("id") == "__end":
            return first
        if first is None and "event" not in line:
            first = line


@test
def the_same_replies_as_qemu_storage_daemon():
    with Daemon() as qemu, Server("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "1M",
                                  "--disk", "ro", "pattern", "1M") as s:
        ours, theirs = connect(s.qmp_path), qemu.stream
        for stream in ours, theirs:
            assert "QMP" in json.loads(stream.readline())
        different = compared = 0
        for request in BEFORE + WIRE + [json.dumps({"execute": c, "arguments": a, "id": 1}).encode()
                                        for c, a in requests()]:
            a, b = first_reply(ours, request), first_reply(theirs, request)
            compared += 1
            if a != b:
                different += 1
                note(f"{request[:200]}\n  qemu {b}\n  ours {a}")
        note(f"{compared} requests compared")
        assert compared > 250 and different == 0, f"{different} of {compared} replies differ"


@test
def the_same_bits_as_qemu_storage_daemon():
    """The same writes to both mark the same bits: counts and hashes at each granularity."""
    seed = 20261120
    note(f"seed {seed}")
    with Daemon() as qemu, Server("--disk", "vda", "memory", "1M") as s, tmpdir() as d:
        ours, theirs = connect(s.qmp_path), qemu.stream
        path = os.path.join(d, "nbd")
        for stream in ours, theirs:
            stream.readline()

        def both(command, /, **arguments):
            request = json.dumps({"execute": command, "arguments": arguments}).encode()
            a, b = first_reply(ours, request), first_reply(theirs, request)
            assert a == b, (command, arguments, a, b)
            return a["return"]

        both("qmp_capabilities")
        export = {"type": "nbd", "id": "e", "node-name": "vda", "name": "vda", "writable": True}
        for request in (
                {"execute": "nbd-server-start",
                 "arguments": {"addr": {"type": "unix", "data": {"path": path}}}},
                {"execute": "block-export-add", "arguments": export}):
            assert first_reply(theirs, json.dumps(request).encode()) == {"return": {}}
        handles = [s.nbd("vda"), nbd_connect(path)]
        names = [f"b{shift}" for shift in range(9, 24)]
        for name in names:
            both("block-dirty-bitmap-add", node="vda", name=name, granularity=1 << int(name[1:]))
        rng = random.Random(seed)
        for step in range(200):
            length = rng.choice((1, 511, 512, 4096, rng.randrange(1, 20000)))
            offset = rng.randrange(0, (1 << 20) - length + 1)
            for h in handles:
                if step % 3 == 0:
                    h.zero(length, offset)
                else:
                    h.pwrite(b"x" * length, offset)
            if step % 40 == 20:
                both("block-dirty-bitmap-clear", node="vda", name=rng.choice(names))
                a, b = rng.sample(names, 2)
                both("block-dirty-bitmap-merge", node="vda", target=a, bitmaps=[b])
                both(f"block-dirty-bitmap-{rng.choice(('enable', 'disable'))}", node="vda",
                     name=rng.choice(names))
            if step % 20 == 19:
                hashes = [both("x-debug-block-dirty-bitmap-sha256", node="vda", name=name)["sha256"]
                          for name in names]
                assert len(set(hashes)) > 3
        request = b"{'execute': 'query-named-block-nodes'}"
        shown = [{b["name"]: (b["count"], b["granularity"], b["recording"], b["busy"])
                  for n in first_reply(stream, request)["return"] if n["node-name"] == "vda"
                  for b in n["dirty-bitmaps"]} for stream in (ours, theirs)]
        assert shown[0] == shown[1], shown
        for h in handles:
            h.shutdown()


def nbd_connect(path):
    import nbd
    h = nbd.NBD()
    h.connect_uri(fleece.uri("vda", unix=path))
    return h


main()
