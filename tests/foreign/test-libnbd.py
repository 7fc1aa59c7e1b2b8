# SPDX-License-Identifier: BSD-3-Clause
"""libnbd's Python bindings: every command and flag, replies out of order, and requests that are
refused.

libnbd checks requests itself before it sends them. Its strict mode is off where a test wants the
server's answer."""

import errno
import os
import random

import nbd

from fleece import Server, require_plugin, tmpdir
from rig import (DIRTY, HOLE, KIB, MIB, ZERO, assert_same, content, dirty_context, dirty_extents,
                 export_view, extents, file_server, freeze, seed)
from tap import main, note, test


def loose(h):
    """Let libnbd send requests that it would refuse."""
    h.set_strict_mode(0)


def refused(expected, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except nbd.Error as error:
        assert error.errno == errno.errorcode[expected], (error.errno, errno.errorcode[expected])
        return
    raise AssertionError(f"{call.__name__} went through, {errno.errorcode[expected]} expected")


def drain(h):
    while h.aio_in_flight():
        h.poll(-1)


@test
def every_command_with_structured_replies():
    with Server("--disk", "vda", "memory", "8M") as s:
        h = s.nbd("vda", ["base:allocation"])
        assert h.get_structured_replies_negotiated()
        every_command(h)
        last = extents(h, "base:allocation")[-1]
        assert last[0] + last[1] == 8 * MIB and last[2] == HOLE | ZERO, last


@test
def every_command_with_simple_replies():
    with Server("--disk", "vda", "memory", "8M") as s:
        h = s.nbd("vda", setup=lambda h: h.set_request_structured_replies(False))
        assert not h.get_structured_replies_negotiated()
        every_command(h)


def every_command(h):
    h.pwrite(b"a" * 4096, 0)
    h.pwrite(b"b" * 4096, 4096, nbd.CMD_FLAG_FUA)
    assert h.pread(8192, 0) == b"a" * 4096 + b"b" * 4096
    assert h.pread(1, 4095) == b"a" and h.pread(1, 4096) == b"b"
    h.zero(2048, 0)
    h.zero(2048, 2048, nbd.CMD_FLAG_NO_HOLE)
    h.zero(4096, 4096, nbd.CMD_FLAG_FUA)
    assert h.pread(8192, 0) == b"\0" * 8192
    h.pwrite(b"c" * MIB, MIB)
    h.trim(MIB, MIB)
    h.trim(512, 7, nbd.CMD_FLAG_FUA)
    h.cache(MIB, 0)
    h.flush()
    assert h.pread(MIB, MIB) == b"\0" * MIB


@test
def the_flags_of_a_live_disk():
    with Server("--disk", "vda", "memory", "1M") as s:
        h = s.nbd("vda")
        for flag in "can_flush", "can_fua", "can_trim", "can_zero", "can_df", "can_multi_conn", \
                    "can_cache":
            assert getattr(h, flag)(), flag
        assert not h.is_read_only()
        assert h.get_protocol() == "newstyle-fixed"
        assert not h.get_tls_negotiated()


@test
def fast_zeroes_are_fast_or_refused():
    with file_server(MIB, [(0, MIB)]) as (s, _, model):
        h = s.nbd("vda")
        assert h.can_fast_zero()
        for flags in nbd.CMD_FLAG_FAST_ZERO, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE:
            try:
                h.zero(4096, 8192, flags)
                model[8192:12288] = bytes(4096)
            except nbd.Error as error:
                assert error.errno == "ENOTSUP", error
            assert_same(h.pread(MIB, 0), model)


@test
def replies_out_of_order():
    """A slow request does not hold up the requests behind it."""
    require_plugin("eval")
    with tmpdir() as d:
        # A read of the first sector waits, in the plugin, until somebody writes to the FIFO.
        os.mkfifo(f"{d}/go")
        with Server("eval", "get_size=echo 1M", "thread_model=echo parallel",
                    f"pread=if [ $4 = 0 ]; then cat {d}/go >/dev/null; fi; "
                    "dd if=/dev/zero bs=$3 count=1 2>/dev/null") as s:
            h = s.nbd()
            order = []
            slow = h.aio_pread(nbd.Buffer(512), 0, completion=lambda e: order.append("slow") or 1)
            assert slow
            for i in range(1, 5):
                h.aio_pread(nbd.Buffer(512), i * 512,
                            completion=lambda e, i=i: order.append(i) or 1)
            while len(order) < 4:
                h.poll(-1)
            assert sorted(order) == [1, 2, 3, 4], order
            with open(f"{d}/go", "w") as go:
                go.write("go")
            drain(h)
            assert order[4] == "slow", order


@test
def a_hundred_requests_in_flight():
    rng = random.Random(seed())
    with Server("--disk", "vda", "memory", "16M") as s:
        h = s.nbd("vda")
        model = bytearray(16 * MIB)
        done = []
        for i in range(2000):
            # Each request has a slice of its own, so that their order does not matter.
            offset = i * 8 * KIB
            length = rng.randrange(1, 8 * KIB)
            data = rng.randbytes(length)
            model[offset:offset + length] = data
            h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), offset,
                         completion=lambda e: done.append(e.value if hasattr(e, "value") else e)
                         or 1)
            while h.aio_in_flight() >= 100:
                h.poll(-1)
        drain(h)
        assert len(done) == 2000 and not any(done)
        buffers = []
        for offset in range(0, 16 * MIB, 64 * KIB):
            buffers.append(nbd.Buffer(64 * KIB))
            h.aio_pread(buffers[-1], offset, completion=lambda e: 1)
            while h.aio_in_flight() >= 100:
                h.poll(-1)
        drain(h)
        assert_same(b"".join(bytes(b.to_bytearray()) for b in buffers), model)


