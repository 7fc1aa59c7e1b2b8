# SPDX-License-Identifier: BSD-3-Clause
"""libnbd's nbdinfo against our exports."""

import json
import subprocess

from fleece import Server, require_plugin, require_program, run, tmpdir
from rig import KIB, MIB, export_view, freeze, image
from tap import main, test


def nbdinfo(*args, **kwargs):
    require_program("nbdinfo")
    return run("nbdinfo", *args, **kwargs)


def info(where, *args):
    """nbdinfo --json of one export."""
    return json.loads(nbdinfo("--json", *args, where).stdout)["exports"][0]


def mapped(where, context=""):
    """nbdinfo --map as [(offset, length, description)]."""
    option = f"--map={context}" if context else "--map"
    return [(e["offset"], e["length"], e["description"])
            for e in json.loads(nbdinfo("--json", option, where).stdout)]


@test
def size_of_each_disk():
    with Server("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "8193K") as s:
        assert nbdinfo("--size", s.uri("vda")).stdout == f"{MIB}\n"
        assert nbdinfo("--size", s.uri("vdb")).stdout == f"{8193 * KIB}\n"
        assert nbdinfo("--size", s.uri()).stdout == f"{MIB}\n"  # the default export is the first


@test
def the_list_has_every_export_with_its_contexts():
    with Server("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "2M") as s:
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vda", name="monday")
        freeze(q, "vdb", "v0")
        q.cmd("block-export-add", type="nbd", id="e0", name="tuesday",
              description="vdb as it was on Tuesday", **{"node-name": "v0"})
        listed = json.loads(nbdinfo("--list", "--json", s.uri()).stdout)
        assert listed["protocol"] == "newstyle-fixed" and listed["structured"], listed
        exports = {e["export-name"]: e for e in listed["exports"]}
        assert list(exports) == ["vda", "vdb", "tuesday"], list(exports)
        assert exports["vda"]["contexts"] == ["base:allocation", "qemu:dirty-bitmap:monday"]
        assert exports["vdb"]["contexts"] == ["base:allocation"]
        assert exports["tuesday"]["contexts"] == ["base:allocation"]
        assert exports["tuesday"]["description"] == "vdb as it was on Tuesday"
        assert exports["tuesday"]["is_read_only"] and not exports["vda"]["is_read_only"]
        assert [e["export-size"] for e in exports.values()] == [MIB, 2 * MIB, 2 * MIB]


@test
def what_a_live_disk_can_do():
    with tmpdir() as d:
        image(f"{d}/a", MIB)
        with Server("--disk", "vda", "file", f"{d}/a") as s:
            for ability in "connect", "read", "write", "zero", "trim", "flush", "fua", "df", \
                           "multi-conn", "fast-zero", "cache", "structured-reply":
                assert nbdinfo("--can", ability, s.uri("vda"), check=False).returncode == 0, ability
            assert nbdinfo("--is", "read-only", s.uri("vda"), check=False).returncode == 2


@test
def what_a_view_can_do():
    with Server("--disk", "vda", "memory", "1M") as s:
        q = s.qmp()
        freeze(q, "vda", "v")
        export_view(q, "v")
        assert nbdinfo("--is", "read-only", s.uri("v"), check=False).returncode == 0
        for ability in "write", "zero", "trim":
            assert nbdinfo("--can", ability, s.uri("v"), check=False).returncode == 2, ability
        for ability in "read", "flush", "multi-conn", "df":
            assert nbdinfo("--can", ability, s.uri("v"), check=False).returncode == 0, ability


@test
def block_sizes_are_sane():
    with tmpdir() as d:
        image(f"{d}/a", MIB)
        with Server("--disk", "vda", "file", f"{d}/a") as s:
            export = info(s.uri("vda"))
            low, best, high = (export[f"block_size_{w}"]
                               for w in ("minimum", "preferred", "maximum"))
            assert 1 <= low <= 65536 and low & (low - 1) == 0, export
            assert best >= max(512, low) and best & (best - 1) == 0 and high >= best, export


@test
def the_map_shows_data_and_holes():
    with tmpdir() as d:
        image(f"{d}/a", 4 * MIB, [(MIB, 64 * KIB), (3 * MIB, 128 * KIB)])
        with Server("--disk", "vda", "file", f"{d}/a") as s:
            assert mapped(s.uri("vda")) == [
                (0, MIB, "hole,zero"), (MIB, 64 * KIB, "data"),
                (MIB + 64 * KIB, 2 * MIB - 64 * KIB, "hole,zero"), (3 * MIB, 128 * KIB, "data"),
                (3 * MIB + 128 * KIB, MIB - 128 * KIB, "hole,zero")]


@test
def the_map_of_a_bitmap_shows_what_was_written():
    with Server("--disk", "vda", "memory", "4M") as s:
        s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=64 * KIB)
        h = s.nbd("vda")
        h.pwrite(b"x", MIB + 5)
        h.zero(64 * KIB, 2 * MIB)
        h.trim(1, 3 * MIB - 1)
        assert mapped(s.uri("vda"), "qemu:dirty-bitmap:b") == [
            (0, MIB, "clean"), (MIB, 64 * KIB, "dirty"),
            (MIB + 64 * KIB, MIB - 64 * KIB, "clean"), (2 * MIB, 64 * KIB, "dirty"),
            (2 * MIB + 64 * KIB, MIB - 128 * KIB, "clean"), (3 * MIB - 64 * KIB, 64 * KIB, "dirty"),
            (3 * MIB, MIB, "clean")]


@test
def the_totals_of_a_map():
    with Server("--disk", "vda", "memory", "4M") as s:
        s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=4 * KIB)
        h = s.nbd("vda")
        for i in range(10):
            h.pwrite(b"x", i * 100 * KIB)
        totals = json.loads(nbdinfo("--json", "--totals", "--map=qemu:dirty-bitmap:b",
                                    s.uri("vda")).stdout)
        assert {t["description"]: t["size"] for t in totals} == {
            "dirty": 40 * KIB, "clean": 4 * MIB - 40 * KIB}, totals


