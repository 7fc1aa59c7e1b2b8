# SPDX-License-Identifier: BSD-3-Clause
"""qemu-img against our exports: convert, compare, map, bench, and QEMU's way to read a dirty
bitmap, `x-dirty-bitmap`."""

import json
import os
import random

from fleece import Server, require_program, run, tmpdir
from rig import (KIB, MIB, Storm, assert_same, content, dirty_context, dirty_extents, export_view,
                 file_server, freeze, image, seed)
from tap import main, test

PIECES = [(0, 64 * KIB), (3 * MIB, 200 * KIB), (8 * MIB - 4 * KIB, 4 * KIB)]


def qemu_img(command, *args, **kwargs):
    require_program("qemu-img")
    return run("qemu-img", command, *args, **kwargs)


def image_options(s, export, bitmap=None):
    """An export in the form that --image-opts takes."""
    text = f"driver=nbd,server.type=unix,server.path={s.socket},export={export}"
    if bitmap:
        text += f",x-dirty-bitmap=qemu:dirty-bitmap:{bitmap}"
    return text


def mapped(*args):
    return json.loads(qemu_img("map", "--output=json", *args).stdout)


def dirty_map(s, export, bitmap):
    """A bitmap as QEMU reads it, [(offset, length)]. QEMU shows dirty ranges as `data` false."""
    return [(e["start"], e["length"])
            for e in mapped("--image-opts", image_options(s, export, bitmap)) if not e["data"]]


@test
def info():
    with Server("--disk", "vda", "memory", "8M") as s:
        told = json.loads(qemu_img("info", "--output=json", s.uri("vda")).stdout)
        assert (told["virtual-size"], told["format"]) == (8 * MIB, "raw"), told


@test
def convert_from_an_export():
    with file_server(8 * MIB, PIECES) as (s, d, model):
        qemu_img("convert", "-O", "raw", s.uri("vda"), f"{d}/out")
        assert_same(content(f"{d}/out"), model)
        assert os.stat(f"{d}/out").st_blocks * 512 < MIB
        qemu_img("convert", "-f", "raw", "-O", "qcow2", "-c", s.uri("vda"), f"{d}/out.qcow2")
        qemu_img("compare", "-f", "raw", "-F", "qcow2", s.uri("vda"), f"{d}/out.qcow2")


@test
def convert_out_of_order_with_many_coroutines():
    with file_server(8 * MIB, [(0, 8 * MIB)]) as (s, d, model):
        qemu_img("convert", "-W", "-m", "16", "-O", "raw", s.uri("vda"), f"{d}/out")
        assert_same(content(f"{d}/out"), model)


@test
def convert_to_an_export():
    with tmpdir() as d:
        model = image(f"{d}/source", 8 * MIB, PIECES)
        image(f"{d}/disk", 8 * MIB, [(MIB, 4 * MIB)])
        with Server("--disk", "vda", "file", f"{d}/disk") as s:
            qemu_img("convert", "-n", "-f", "raw", "-O", "raw", f"{d}/source", s.uri("vda"))
            assert_same(content(f"{d}/disk"), model)
            assert os.stat(f"{d}/disk").st_blocks * 512 < MIB, "zeroes did not become holes"


@test
def convert_to_an_export_that_is_zero():
    with tmpdir() as d:
        image(f"{d}/source", 8 * MIB, PIECES)
        with Server("--disk", "vda", "memory", "8M") as s:
            qemu_img("convert", "-n", "--target-is-zero", "-W", "-f", "raw", "-O", "raw",
                     f"{d}/source", s.uri("vda"))
            qemu_img("compare", "-f", "raw", "-F", "raw", f"{d}/source", s.uri("vda"))


@test
def a_qcow2_image_inside_a_disk():
    """A guest may write anything to its disk. Here it is a qcow2 image."""
    with tmpdir() as d:
        model = image(f"{d}/source", 4 * MIB, [(0, MIB)])
        with Server("--disk", "vda", "memory", "8M") as s:
            qemu_img("create", "-f", "qcow2", s.uri("vda"), "4M")
            qemu_img("convert", "-n", "-f", "raw", "-O", "qcow2", f"{d}/source", s.uri("vda"))
            qemu_img("check", "-f", "qcow2", s.uri("vda"))
            qemu_img("convert", "-f", "qcow2", "-O", "raw", s.uri("vda"), f"{d}/out")
            assert_same(content(f"{d}/out"), model)


@test
def compare_tells_a_difference():
    with tmpdir() as d:
        image(f"{d}/disk", 8 * MIB, PIECES)
        with Server("--disk", "vda", "file", f"{d}/disk", "--disk", "vdb", "memory", "8M") as s:
            assert qemu_img("compare", "-f", "raw", "-F", "raw", s.uri("vda"), s.uri("vdb"),
                            check=False).returncode == 1
            run("nbdcopy", s.uri("vda"), s.uri("vdb"))
            assert qemu_img("compare", "-f", "raw", "-F", "raw", s.uri("vda"), s.uri("vdb"),
                            check=False).returncode == 0