@test
def what_one_connection_wrote_the_others_read():
    with Server("--disk", "vda", "memory", "1M") as s:
        handles = [s.nbd("vda") for _ in range(8)]
        for i, h in enumerate(handles):
            h.pwrite(bytes([i]) * 512, 512 * i)
        handles[0].flush()
        expected = b"".join(bytes([i]) * 512 for i in range(8))
        for h in handles:
            assert h.pread(8 * 512, 0) == expected


@test
def structured_reads_chunk_by_chunk():
    with file_server(MIB, [(64 * KIB, 64 * KIB)]) as (s, _, model):
        h = s.nbd("vda")
        for flags in 0, nbd.CMD_FLAG_DF:
            chunks, covered = [], bytearray(MIB)

            def chunk(data, offset, status, error):
                chunks.append((offset, len(data), status))
                covered[offset:offset + len(data)] = b"\1" * len(data)

            got = h.pread_structured(MIB, 0, chunk, flags)
            assert_same(got, model)
            assert bytes(covered) == b"\1" * MIB, "not all was covered"
            assert sum(n for _, n, _ in chunks) == MIB, chunks
            if flags:
                assert chunks == [(0, MIB, nbd.READ_DATA)], chunks


@test
def block_status_of_all_contexts():
    with file_server(MIB, [(256 * KIB, 64 * KIB)]) as (s, _, _):
        q = s.qmp()
        for name in "a", "b":
            q.cmd("block-dirty-bitmap-add", node="vda", name=name, granularity=64 * KIB)
        q.cmd("block-dirty-bitmap-disable", node="vda", name="b")
        contexts = ["base:allocation", dirty_context("a"), dirty_context("b")]
        h = s.nbd("vda", contexts)
        for context in contexts:
            assert h.can_meta_context(context), context
        assert not h.can_meta_context(dirty_context("c"))
        h.pwrite(b"x", 0)
        seen = {}

        def tell(context, offset, entries, error):
            assert offset == 0
            seen[context] = entries

        h.block_status(MIB, 0, tell)
        assert list(sorted(seen)) == sorted(contexts), seen
        totals = {sum(entries[0::2]) for entries in seen.values()}
        assert len(totals) == 1 and totals.pop() <= MIB, seen  # all cover the same
        assert set(seen[dirty_context("a")][1::2]) <= {0, DIRTY}
        assert dirty_extents(h, "a") == [(0, 64 * KIB)] and dirty_extents(h, "b") == []