@test
def the_map_of_a_view_is_that_of_its_instant():
    with tmpdir() as d:
        image(f"{d}/a", 4 * MIB, [(MIB, 64 * KIB)])
        with Server("--disk", "vda", "file", f"{d}/a") as s:
            q = s.qmp()
            freeze(q, "vda", "v")
            export_view(q, "v")
            h = s.nbd("vda")
            h.pwrite(b"x" * 64 * KIB, 2 * MIB)  # a hole becomes data
            h.trim(64 * KIB, MIB)               # data becomes a hole
            assert mapped(s.uri("v")) == [
                (0, MIB, "hole,zero"), (MIB, 64 * KIB, "data"),
                (MIB + 64 * KIB, 3 * MIB - 64 * KIB, "hole,zero")]


@test
def a_map_of_many_extents():
    """Every other block of 512 bytes is dirty: these are 65536 extents."""
    with Server("--disk", "vda", "memory", "64M") as s:
        s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=512)
        h = s.nbd("vda")
        cookies = []
        for offset in range(0, 32 * MIB, 1024):
            cookies.append(h.aio_pwrite(b"x", offset))
            if len(cookies) == 512:
                while h.aio_in_flight():
                    h.poll(-1)
                for cookie in cookies:
                    assert h.aio_command_completed(cookie)
                cookies = []
        entries = mapped(s.uri("vda"), "qemu:dirty-bitmap:b")
        assert len(entries) == 65536, len(entries)
        assert all(e == (i * 512, 512, "clean" if i % 2 else "dirty")
                   for i, e in enumerate(entries[:-1]))
        assert entries[-1] == (32 * MIB - 512, 32 * MIB + 512, "clean")


@test
def no_such_export():
    with Server("memory", "1M") as s:
        result = nbdinfo(s.uri("nobody"), check=False)
        assert result.returncode == 1 and "nobody" in result.stderr, result


@test
def without_structured_replies():
    with Server("--no-sr", "memory", "1M") as s:
        listed = json.loads(nbdinfo("--json", s.uri()).stdout)
        assert not listed["structured"], listed
        result = nbdinfo("--map", s.uri(), check=False)
        assert result.returncode != 0 and not result.stdout.strip(), result


@test
def without_multi_conn():
    with Server("--max-connections=1", "memory", "1M") as s:
        assert nbdinfo("--can", "multi-conn", s.uri(), check=False).returncode == 2


@test
def over_tcp():
    with Server("-p", "0", "-i", "127.0.0.1", "--print-uri", "memory", "1M", unix=False,
                stdout=subprocess.PIPE, text=True) as s:
        where = s.process.stdout.readline().strip()
        assert where.startswith("nbd://127.0.0.1:"), where
        assert info(where)["export-size"] == MIB


@test
def the_content_is_told_apart():
    require_program("file")
    require_plugin("data")
    with Server("data", "raw=MZ", "size=1M") as s:
        listed = nbdinfo("--content", s.uri(), check=False)
        if "unrecognized option" in listed.stderr:
            listed = nbdinfo(s.uri())
        assert "DOS executable" in listed.stdout, listed.stdout


main()
