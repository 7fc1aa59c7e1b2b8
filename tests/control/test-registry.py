#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Faults that reviewers found where exports, bitmaps and nodes meet, each as the test that showed
it."""

import json

from fleece import QmpError, Server
from tap import main, test


def pipeline(q, *requests):
    """Send all requests in one piece; their replies."""
    text = b"".join(json.dumps({"execute": c, "arguments": a, "id": i}).encode()
                    for i, (c, a) in enumerate(requests))
    q.write(text)
    return [q.reply(i) for i in range(len(requests))]


@test
def exports_are_gone_when_the_server_has_stopped():
    """A client is connected to a view's export when its server is stopped: what the export occupied
    is free as soon as the command has returned, as in QEMU."""
    import nbd
    with Server("--disk", "vda", "memory", "1M") as s:
        q = s.qmp()
        address = {"type": "unix", "data": {"path": s.path("other")}}
        q.cmd("nbd-server-start", addr=address)
        q.cmd("view-create", disk="vda", name="v")
        q.cmd("block-dirty-bitmap-add", node="vda", name="b", disabled=True)
        export = {"type": "nbd", "id": "e", "node-name": "v", "bitmaps": ["b"]}
        q.cmd("block-export-add", **export)
        h = nbd.NBD()
        h.connect_uri(f"nbd+unix:///v?socket={s.path('other')}")
        replies = pipeline(q, ("nbd-server-stop", {}),
                           ("nbd-server-start", {"addr": address}),
                           ("block-export-add", export),
                           ("block-export-del", {"id": "e"}),
                           ("block-dirty-bitmap-remove", {"node": "vda", "name": "b"}),
                           ("view-delete", {"name": "v"}))
        for reply in replies:
            assert "return" in reply, reply
        assert [e["data"]["id"] for e in q.events()
                if e["event"] == "BLOCK_EXPORT_DELETED"] == ["e", "e"]


@test
def a_bitmap_does_not_speak_for_what_it_does_not_cover():
    """An export may be given the bitmap of another disk. What lies past the end of that disk is
    not known to be clean."""
    with Server("--disk", "vda", "memory", "4M", "--disk", "vdb", "memory", "1M") as s:
        q = s.qmp()
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": s.path("other")}})
        q.cmd("block-dirty-bitmap-add", node="vdb", name="b", disabled=True)
        q.cmd("block-export-add", type="nbd", id="e", name="e",
              **{"node-name": "vda", "bitmaps": [{"node": "vdb", "name": "b"}]})
        h = s.nbd("e", contexts=["qemu:dirty-bitmap:b"])
        for offset, expected in (0, [1 << 20, 0, 3 << 20, 1]), (2 << 20, [2 << 20, 1]):
            answers = []
            h.block_status((4 << 20) - offset, offset,
                           lambda context, at, entries, error: answers.append(entries) or 0)
            assert answers == [expected], answers


@test
def a_socket_has_a_name():
    """An empty path made a socket in the abstract namespace, which everybody may connect to."""
    with Server("--disk", "vda", "memory", "1M") as s:
        q = s.qmp()
        try:
            q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": ""}})
        except QmpError as e:
            assert "empty" in e.desc, e
        else:
            raise AssertionError("it started")
        q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": s.path("other")}})


@test
def discard_is_for_views():
    """On a disk's export `discard` was taken and ignored."""
    with Server("--disk", "vda", "memory", "1M") as s:
        q = s.qmp()
        export = {"type": "nbd", "id": "e", "node-name": "vda", "name": "e"}
        try:
            q.cmd("block-export-add", discard=True, **export)
        except QmpError as e:
            assert e.desc == "Parameter 'discard' is unexpected", e
        else:
            raise AssertionError("it was taken")
        q.cmd("block-export-add", discard=False, **export)


main()