@test
def block_status_of_one_extent():
    with Server("--disk", "vda", "memory", "1M") as s:
        s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=4 * KIB)
        h = s.nbd("vda", ["base:allocation", dirty_context("b")])
        for offset in range(0, MIB, 128 * KIB):
            h.pwrite(b"x" * 4096, offset)
        for length in 1 * MIB, 4096, 100:
            seen = {}

            def tell(context, offset, entries, error):
                seen[context] = entries

            h.block_status(length, 0, tell, nbd.CMD_FLAG_REQ_ONE)
            assert all(len(e) == 2 and e[0] <= length for e in seen.values()), seen
            assert len({entries[0] for entries in seen.values()}) == 1, seen


@test
def contexts_are_listed():
    with Server("--disk", "vda", "memory", "1M") as s:
        q = s.qmp()
        q.cmd("block-dirty-bitmap-add", node="vda", name="one")
        q.cmd("block-dirty-bitmap-add", node="vda", name="two")

        def listing(*queries):
            h = nbd.NBD()
            h.set_opt_mode(True)
            h.set_export_name("vda")
            h.connect_unix(s.socket)
            for query in queries:
                h.add_meta_context(query)
            found = []
            h.opt_list_meta_context(found.append)
            h.opt_abort()
            return found

        assert listing() == ["base:allocation", dirty_context("one"), dirty_context("two")]
        assert listing("qemu:dirty-bitmap:") == [dirty_context("one"), dirty_context("two")]
        assert listing("base:") == ["base:allocation"]
        assert listing("base:nope", "x:y", dirty_context("three")) == []


@test
def options_then_go():
    with Server("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "2M") as s:
        h = nbd.NBD()
        h.set_opt_mode(True)
        h.connect_unix(s.socket)
        found = []
        assert h.opt_list(lambda name, description: found.append(name)) == 2
        assert found == ["vda", "vdb"]
        for name, size in ("vda", MIB), ("vdb", 2 * MIB):
            h.set_export_name(name)
            h.opt_info()
            assert h.get_size() == size
        h.set_export_name("nobody")
        refused(errno.ENOENT, h.opt_info)
        h.set_export_name("vda")
        h.opt_go()
        assert h.get_size() == MIB and h.pread(1, 0) == b"\0"


@test
def ranges_that_are_refused():
    with Server("--disk", "vda", "memory", "1M") as s:
        h = s.nbd("vda", ["base:allocation"], setup=loose)
        refused(errno.EINVAL, h.pread, 512, MIB)
        refused(errno.EINVAL, h.pread, 2, MIB - 1)
        refused(errno.EINVAL, h.trim, 512, MIB)
        refused(errno.EINVAL, h.cache, 512, MIB)
        refused(errno.EINVAL, h.block_status, 512, MIB, lambda *_: 0)
        refused(errno.ENOSPC, h.pwrite, b"x" * 512, MIB)
        refused(errno.ENOSPC, h.pwrite, b"xx", MIB - 1)
        refused(errno.ENOSPC, h.pwrite, bytes(8 * MIB), 0)
        refused(errno.ENOSPC, h.zero, 2, MIB - 1)
        refused(errno.EINVAL, h.pread, 512, (1 << 63) - 512)
        assert h.pread(MIB, 0) == bytes(MIB)  # the stream is in step, and nothing was changed


@test
def flags_that_are_refused():
    with Server("--disk", "vda", "memory", "1M") as s:
        h = s.nbd("vda", ["base:allocation"], setup=loose)
        refused(errno.EINVAL, h.pread, 512, 0, nbd.CMD_FLAG_REQ_ONE)
        refused(errno.EINVAL, h.pwrite, b"x" * 512, 0, nbd.CMD_FLAG_NO_HOLE)
        refused(errno.EINVAL, h.trim, 512, 0, nbd.CMD_FLAG_FAST_ZERO)
        refused(errno.EINVAL, h.zero, 512, 0, 1 << 14)
        assert h.pread(MIB, 0) == bytes(MIB)


@test
def writes_to_what_is_read_only_are_refused():
    """Also large writes: the answer must not come while libnbd is still sending."""
    with Server("--disk", "vda", "memory", "1M") as s:
        q = s.qmp()
        freeze(q, "vda", "v")
        export_view(q, "v")
        h = s.nbd("v", setup=loose)
        assert h.is_read_only()
        refused(errno.EPERM, h.pwrite, b"x" * 512, 0)
        for length in 64 * KIB, MIB, 32 * MIB:
            refused(errno.EPERM, h.pwrite, b"x" * length, 0)
        refused(errno.EPERM, h.zero, 512, 0)
        refused(errno.EPERM, h.trim, 512, 0)
        h.flush()
        assert h.pread(MIB, 0) == bytes(MIB)


@test
def requests_of_length_0_do_not_end_the_connection():
    with Server("--disk", "vda", "memory", "1M") as s:
        h = s.nbd("vda", ["base:allocation"], setup=loose)
        for call in (lambda: h.pread(0, 0), lambda: h.pwrite(b"", 0), lambda: h.zero(0, 0),
                     lambda: h.trim(0, 0), lambda: h.cache(0, 0),
                     lambda: h.block_status(0, 0, lambda *_: 0)):
            try:
                call()
            except nbd.Error as error:
                assert error.errno == "EINVAL", error
            assert h.aio_is_ready(), "the server has hung up"
        assert h.pread(512, 0) == bytes(512)


@test
def block_status_without_contexts_is_refused():
    with Server("--disk", "vda", "memory", "1M") as s:
        h = s.nbd("vda", setup=loose)
        try:
            h.block_status(512, 0, lambda *_: 0)
            raise AssertionError("it went through")
        except nbd.Error as error:
            assert error.errno in ("EINVAL", "ENOTSUP"), error
        assert h.pread(512, 0) == bytes(512)


@test
def the_largest_requests():
    with Server("--disk", "vda", "memory", "64M") as s:
        h = s.nbd("vda")
        data = random.Random(1).randbytes(MIB) * 32
        h.pwrite(data, 5)
        assert_same(h.pread(32 * MIB, 5), data)
        h.zero(64 * MIB, 0)
        h.trim(64 * MIB, 0)
        h.cache(64 * MIB, 0)
        assert h.pread(MIB, 31 * MIB) == bytes(MIB)


@test
def a_bitmap_records_changes_whatever_their_flags():
    with Server("--disk", "vda", "memory", "8M") as s:
        s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="b", granularity=512)
        h = s.nbd("vda", [dirty_context("b")])
        h.pwrite(b"x" * 512, 0, nbd.CMD_FLAG_FUA)
        h.pwrite(b"x" * 512, MIB)
        h.zero(512, 2 * MIB, nbd.CMD_FLAG_NO_HOLE)
        h.zero(512, 3 * MIB, nbd.CMD_FLAG_FUA)
        h.trim(512, 4 * MIB)
        h.trim(512, 5 * MIB, nbd.CMD_FLAG_FUA)
        h.cache(512, 6 * MIB)
        h.pread(512, 7 * MIB)
        h.flush()
        assert dirty_extents(h, "b") == [(i * MIB, 512) for i in range(6)]