@test
def the_map_of_allocation():
    with file_server(8 * MIB, PIECES) as (s, _, _):
        assert [(e["start"], e["length"], e["data"], e["zero"])
                for e in mapped("-f", "raw", s.uri("vda"))] == [
            (0, 64 * KIB, True, False), (64 * KIB, 3 * MIB - 64 * KIB, False, True),
            (3 * MIB, 200 * KIB, True, False),
            (3 * MIB + 200 * KIB, 5 * MIB - 204 * KIB, False, True),
            (8 * MIB - 4 * KIB, 4 * KIB, True, False)]


@test
def the_map_of_a_live_bitmap():
    with Server("--disk", "vda", "memory", "8M") as s:
        s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=64 * KIB)
        assert dirty_map(s, "vda", "b") == []
        h = s.nbd("vda")
        h.pwrite(b"x" * 3, 64 * KIB - 1)
        h.zero(MIB, 4 * MIB)
        assert dirty_map(s, "vda", "b") == [(0, 128 * KIB), (4 * MIB, MIB)]


@test
def the_map_of_a_frozen_bitmap():
    rng = random.Random(seed())
    with Server("--disk", "vda", "memory", "64M") as s:
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=4 * KIB)
        h = s.nbd("vda")
        for _ in range(1000):
            h.pwrite(b"x", rng.randrange(64 * MIB))
        freeze(q, "vda", "v", old="b")
        export_view(q, "v", "vda", "b")
        expected = dirty_extents(s.nbd("v", [dirty_context("b")]), "b")
        with Storm(s.uri("vda"), rng) as storm:
            storm.wait_writes(20)
            assert dirty_map(s, "v", "b") == expected
            storm.wait_writes(20)


@test
def a_bitmap_that_is_not_there():
    with Server("--disk", "vda", "memory", "1M") as s:
        result = qemu_img("map", "--image-opts", image_options(s, "vda", "none"), check=False)
        assert result.returncode == 1 and "none" in result.stderr, result


@test
def an_incremental_backup_by_qemu_img_alone():
    """qemu-img map tells the dirty extents, and qemu-img dd copies them into the full backup."""
    with file_server(8 * MIB, PIECES) as (s, d, model):
        q = s.qmp()
        freeze(q, "vda", "monday", new="b")
        export_view(q, "monday")
        qemu_img("convert", "-f", "raw", "-O", "raw", s.uri("monday"), f"{d}/backup")
        h = s.nbd("vda")
        for offset in MIB, 2 * MIB + 5, 7 * MIB:
            h.pwrite(b"tuesday", offset)
            model[offset:offset + 7] = b"tuesday"
        freeze(q, "vda", "tuesday", old="b")
        export_view(q, "tuesday", "vda", "b")
        h.pwrite(b"wednesday", MIB)
        changed = dirty_map(s, "tuesday", "b")
        assert changed == [(MIB, 64 * KIB), (2 * MIB, 64 * KIB), (7 * MIB, 64 * KIB)], changed
        with open(f"{d}/backup", "r+b") as backup:
            for offset, length in changed:
                qemu_img("dd", "-f", "raw", "-O", "raw", "bs=64k", f"skip={offset // 65536}",
                         f"count={offset // 65536 + length // 65536}", f"if={s.uri('tuesday')}",
                         f"of={d}/piece")
                backup.seek(offset)
                backup.write(content(f"{d}/piece")[:length])
        assert_same(content(f"{d}/backup"), model)


@test
def a_view_as_the_backing_file_of_an_overlay():
    """This is a way to look into a backup while it is made: writes go to the overlay."""
    require_program("qemu-io")
    with file_server(8 * MIB, PIECES) as (s, d, model):
        q = s.qmp()
        freeze(q, "vda", "v")
        export_view(q, "v")
        qemu_img("create", "-f", "qcow2", "-b", s.uri("v"), "-F", "raw", f"{d}/overlay")
        s.nbd("vda").pwrite(b"x" * MIB, 0)
        run("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 64k", f"{d}/overlay")
        model[MIB:MIB + 64 * KIB] = b"\7" * 64 * KIB
        qemu_img("convert", "-f", "qcow2", "-O", "raw", f"{d}/overlay", f"{d}/out")
        assert_same(content(f"{d}/out"), model)


@test
def a_served_file_is_locked_against_qemu():
    with tmpdir() as d:
        image(f"{d}/disk", MIB)
        with Server("--disk", "vda", "file", f"{d}/disk"):
            result = qemu_img("resize", "-f", "raw", f"{d}/disk", "2M", check=False)
            assert result.returncode == 1 and "lock" in result.stderr, result
        qemu_img("resize", "-f", "raw", f"{d}/disk", "2M")


@test
def benchmarks_end_well():
    with Server("--disk", "vda", "memory", "64M") as s:
        qemu_img("bench", "-f", "raw", "-c", "5000", "-d", "64", "-s", "4096", s.uri("vda"))
        qemu_img("bench", "-f", "raw", "-w", "--pattern=5", "-c", "5000", "-d", "64", "-s", "4096",
                 "--flush-interval=100", s.uri("vda"))
        assert s.nbd("vda").pread(4096, 4096) == b"\5" * 4096


main()
