# SPDX-License-Identifier: BSD-3-Clause
"""fio's nbd engine: deep queues on several connections. fio verifies every block."""

import random
import threading

from fio import VERIFY, fio
from fleece import SOON, Server, run, tmpdir
from rig import (KIB, MIB, assert_same, content, dirty_context, dirty_extents, export_view,
                 file_server, freeze, pull, seed)
from tap import main, note, test


@test
def random_writes_are_read_back():
    with Server("--disk", "vda", "memory", "16M") as s:
        fio(s.uri("vda"), "--rw=randwrite", "--bs=4k", "--size=16M", *VERIFY)


@test
def blocks_of_all_sizes():
    with file_server(16 * MIB) as (s, _, _):
        fio(s.uri("vda"), "--rw=randwrite", "--bsrange=512-128k", "--bs_unaligned=0",
            "--blockalign=512", "--size=16M", *VERIFY)


@test
def sequential_writes_of_256k():
    with Server("--disk", "vda", "memory", "64M") as s:
        fio(s.uri("vda"), "--rw=write", "--bs=256k", "--size=64M", *VERIFY)


@test
def four_jobs_on_four_connections():
    with file_server(64 * MIB) as (s, _, _):
        s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=4 * KIB)
        jobs = fio(s.uri("vda"), "--rw=randwrite", "--bs=4k", "--size=16M", "--numjobs=4",
                   "--offset_increment=16M", "--io_size=4M", *VERIFY)
        assert len(jobs) == 4, len(jobs)
        dirty = sum(n for _, n in dirty_extents(s.nbd("vda", [dirty_context("b")]), "b"))
        assert dirty == sum(job["write"]["io_bytes"] for job in jobs), dirty


@test
def mixed_with_trims():
    with file_server(16 * MIB, [(0, 16 * MIB)]) as (s, d, _):
        fio(s.uri("vda"), "--rw=randrw", "--bs=8k", "--size=16M", "--io_size=8M", "--fsync=64")
        fio(s.uri("vda"), "--rw=randtrim", "--bs=64k", "--size=16M")
        assert_same(content(f"{d}/disk"), bytes(16 * MIB), "the trimmed disk")


@test
def verified_under_views_that_come_and_go():
    """fio checks the live disk. We check the views: for each of them a full and an incremental
    backup must be the same."""
    rng = random.Random(seed())
    with file_server(16 * MIB, [(0, 8 * MIB)], rng) as (s, d, _):
        q = s.qmp()
        failures = []

        def load():
            try:
                for _ in range(3):
                    fio(s.uri("vda"), "--rw=randwrite", "--bsrange=512-16k", "--blockalign=512",
                        "--size=16M", "--verify_backlog=64", *VERIFY)
            except BaseException as error:
                failures.append(error)

        freeze(q, "vda", "v0", new="b0")
        export_view(q, "v0")
        run("nbdcopy", s.uri("v0"), f"{d}/backup")
        thread = threading.Thread(target=load)
        thread.start()
        day = 0
        try:
            while thread.is_alive() or day == 0:
                day += 1
                freeze(q, "vda", f"v{day}", new=f"b{day}", old=f"b{day - 1}")
                q.cmd("block-export-del", id=f"v{day - 1}", mode="hard")
                q.wait_event("BLOCK_EXPORT_DELETED")
                q.cmd("view-delete", name=f"v{day - 1}")
                export_view(q, f"v{day}", "vda", f"b{day - 1}")
                h = s.nbd(f"v{day}", [dirty_context(f"b{day - 1}")])
                pull(h, dirty_extents(h, f"b{day - 1}"), f"{d}/backup")
                h.shutdown()
                run("nbdcopy", s.uri(f"v{day}"), f"{d}/full")
                assert_same(content(f"{d}/backup"), content(f"{d}/full"), f"day {day}")
        finally:
            thread.join(SOON)
        if failures:
            raise failures[0]
        note(f"{day} incremental backups")


main()
