# SPDX-License-Identifier: BSD-3-Clause
"""libnbd's nbdcopy, to and from our exports."""

import contextlib
import os
import random
import subprocess

from fleece import SOON, Server, die_with_parent, require_plugin, require_program, run, tmpdir
from rig import (KIB, MIB, Storm, assert_same, content, export_view, extents, file_server, freeze,
                 image, seed)
from tap import main, test

PIECES = [(0, 4 * KIB), (MIB, 300 * KIB), (5 * MIB + 512, 1024), (7 * MIB - 4 * KIB, 4 * KIB)]


def nbdcopy(*args, **kwargs):
    require_program("nbdcopy")
    return run("nbdcopy", *args, **kwargs)


class Disk(contextlib.ExitStack):
    """A server with one disk `vda`, a sparse file of 7 MiB and its bytes."""

    def __init__(self, *options):
        super().__init__()
        self.options = options

    def __enter__(self):
        self.server, self.dir, self.model = self.enter_context(
            file_server(7 * MIB, PIECES, options=self.options))
        self.file, self.out = f"{self.dir}/disk", f"{self.dir}/out"
        self.uri = self.server.uri("vda")
        return self


@test
def from_an_export_to_a_file():
    with Disk() as disk:
        nbdcopy(disk.uri, disk.out)
        assert_same(content(disk.out), disk.model)


@test
def what_was_sparse_stays_sparse():
    with Disk() as disk:
        nbdcopy(disk.uri, disk.out)
        assert os.stat(disk.out).st_blocks * 512 < MIB, os.stat(disk.out)


@test
def with_one_connection_and_with_sixteen():
    with Disk() as disk:
        for connections in 1, 16:
            nbdcopy(f"--connections={connections}", f"--threads={min(4, connections)}", disk.uri,
                    disk.out)
            assert_same(content(disk.out), disk.model)


@test
def with_many_requests_in_flight():
    with Disk() as disk:
        nbdcopy("--requests=1024", "--request-size=4096", "--no-extents", disk.uri, disk.out)
        assert_same(content(disk.out), disk.model)


@test
def with_the_largest_requests():
    with Disk() as disk:
        nbdcopy("--request-size=33554432", "--queue-size=268435456", "--no-extents", disk.uri,
                disk.out)
        assert_same(content(disk.out), disk.model)


@test
def in_lockstep():
    with Disk() as disk:
        nbdcopy("--synchronous", disk.uri, disk.out)
        assert_same(content(disk.out), disk.model)


@test
def without_structured_replies():
    with Disk("--no-sr") as disk:
        nbdcopy(disk.uri, disk.out)
        assert_same(content(disk.out), disk.model)


@test
def without_multi_conn():
    with Disk("--max-connections=1") as disk:
        nbdcopy(disk.uri, disk.out)
        assert_same(content(disk.out), disk.model)


@test
def from_a_pipe_and_into_one():
    with Disk() as disk:
        model = random.Random(2).randbytes(7 * MIB)
        writer = subprocess.Popen(["nbdcopy", "--", "-", disk.uri], stdin=subprocess.PIPE,
                                  preexec_fn=die_with_parent)
        writer.communicate(model, timeout=SOON)
        assert writer.returncode == 0, writer.returncode
        reader = subprocess.run(["nbdcopy", "--", disk.uri, "-"], stdout=subprocess.PIPE,
                                check=True, timeout=SOON, preexec_fn=die_with_parent)
        assert_same(reader.stdout, model)
        assert_same(content(disk.file), model)


@test
def from_a_file_to_an_export():
    with Disk() as disk:
        source = f"{disk.dir}/source"
        model = image(source, 7 * MIB, [(512, 5 * KIB), (4 * MIB, MIB)])
        nbdcopy("--flush", source, disk.uri)
        assert_same(content(disk.file), model)


@test
def a_destination_that_is_zero_already():
    with tmpdir() as d, Server("--disk", "vda", "memory", "7M") as s:
        model = image(f"{d}/source", 7 * MIB, PIECES)
        nbdcopy("--destination-is-zero", f"{d}/source", s.uri("vda"))
        nbdcopy(s.uri("vda"), f"{d}/out")
        assert_same(content(f"{d}/out"), model)
        assert sum(n for _, n, flags in extents(s.nbd("vda", ["base:allocation"]),
                                                "base:allocation") if not flags) < MIB


