# SPDX-License-Identifier: BSD-3-Clause
"""The main job: full and incremental backups of disks that do not stop being written, pulled by
stock clients, and proved against a model of the guest's writes.

The guest keeps a log of its writes, so that what the disk was after each of them is known. A view's
instant lies between two writes of each guest: the view must be the disk after exactly one prefix of
the log, one that holds all that was answered before the transaction was sent and nothing that was
begun after its answer came."""

import random
import threading

import nbd

from fleece import QmpError, SOON, Server, require_program, run, tmpdir
from logged_guests import Guests
from rig import (HOLE, KIB, MIB, assert_same, content, dirty_context, dirty_extents, export_view,
                 extents, file_server, freeze, image, pull, seed)
from tap import main, note, test

SIZE = 8 * MIB


def backup_view(s, view, path):
    """A full backup of an exported view."""
    require_program("nbdcopy")
    run("nbdcopy", s.uri(view), path)


def drop_view(q, view):
    q.cmd("block-export-del", id=view, mode="hard")
    q.wait_event("BLOCK_EXPORT_DELETED")
    q.cmd("view-delete", name=view)


@test
def full_and_incremental_with_a_model():
    """The instant is taken while the guest rests, so the model is exact; all else goes on."""
    rng = random.Random(seed())
    with tmpdir() as d:
        model = image(f"{d}/disk", SIZE, [(MIB, 2 * MIB)], rng)
        backup = f"{d}/backup"
        with Server("--disk", "vda", "file", f"{d}/disk") as s:
            q = s.qmp()

            # The full backup, and where the next one begins.
            freeze(q, "vda", "monday", new="since-monday", granularity=4 * KIB)
            export_view(q, "monday")
            with Guests(s.uri("vda"), rng, model, paced=True) as guests:
                guests.allow(60)
                guests.wait_writes(10)
                backup_view(s, "monday", backup)
                guests.rest()
            assert_same(content(backup), model, "the full backup")
            drop_view(q, "monday")

            # The guest rests, and we know what it wrote.
            for g in guests.guests:
                for offset, data in g.log:
                    model[offset:offset + len(data)] = data
            freeze(q, "vda", "tuesday", new="since-tuesday", old="since-monday")
            export_view(q, "tuesday", "vda", "since-monday")
            h = s.nbd("tuesday", [dirty_context("since-monday"), "base:allocation"])
            with Guests(s.uri("vda"), rng, model) as guests:
                guests.wait_writes(30)
                changed = dirty_extents(h, "since-monday")
                guests.wait_writes(30)
                pulled = pull(h, changed, backup)
                guests.wait_writes(30)
                assert changed == dirty_extents(h, "since-monday"), "a frozen bitmap moved"
            assert_same(content(backup), model, "full plus changes")
            assert 0 < pulled < SIZE * 3 // 4, pulled
            assert content(f"{d}/disk") != bytes(model), "the guest has written nothing meanwhile"


@test
def only_what_changed_is_pulled():
    with file_server(SIZE, [(0, SIZE)]) as (s, d, model):
        q = s.qmp()
        freeze(q, "vda", "monday", new="b")
        export_view(q, "monday")
        backup_view(s, "monday", f"{d}/backup")
        h = s.nbd("vda")
        for offset, length in (0, 1), (MIB - 1, 2), (5 * MIB, 64 * KIB), (SIZE - 1, 1):
            h.pwrite(b"x" * length, offset)
            model[offset:offset + length] = b"x" * length
        freeze(q, "vda", "tuesday", old="b")
        export_view(q, "tuesday", "vda", "b")
        h = s.nbd("tuesday", [dirty_context("b")])
        changed = dirty_extents(h, "b")
        assert changed == [(0, 64 * KIB), (MIB - 64 * KIB, 128 * KIB), (5 * MIB, 64 * KIB),
                           (SIZE - 64 * KIB, 64 * KIB)], changed
        pull(h, changed, f"{d}/backup")
        assert_same(content(f"{d}/backup"), model)


