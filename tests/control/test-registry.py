#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Bugs that reviewers found where exports, bitmaps and nodes meet. Each test shows one of them."""

import json

from fleece import QmpError, Server
from tap import main, test


def pipeline(q, *requests):
    """Send all requests in one piece, and return their replies."""
    text = b"".join(json.dumps({"execute": c, "arguments": a, "id": i}).encode()
                    for i, (c, a) in enumerate(requests))
    q.write(text)
    return [q.reply(i) for i in range(len(requests))]


@test
def exports_are_gone_when_the_server_has_stopped():
    """nbd-server-stop ends an export of a view while a client is connected to it. When the command
    has returned, all that the export used is free, as in QEMU."""
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
def bytes_that_a_bitmap_does_not_cover_are_dirty():
    """An export may have the bitmap of another, smaller disk. Nothing is known of the bytes past
    the end of that disk, so they are dirty."""
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
        h.shutdown()


@test
def an_empty_socket_path_is_refused():
    """An empty path would make a socket in the abstract namespace, to which everybody may
    connect."""
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
def discard_is_refused_on_disks():
    """An export of a disk refuses `discard` instead of ignoring it."""
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