@test
def a_destination_that_must_be_allocated():
    with tmpdir() as d:
        model = image(f"{d}/source", 7 * MIB, PIECES)
        image(f"{d}/disk", 7 * MIB)
        with Server("--disk", "vda", "file", f"{d}/disk") as s:
            nbdcopy("--allocated", f"{d}/source", s.uri("vda"))
            assert_same(content(f"{d}/disk"), model)
            assert os.stat(f"{d}/disk").st_blocks * 512 >= 7 * MIB, os.stat(f"{d}/disk")


@test
def zeroes_in_the_source_become_holes():
    with tmpdir() as d:
        with open(f"{d}/source", "wb") as f:
            f.write(b"\0" * 4 * MIB + b"x" * 4 * KIB + b"\0" * (4 * MIB - 4 * KIB))
        image(f"{d}/disk", 8 * MIB, [(0, 8 * MIB)])
        with Server("--disk", "vda", "file", f"{d}/disk") as s:
            nbdcopy("--sparse=4096", f"{d}/source", s.uri("vda"))
            assert_same(content(f"{d}/disk"), content(f"{d}/source"))
            assert os.stat(f"{d}/disk").st_blocks * 512 < MIB, os.stat(f"{d}/disk")


@test
def from_one_of_our_disks_to_another():
    require_plugin("sparse-random")
    with tmpdir() as d:
        with Server("--disk", "from", "sparse-random", "256M", "seed=1", "--disk", "to", "memory",
                    "256M") as s:
            nbdcopy(s.uri("from"), s.uri("to"))
            nbdcopy(s.uri("to"), f"{d}/out")
        # The plugin fails a write of other data than its own: so it verifies the copy.
        with Server("sparse-random", "256M", "seed=1") as s:
            nbdcopy(f"{d}/out", s.uri())


@test
def several_copies_at_once():
    with Disk() as disk:
        copies = [subprocess.Popen(["nbdcopy", disk.uri, f"{disk.out}{i}"],
                                   preexec_fn=die_with_parent) for i in range(6)]
        for i, copy in enumerate(copies):
            assert copy.wait(SOON) == 0
            assert_same(content(f"{disk.out}{i}"), disk.model)


@test
def a_copy_is_recorded():
    with Disk() as disk:
        disk.server.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=4 * KIB)
        source = f"{disk.dir}/source"
        image(source, 7 * MIB, [(0, MIB)])
        nbdcopy(source, disk.uri)
        h = disk.server.nbd("vda", ["qemu:dirty-bitmap:b"])
        assert extents(h, "qemu:dirty-bitmap:b") == [(0, 7 * MIB, 1)]


@test
def two_copies_of_a_view_are_the_same_while_the_disk_is_written():
    with Disk() as disk:
        rng = random.Random(seed())
        q = disk.server.qmp()
        freeze(q, "vda", "v")
        export_view(q, "v")
        with Storm(disk.uri, rng) as storm:
            for i in range(2):
                storm.wait_writes(100)
                nbdcopy(disk.server.uri("v"), f"{disk.out}{i}")
            storm.wait_writes(1)
        assert_same(content(f"{disk.out}0"), disk.model, "the first copy")
        assert_same(content(f"{disk.out}1"), disk.model, "the second copy")
        assert content(disk.file) != bytes(disk.model)


@test
def a_view_cannot_be_copied_to():
    with Disk() as disk:
        q = disk.server.qmp()
        freeze(q, "vda", "v")
        export_view(q, "v")
        result = nbdcopy(disk.file, disk.server.uri("v"), check=False)
        assert result.returncode != 0 and "read" in result.stderr, result


@test
def a_size_that_is_no_multiple_of_anything():
    with tmpdir() as d:
        size = 3 * MIB + 511
        model = image(f"{d}/disk", size, [(0, 1000), (size - 700, 700)])
        with Server("--disk", "vda", "file", f"{d}/disk") as s:
            nbdcopy(s.uri("vda"), f"{d}/out")
            assert_same(content(f"{d}/out"), model)
            os.truncate(f"{d}/out", 0)
            model = image(f"{d}/in", size, [(MIB, MIB), (size - 1, 1)])
            nbdcopy(f"{d}/in", s.uri("vda"))
            assert_same(content(f"{d}/disk"), model)


main()