@test
def instants_in_the_middle_of_a_storm():
    rng = random.Random(seed())
    with file_server(SIZE, [(0, SIZE // 2)], rng) as (s, d, model):
        q = s.qmp()
        with Guests(s.uri("vda"), rng, model, count=4, paced=True) as guests:
            previous, spans = None, []
            for day in range(12):
                guests.allow(20)
                guests.wait_writes(5)
                answered = guests.answered()
                freeze(q, "vda", f"day{day}", new=f"b{day}", old=previous,
                       granularity=4 * KIB)
                begun = guests.begun()
                spans.append((answered, begun))
                export_view(q, f"day{day}", "vda" if previous else None, previous)
                if previous is None:
                    backup_view(s, "day0", f"{d}/backup")
                else:
                    # A backup every day of the day before's plus what the bitmap says.
                    h = s.nbd(f"day{day}", [dirty_context(previous)])
                    changed = dirty_extents(h, previous)
                    assert sum(n for _, n in changed) < SIZE * 3 // 4, changed
                    guests.allow(5)
                    pull(h, changed, f"{d}/backup")
                    backup_view(s, f"day{day}", f"{d}/full")
                    assert_same(content(f"{d}/backup"), content(f"{d}/full"), f"day {day}")
                    h.shutdown()
                guests.rest()
                with open(f"{d}/day{day}", "wb") as f:
                    f.write(content(f"{d}/backup"))
                drop_view(q, f"day{day}")
                previous = f"b{day}"
        for day, (answered, begun) in enumerate(spans):
            guests.check(content(f"{d}/day{day}"), answered, begun)
        note(f"{sum(guests.answered())} writes")


@test
def several_views_are_kept_at_once():
    rng = random.Random(seed())
    with file_server(SIZE, [(0, SIZE // 2)], rng) as (s, d, model):
        q = s.qmp()
        with Guests(s.uri("vda"), rng, model) as guests:
            spans = []
            for day in range(4):
                answered = guests.answered()
                freeze(q, "vda", f"day{day}")
                spans.append((answered, guests.begun()))
                export_view(q, f"day{day}")
                guests.wait_writes(40)
            # The second is deleted before anybody reads it; the others are read in another order.
            drop_view(q, "day1")
            for day in 3, 0, 2:
                backup_view(s, f"day{day}", f"{d}/day{day}")
                guests.wait_writes(10)
                drop_view(q, f"day{day}")
        for day in 0, 2, 3:
            guests.check(content(f"{d}/day{day}"), *spans[day])
        assert q.cmd("query-views") == []


@test
def views_made_and_deleted_in_any_order_under_load():
    """Up to five views at a time; each is read twice, by different clients, and must be the disk at
    its instant. Some clients are cut off in the middle of a copy."""
    rng = random.Random(seed())
    with file_server(SIZE, [(0, SIZE // 2)], rng) as (s, d, model):
        q = s.qmp()
        spans, alive, copies = {}, [], {}
        with Guests(s.uri("vda"), rng, model, count=3) as guests:
            for step in range(30):
                guests.wait_writes(3)
                if len(alive) < 5 and (not alive or rng.randrange(2)):
                    name = f"v{step}"
                    answered = guests.answered()
                    freeze(q, "vda", name)
                    spans[name] = (answered, guests.begun())
                    export_view(q, name)
                    alive.append(name)
                    continue
                name = alive.pop(rng.randrange(len(alive)))
                copies[name] = bytes(s.nbd(name).pread(SIZE, 0))
                cut = s.nbd(name)
                cut.aio_pread(nbd.Buffer(SIZE), 0, completion=lambda error: 1)
                backup_view(s, name, f"{d}/copy")
                assert_same(content(f"{d}/copy"), copies[name], f"{name}, read again")
                drop_view(q, name)
        for name, span in spans.items():
            if name in copies:
                guests.check(copies[name], *span)
        note(f"{len(copies)} views, {sum(guests.answered())} writes")


@test
def one_instant_of_two_disks():
    """A guest writes a number to vda, then the same to vdb, then the next: at an instant vda may be
    one ahead of vdb, never more, never behind."""
    with Server("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "1M") as s:
        q = s.qmp()
        ending = threading.Event()
        begun = threading.Event()
        failures = []

        def count():
            try:
                a, b = s.nbd("vda"), s.nbd("vdb")
                n = 0
                while not ending.is_set():
                    n += 1
                    a.pwrite(n.to_bytes(8, "little"), 0)
                    b.pwrite(n.to_bytes(8, "little"), 0)
                    begun.set()
            except Exception as error:
                failures.append(error)
                begun.set()

        thread = threading.Thread(target=count)
        thread.start()
        try:
            assert begun.wait(SOON)
            seen = []
            for i in range(40):
                q.transaction(("view-create", {"disk": "vda", "name": "a"}),
                              ("view-create", {"disk": "vdb", "name": "b"}))
                export_view(q, "a")
                export_view(q, "b")
                a = int.from_bytes(s.nbd("a").pread(8, 0), "little")
                b = int.from_bytes(s.nbd("b").pread(8, 0), "little")
                assert a - b in (0, 1), (a, b)
                seen.append(a)
                drop_view(q, "a")
                drop_view(q, "b")
        finally:
            ending.set()
            thread.join(SOON)
        assert not failures, failures
        assert seen == sorted(seen) and seen[-1] > seen[0], seen


@test
def a_differential_backup_by_merged_bitmaps():
    rng = random.Random(seed())
    with file_server(SIZE, [(0, SIZE)], rng) as (s, d, model):
        q = s.qmp()
        freeze(q, "vda", "monday", new="b0", granularity=4 * KIB)
        export_view(q, "monday")
        backup_view(s, "monday", f"{d}/backup")
        with Guests(s.uri("vda"), rng, model, paced=True) as guests:
            guests.allow(30)
            guests.wait_writes(10)
            q.transaction(("block-dirty-bitmap-add",
                           {"node": "vda", "name": "b1", "granularity": 4 * KIB}),
                          ("block-dirty-bitmap-disable", {"node": "vda", "name": "b0"}))
            guests.allow(30)
            guests.wait_writes(30)
            # All since Monday: one transaction makes the union and freezes it with the view.
            q.transaction(
                ("block-dirty-bitmap-disable", {"node": "vda", "name": "b1"}),
                ("block-dirty-bitmap-add",
                 {"node": "vda", "name": "all", "disabled": True, "granularity": 4 * KIB}),
                ("block-dirty-bitmap-merge",
                 {"node": "vda", "target": "all", "bitmaps": ["b0", "b1"]}),
                ("view-create", {"disk": "vda", "name": "wednesday"}))
            guests.allow(30)
            guests.wait_writes(10)
            export_view(q, "wednesday", "vda", "all")
            h = s.nbd("wednesday", [dirty_context("all")])
            pull(h, dirty_extents(h, "all"), f"{d}/backup")
            backup_view(s, "wednesday", f"{d}/full")
        assert_same(content(f"{d}/backup"), content(f"{d}/full"))


@test
def a_failed_transaction_leaves_nothing():
    with Server("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "1M") as s:
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vda", name="b")
        before = q.cmd("query-block")
        try:
            q.transaction(("view-create", {"disk": "vda", "name": "v"}),
                          ("block-dirty-bitmap-add", {"node": "vda", "name": "c"}),
                          ("block-dirty-bitmap-disable", {"node": "vda", "name": "b"}),
                          ("block-dirty-bitmap-disable", {"node": "vdb", "name": "none"}))
            raise AssertionError("it went through")
        except QmpError as error:
            assert error.desc == "Dirty bitmap 'none' not found", error
        assert q.cmd("query-block") == before
        assert q.cmd("query-views") == []


@test
def a_full_scratch_breaks_the_view_and_not_the_guest():
    rng = random.Random(seed())
    with file_server(SIZE, [(0, SIZE)], rng) as (s, d, model):
        q = s.qmp()
        q.cmd("view-create", disk="vda", name="v", **{"scratch-limit": MIB})
        export_view(q, "v")
        view = s.nbd("v")
        assert_same(view.pread(4096, 0), model[:4096])
        h = s.nbd("vda")
        for offset in range(0, SIZE, 64 * KIB):
            h.pwrite(b"x" * 64 * KIB, offset)
        event = q.wait_event("VIEW_BROKEN")
        assert (event["data"]["name"], event["data"]["disk"]) == ("v", "vda"), event
        try:
            view.pread(4096, 0)
            raise AssertionError("a broken view was read")
        except nbd.Error as error:
            assert error.errno == "EIO", error
        assert_same(h.pread(SIZE, 0), b"x" * SIZE, "the live disk")
        assert run("nbdcopy", s.uri("v"), f"{d}/out", check=False).returncode != 0


def view_of(q, name):
    return next(v for v in q.cmd("query-views") if v["name"] == name)


@test
def what_a_reader_has_trimmed_is_kept_no_longer():
    """As Proxmox's backup providers do: read a piece, then trim it, and its old data is dropped;
    an older view has it all the same."""
    rng = random.Random(seed())
    with file_server(SIZE, [(0, SIZE)], rng) as (s, _, model):
        q = s.qmp()
        freeze(q, "vda", "older")
        export_view(q, "older")
        freeze(q, "vda", "v")
        q.cmd("block-export-add", type="nbd", id="v", name="v", discard=True,
              **{"node-name": "v"})
        guest, view = s.nbd("vda"), s.nbd("v")
        assert view.can_trim()
        guest.pwrite(b"x" * 2 * MIB, 0)
        assert view_of(q, "v")["scratch-bytes"] == 2 * MIB, q.cmd("query-views")
        copy = bytearray(SIZE)
        for offset in range(0, SIZE, MIB):
            copy[offset:offset + MIB] = view.pread(MIB, offset)
            view.trim(MIB, offset)
            guest.pwrite(b"y" * 64 * KIB, rng.randrange(SIZE - 64 * KIB))
        assert_same(copy, model, "what was read")
        assert view_of(q, "v")["scratch-bytes"] == 0, q.cmd("query-views")
        guest.pwrite(b"z" * SIZE, 0)
        assert view_of(q, "v")["scratch-bytes"] == 0, q.cmd("query-views")
        assert_same(s.nbd("older").pread(SIZE, 0), model, "the older view")
        assert view_of(q, "older")["scratch-bytes"] == SIZE, q.cmd("query-views")


@test
def a_disk_that_grows_between_two_backups():
    rng = random.Random(seed())
    with file_server(SIZE, [(0, SIZE // 2)], rng) as (s, d, model):
        q = s.qmp()
        freeze(q, "vda", "monday", new="b")
        export_view(q, "monday")
        backup_view(s, "monday", f"{d}/backup")
        h = s.nbd("vda")
        h.pwrite(b"x" * 512, MIB)
        h.shutdown()
        q.cmd("block_resize", size=SIZE + 3 * MIB, **{"node-name": "vda"})
        h = s.nbd("vda")
        assert h.get_size() == SIZE + 3 * MIB
        h.pwrite(b"y" * 512, SIZE + 2 * MIB)
        model[MIB:MIB + 512] = b"x" * 512
        model += bytes(3 * MIB)
        model[SIZE + 2 * MIB:SIZE + 2 * MIB + 512] = b"y" * 512
        freeze(q, "vda", "tuesday", old="b")
        export_view(q, "tuesday", "vda", "b")
        h.zero(SIZE, 0)
        view = s.nbd("tuesday", [dirty_context("b")])
        assert view.get_size() == SIZE + 3 * MIB
        changed = dirty_extents(view, "b")
        assert changed == [(MIB, 64 * KIB), (SIZE, 3 * MIB)], changed
        pull(view, changed, f"{d}/backup")
        assert_same(content(f"{d}/backup"), model)
        # The older view is of the size that the disk had.
        older = s.nbd("monday")
        assert older.get_size() == SIZE
        assert older.pread(512, MIB) != b"x" * 512


def holes(h):
    """Where the export has holes, whatever else it says."""
    found = []
    for offset, length, flags in extents(h, "base:allocation", request=3 * MIB):
        if flags & HOLE:
            if found and sum(found[-1]) == offset:
                offset, length = found[-1][0], found[-1][1] + length
                found.pop()
            found.append((offset, length))
    return found


@test
def the_maps_of_a_view_stand_still():
    """Its bitmap stands still exactly, and so do its holes. That an allocated block is zero is found
    out only when it is kept. (The disk is a file: nbdkit's memory plugin fills a hole in larger units
    than a view keeps, and the rest of the unit is told as data from then on. That is safe, but not
    the same.)"""
    rng = random.Random(seed())
    with file_server(64 * MIB, [(MIB, MIB)], rng) as (s, _, _):
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=512)
        h = s.nbd("vda")
        for _ in range(1000):
            h.pwrite(b"x", rng.randrange(64 * MIB))
            h.trim(64 * KIB, rng.randrange(63 * MIB))
        freeze(q, "vda", "v", old="b")
        export_view(q, "v", "vda", "b")
        contexts = ["base:allocation", dirty_context("b")]
        first = s.nbd("v", contexts)
        dirty, was_hole = dirty_extents(first, "b"), holes(first)
        for _ in range(1000):
            h.pwrite(b"y", rng.randrange(64 * MIB))
            h.trim(64 * KIB, rng.randrange(63 * MIB))
        again = s.nbd("v", contexts)
        assert dirty_extents(again, "b") == dirty
        assert holes(again) == was_hole


main()
