# SPDX-License-Identifier: BSD-3-Clause
"""Chains of servers: nbdkit with its nbd plugin in front of us; we, with that plugin, in front of
qemu-nbd and of another nbdfleece; and nbdkit's filters over a view."""

import random

import nbd

from fleece import Server, require_plugin, require_program, run, tmpdir, uri
from rig import (HOLE, KIB, MIB, Storm, activated, assert_same, content, dirty_context,
                 dirty_extents, export_view, extents, file_server, freeze, image, pull, seed)
from tap import main, test

PIECES = [(0, 64 * KIB), (2 * MIB + 512, 300 * KIB)]
BASE = "base:allocation"


def connected(where, *contexts):
    h = nbd.NBD()
    for context in contexts:
        h.add_meta_context(context)
    h.connect_uri(where)
    return h


def nbdkit_in_front(folder, s, export, *more):
    """nbdkit, which serves one of our exports on the socket `folder`/front."""
    require_program("nbdkit")
    require_plugin("nbd")
    return activated(f"{folder}/front", "nbdkit", "-f", *more, "nbd", f"socket={s.socket}",
                     f"export={export}")


def qemu_nbd(folder, *args):
    """qemu-nbd, which serves on the socket `folder`/behind."""
    require_program("qemu-nbd")
    return activated(f"{folder}/behind", "qemu-nbd", "--persistent", "--shared=16", *args)


@test
def nbdkit_in_front_of_a_disk():
    with tmpdir() as d:
        model = image(f"{d}/disk", 8 * MIB, PIECES)
        with Server("--disk", "vda", "file", f"{d}/disk") as s, nbdkit_in_front(d, s, "vda"):
            s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=64 * KIB)
            h = connected(uri(unix=f"{d}/front"), BASE)
            assert h.get_size() == 8 * MIB
            assert_same(h.pread(8 * MIB, 0), model)
            assert extents(h, BASE) == extents(s.nbd("vda", [BASE]), BASE)
            h.pwrite(b"x" * 4096, MIB)
            h.zero(64 * KIB, 4 * MIB, nbd.CMD_FLAG_NO_HOLE)
            h.trim(64 * KIB, 0)
            h.flush()
            model[MIB:MIB + 4096] = b"x" * 4096
            model[0:64 * KIB] = bytes(64 * KIB)
            assert_same(content(f"{d}/disk"), model)
            assert dirty_extents(s.nbd("vda", [dirty_context("b")]), "b") == [
                (0, 64 * KIB), (MIB, 64 * KIB), (4 * MIB, 64 * KIB)]
            h.shutdown()


@test
def nbdkit_in_front_of_a_view():
    with file_server(8 * MIB, PIECES) as (s, d, model):
        q = s.qmp()
        freeze(q, "vda", "v")
        export_view(q, "v")
        with nbdkit_in_front(d, s, "v"):
            h = connected(uri(unix=f"{d}/front"), BASE)
            assert h.is_read_only()
            s.nbd("vda").pwrite(b"x" * MIB, 0)
            assert_same(h.pread(8 * MIB, 0), model)
            h.shutdown()


@test
def a_writable_copy_of_a_view_by_nbdkits_cow_filter():
    """This is a way to try a restore: the view does not change, writes go to nbdkit's overlay."""
    with file_server(8 * MIB, PIECES) as (s, d, model):
        q = s.qmp()
        freeze(q, "vda", "v")
        export_view(q, "v")
        with nbdkit_in_front(d, s, "v", "--filter=cow"):
            h = connected(uri(unix=f"{d}/front"))
            s.nbd("vda").zero(8 * MIB, 0)
            h.pwrite(b"cow" * 100, 5 * MIB)
            model[5 * MIB:5 * MIB + 300] = b"cow" * 100
            assert_same(h.pread(8 * MIB, 0), model)
            h.shutdown()
        assert s.nbd("v").pread(300, 5 * MIB) == bytes(300)


@test
def nbdkit_in_front_with_many_clients():
    rng = random.Random(seed())
    with tmpdir() as d, Server("--disk", "vda", "memory", "8M") as s, \
            nbdkit_in_front(d, s, "vda"):
        front = uri(unix=f"{d}/front")
        model = image(f"{d}/source", 8 * MIB, [(0, 8 * MIB)], rng)
        run("nbdcopy", "--connections=4", f"{d}/source", front)
        with Storm(front, rng, region=(0, MIB)) as a, Storm(front, rng, region=(MIB, 2 * MIB)) as b:
            a.wait_writes(50)
            b.wait_writes(50)
        assert_same(s.nbd("vda").pread(6 * MIB, 2 * MIB), model[2 * MIB:])