@test
def disconnecting_with_requests_in_flight():
    """Requests that were sent before DISC are carried out."""
    with file_server(8 * MIB) as (s, d, _):
        h = s.nbd("vda")
        for i in range(64):
            h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i + 1]) * 4096), i * 4096,
                         completion=lambda e: 1)
        h.aio_disconnect()
        drain(h)
        while not h.aio_is_closed() and not h.aio_is_dead():
            h.poll(-1)
        assert_same(content(f"{d}/disk")[:64 * 4096],
                    b"".join(bytes([i + 1]) * 4096 for i in range(64)))


@test
def many_clients_come_and_go():
    with Server("--disk", "vda", "memory", "1M") as s:
        for i in range(200):
            h = s.nbd("vda")
            h.pwrite(bytes([i]), i)
            if i % 3 == 0:
                h.shutdown()
            del h  # two of three hang up without DISC
        assert s.nbd("vda").pread(200, 0) == bytes(range(200))


@test
def a_client_that_reads_no_replies_does_not_hold_up_the_end():
    """The client sends requests and reads nothing. The server ends in order all the same."""
    with Server("--disk", "vda", "memory", "16M") as s:
        h = s.nbd("vda")
        for i in range(64):
            h.aio_pread(nbd.Buffer(256 * KIB), i * 256 * KIB, completion=lambda e: 1)
        note(f"{h.aio_in_flight()} requests in flight")
        s.stop()


main()
