#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Exports of unusual sizes, and exports that change or are removed while clients use them."""

import contextlib
import os
import select

from fleece import SOON, QmpError, Server, tmpdir
from held import Held
from qmp_checks import fails
from rawnbd import *
from tap import main, test

ALLOCATION, B0 = "base:allocation", "qemu:dirty-bitmap:b0"
MODES = ("simple", "structured", "extended")


@contextlib.contextmanager
def file_disk(size):
    with tmpdir() as d:
        path = os.path.join(d, "disk")
        with open(path, "wb") as f:
            f.truncate(size)
        yield path


def connect_as(s, mode, name="", contexts=()):
    c = Client(s.socket)
    if mode != "simple":
        getattr(c, mode)()
        if contexts:
            c.set_contexts(name, *contexts)
    return c.go(name)


def add_export(q, node, id, **more):
    q.cmd("block-export-add", type="nbd", id=id, name=id, **{"node-name": node}, **more)


# ---- sizes ----

@test
def an_unaligned_disk():
    """A disk of 1000 bytes. Clients can use every byte of it and none after its end."""
    with file_disk(1000) as path, Server("--disk", "vda", "file", path) as s:
        s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b0", granularity=512)
        for mode in MODES:
            with connect_as(s, mode, contexts=(ALLOCATION, B0)) as c:
                assert c.size == 1000
                for offset, length in ((0, 1000), (999, 1), (488, 512), (512, 488)):
                    assert len(c.read(offset, length)) == length
                for offset, length in ((999, 2), (512, 512), (0, 1024), (1000, 1), (1001, 0)):
                    assert c.do(READ, offset, length) == EINVAL, (offset, length)
                    assert c.do(WRITE, offset, length) == ENOSPC, (offset, length)
                    assert c.do(WRITE_ZEROES, offset, length) == ENOSPC, (offset, length)
                c.write(990, b"0123456789")
                assert c.read(0, 1000)[990:] == b"0123456789"
                assert c.do(WRITE_ZEROES, 995, 5) == 0
                assert c.do(TRIM, 512, 488) == 0
                if mode != "simple":
                    status = c.block_status(0, 1000)
                    assert all(sum(n for n, _ in e) == 1000 for e in status.values()), status
                    assert status[B0] == [(512, 0), (488, 1)]
                    assert c.do(BLOCK_STATUS, 0, 1001) == EINVAL
                    assert sum(n for n, _ in c.block_status(999, 1)[B0]) == 1
    with file_disk(1000) as path, Server("--disk", "vda", "file", path) as s:
        q = s.qmp()
        with connect_as(s, "extended") as c:
            c.write(0, b"x" * 1000)
            q.cmd("view-create", disk="vda", name="v")
            add_export(q, "v", "v")
            c.write(500, b"y" * 500)
            with connect_as(s, "extended", "v", [ALLOCATION]) as v:
                assert v.size == 1000 and v.read(0, 1000) == b"x" * 1000
                assert v.map(ALLOCATION, 0, 1000) == [(1000, 0)]


@test
def an_empty_disk():
    """A client can enter the export, but every range is past its end."""
    with file_disk(0) as path, Server("--disk", "vda", "file", path) as s:
        for mode in MODES:
            with connect_as(s, mode, contexts=[ALLOCATION]) as c:
                assert c.size == 0
                for command in READ, WRITE, TRIM, CACHE, WRITE_ZEROES:
                    error = ENOSPC if command in (WRITE, WRITE_ZEROES) else EINVAL
                    assert c.do(command, 0, 1) == error, command
                    assert c.do(command, 0, 0) == 0, command
                if mode != "simple":
                    assert c.do(BLOCK_STATUS, 0, 512) == EINVAL
                    assert c.do(BLOCK_STATUS, 0, 0) == EINVAL
                assert c.do(FLUSH) == 0
                c.request(DISC)
                c.expect_end()


# ---- removal ----

def removed(q, id):
    assert q.wait_event("BLOCK_EXPORT_DELETED")["data"] == {"id": id}


@test
def removal_disconnects_idle_clients():
    with Server("memory", "1M") as s:
        q = s.qmp()
        add_export(q, "disk0", "e")
        clients = [connect_as(s, mode, "e") for mode in MODES]
        with connect_as(s, "extended") as other:
            q.cmd("block-export-del", id="e", mode="hard")
            removed(q, "e")
            for c in clients:
                c.expect_end()
                c.close()
            with Client(s.socket) as late:
                assert late.info("e") == ERR_UNKNOWN
            other.in_step()


@test
def removal_answers_what_is_under_way():
    """Requests under way finish, later ones get ESHUTDOWN, and then the connection ends."""
    for mode in MODES:
        with Held() as h:
            q = h.server.qmp()
            add_export(q, "vda", "e", writable=True)
            with connect_as(h.server, mode, "e") as c, connect_as(h.server, mode, "e") as idle:
                held = c.request(READ, 0, 512)
                h.wait_begun()
                q.cmd("block-export-del", id="e", mode="hard")
                with Client(h.server.socket) as newcomer:
                    assert newcomer.info("e") == ERR_UNKNOWN
                for command in READ, WRITE, FLUSH:
                    length = 0 if command == FLUSH else 512
                    late = c.request(command, 0, length,
                                     data=bytes(512) if command == WRITE else b"")
                    reply = c.reply()
                    assert (reply.cookie, reply.error) == (late, ESHUTDOWN), reply
                idle.expect_end()
                h.let_go()
                assert c.result(held) == 0
                c.expect_end()
            removed(q, "e")