@test
def we_in_front_of_qemu_nbd():
    require_plugin("nbd")
    with tmpdir() as d:
        model = image(f"{d}/disk", 8 * MIB, PIECES)
        with qemu_nbd(d, "-f", "raw", "--discard=unmap", f"{d}/disk"), \
                Server("--disk", "vda", "nbd", f"socket={d}/behind") as s:
            h = s.nbd("vda", [BASE])
            assert_same(h.pread(8 * MIB, 0), model)
            data = sum(n for _, n, flags in extents(h, BASE) if not flags & HOLE)
            assert data == sum(n for _, n, flags in extents(
                connected(uri(unix=f"{d}/behind"), BASE), BASE) if not flags & HOLE)
            h.pwrite(b"x" * 4096, MIB)
            h.zero(64 * KIB, 0)
            h.trim(MIB, 4 * MIB)
            h.flush()
            model[MIB:MIB + 4096] = b"x" * 4096
            model[0:64 * KIB] = bytes(64 * KIB)
            assert_same(h.pread(8 * MIB, 0), model)
        assert_same(content(f"{d}/disk"), model)


@test
def tracking_and_views_of_a_qcow2_image_behind_qemu_nbd():
    """A qcow2 image is backed up although nbdfleece does not read qcow2."""
    require_plugin("nbd")
    rng = random.Random(seed())
    with tmpdir() as d:
        image(f"{d}/source", 8 * MIB, PIECES, rng)
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", f"{d}/source", f"{d}/disk.qcow2")
        with qemu_nbd(d, "-f", "qcow2", f"{d}/disk.qcow2"), \
                Server("--disk", "vda", "nbd", f"socket={d}/behind", "shared=true") as s:
            q = s.qmp()
            freeze(q, "vda", "monday", new="b")
            export_view(q, "monday")
            with Storm(s.uri("vda"), rng) as storm:
                storm.wait_writes(20)
                run("nbdcopy", s.uri("monday"), f"{d}/backup")
                assert_same(content(f"{d}/backup"), content(f"{d}/source"))
                freeze(q, "vda", "tuesday", old="b")
                storm.wait_writes(20)
                export_view(q, "tuesday", "vda", "b")
                h = s.nbd("tuesday", [dirty_context("b")])
                pull(h, dirty_extents(h, "b"), f"{d}/backup")
                storm.wait_writes(20)
                run("nbdcopy", s.uri("tuesday"), f"{d}/full")
                assert_same(content(f"{d}/backup"), content(f"{d}/full"))
        run("qemu-img", "check", "-f", "qcow2", f"{d}/disk.qcow2")


@test
def we_in_front_of_ourselves():
    require_plugin("nbd")
    with tmpdir() as d:
        model = image(f"{d}/disk", 8 * MIB, PIECES)
        with Server("--disk", "vda", "file", f"{d}/disk") as behind, \
                Server("--disk", "vdb", "nbd", f"socket={behind.socket}", "export=vda") as s:
            q = s.qmp()
            freeze(q, "vdb", "v", new="b")
            export_view(q, "v")
            s.nbd("vdb").pwrite(b"x" * 4096, MIB)
            assert behind.nbd("vda").pread(4096, MIB) == b"x" * 4096
            assert_same(s.nbd("v").pread(8 * MIB, 0), model)
            assert dirty_extents(s.nbd("vdb", [dirty_context("b")]), "b") == [(MIB, 64 * KIB)]


@test
def the_end_of_a_server_behind_us_is_an_error_and_not_our_end():
    require_plugin("nbd")
    with tmpdir() as d:
        image(f"{d}/disk", 8 * MIB, PIECES)
        with Server("--disk", "vda", "file", f"{d}/disk") as behind, \
                Server("--disk", "vdb", "nbd", f"socket={behind.socket}", "export=vda", "--disk",
                       "vdc", "memory", "1M") as s:
            q = s.qmp()
            q.cmd("block-dirty-bitmap-add", node="vdb", name="b")
            h = s.nbd("vdb", [dirty_context("b")])
            h.pread(512, 0)
            behind.kill()
            for call in (lambda: h.pread(512, 0), lambda: h.pwrite(b"x" * 512, MIB)):
                try:
                    call()
                    raise AssertionError("it went through")
                except nbd.Error as error:
                    # libnbd says EINVAL for a connection that is closed.
                    assert error.errno in ("EIO", "ESHUTDOWN", "EINVAL"), error
            # The write may have changed the disk: its bit is set. All others live on.
            assert dirty_extents(h, "b") == [(MIB, 64 * KIB)]
            assert s.nbd("vdc").pread(512, 0) == bytes(512)
            assert q.cmd("query-block")[0]["device"] == "vdb"


main()