@test
def removal_waits_for_the_last_request_of_a_client_that_hung_up():
    """A client has hung up while its request is under way. The export is not in use any more, so
    its removal is not refused, but waits for that request."""
    with Held() as h:
        q = h.server.qmp()
        add_export(q, "vda", "e")
        for mode in MODES:
            with connect_as(h.server, mode, "e") as c:
                c.request(READ, 0, 512)
                h.wait_begun()
                try:
                    q.cmd("block-export-del", id="e")
                except QmpError as e:
                    assert e.desc == "export 'e' still in use", e
                else:
                    raise AssertionError("the export is removed though a client uses it")
            q.write({"execute": "block-export-del", "arguments": {"id": "e"}, "id": mode})
            h.let_go()
            reply = q.reply(mode)
            assert "return" in reply, reply
            removed(q, "e")
            add_export(q, "vda", "e")


@test
def removal_cuts_off_a_client_that_does_not_read():
    """A client that reads none of its replies loses its connection. Clients of other exports go
    on."""
    for command, arguments in (("block-export-del", {"id": "e", "mode": "hard"}),
                               ("nbd-server-stop", {})):
        with Server("memory", "64M") as s:
            q = s.qmp()
            path = s.path("second")
            q.cmd("nbd-server-start", addr={"type": "unix", "data": {"path": path}})
            add_export(q, "disk0", "e")
            with connect_as(s, "structured", "e") as deaf, connect_as(s, "structured") as other:
                for _ in range(8):
                    deaf.request(READ, 0, MAX_PAYLOAD)
                assert select.select([deaf.socket], [], [], SOON)[0], "no reply has begun"
                q.cmd(command, **arguments)
                removed(q, "e")
                other.in_step()


@test
def an_export_is_removed_though_a_client_has_asked_about_it():
    with Server("memory", "1M") as s:
        q = s.qmp()
        add_export(q, "disk0", "e")
        with Client(s.socket) as c:
            c.extended()
            assert c.info("e") == REP_ACK
            q.cmd("block-export-del", id="e", mode="hard")
            removed(q, "e")
            assert c.info("e") == ERR_UNKNOWN
            c.go("disk0").in_step()


@test
def contexts_of_a_removed_export_do_not_count():
    """They do not count even if there is a new export of the same name."""
    with Server("memory", "1M") as s:
        q = s.qmp()
        add_export(q, "disk0", "e")
        with Client(s.socket) as c:
            c.extended()
            c.set_contexts("e", ALLOCATION)
            q.cmd("block-export-del", id="e")
            removed(q, "e")
            add_export(q, "disk0", "e")
            c.go("e")
            assert not c.eflags & BLOCK_STATUS_PAYLOAD
            assert c.do(BLOCK_STATUS, 0, 4096) == EINVAL
            c.in_step()


# ---- block_resize ----

@test
def a_disk_that_grows():
    """A client keeps the size that it was told. Clients that come later see the new size."""
    with file_disk(1 << 20) as path, Server("--disk", "vda", "file", path) as s:
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vda", name="b0")
        q.cmd("view-create", disk="vda", name="v")
        add_export(q, "v", "v")
        for mode in MODES:
            with connect_as(s, mode, "vda", (ALLOCATION, B0)) as c:
                size, grown = c.size, c.size + (1 << 20)
                q.cmd("block_resize", size=grown, **{"node-name": "vda"})
                assert c.do(READ, size - 512, 512) == 0
                assert c.do(READ, size, 512) == EINVAL
                assert c.do(WRITE, size, 512) == ENOSPC
                if mode != "simple":
                    assert c.do(BLOCK_STATUS, size, 512) == EINVAL
                    status = c.block_status(0, size)
                    assert all(sum(n for n, _ in e) == size for e in status.values()), status
                with connect_as(s, mode, "vda", (ALLOCATION, B0)) as late:
                    assert late.size == grown
                    if mode != "simple":
                        last = late.map(B0, size, grown - size)
                        assert last == [(grown - size, 1)], last
                    late.write(size, b"x" * 512)
                    assert late.read(size, 512) == b"x" * 512
        with connect_as(s, "extended", "v", [ALLOCATION]) as v:
            assert v.size == 1 << 20
            assert v.do(READ, v.size, 512) == EINVAL
            assert sum(n for n, _ in v.map(ALLOCATION, 0, v.size)) == v.size


@test
def a_disk_does_not_shrink_under_a_client():
    with file_disk(1 << 20) as path, Server("--disk", "vda", "file", path) as s:
        q = s.qmp()
        with connect_as(s, "extended", "vda") as c:
            fails(q, "disk vda: cannot shrink while a client is connected", "block_resize",
                  size=512 << 10, **{"node-name": "vda"})
            c.write(c.size - 512, b"x" * 512)
            c.request(DISC)
            c.expect_end()


main()
