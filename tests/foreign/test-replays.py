#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What well-known backup clients do, step by step, with a view and one frozen dirty bitmap. Each
client pulls the backup in its own way, and must end with the image as it was at the instant."""

import contextlib
import random

import nbd

import rawnbd
from fleece import Server, require_program, run, tmpdir
from rig import (DIRTY, GIB, HOLE, KIB, MIB, ZERO, activated, assert_same, content, dirty_context,
                 export_view, file_server, freeze, seed)
from tap import main, test

ALLOCATION = "base:allocation"
SIZE = 12 * MIB + 512
# What the clients ask for at a time.
NEARLY_4_GIB, IMAGEIO_STATUS, IMAGEIO_READ = (1 << 32) - 64 * KIB, GIB, 8 * MIB


class Backup:
    """A backup to be pulled. `copy` is the full copy of yesterday. Then the disk changed, and the
    bitmap `backup-vda` recorded that. Then the view `v` was made; `then` is the image at that
    instant. Later the guest wrote on."""

    def __init__(self, folder, server):
        rng = random.Random(seed())
        self.folder, self.server = folder, server
        self.copy = f"{folder}/copy"
        q = server.qmp()
        with open(self.copy, "wb") as f:
            f.write(content(f"{folder}/disk"))
        q.cmd("block-dirty-bitmap-add", node="vda", name="backup-vda", granularity=64 * KIB)
        h = server.nbd("vda")
        self._guest(h, rng, 12)
        self.then = bytearray(h.pread(SIZE, 0))
        freeze(q, "vda", "v", old="backup-vda")
        export_view(q, "v", "vda", "backup-vda")
        self._guest(h, rng, 40)
        h.shutdown()

    @staticmethod
    def _guest(h, rng, writes):
        for _ in range(writes):
            length = rng.choice([512, 4 * KIB, 100 * KIB])
            offset = rng.randrange(0, SIZE - length)
            kind = rng.randrange(5)
            if kind == 0:
                h.zero(length, offset)
            elif kind == 1:
                h.trim(length, offset)
            else:
                h.pwrite(rng.randbytes(length), offset)
        h.pwrite(b"the end", SIZE - 7)

    def apply(self, offset, data):
        with open(self.copy, "r+b") as f:
            f.seek(offset)
            f.write(data)

    def check(self):
        assert_same(content(self.copy), self.then, "the restored image")


@contextlib.contextmanager
def backup():
    with file_server(SIZE, [(0, 3 * MIB), (7 * MIB, 2 * MIB)]) as (s, d, _):
        yield Backup(d, s)


@test
def imageio():
    """oVirt imageio 2.x: STRUCTURED_REPLY, LIST of qemu:dirty-bitmap:, which must give one bitmap,
    SET of three contexts, GO without information requests. It merges the extents of both contexts,
    reads what is dirty, and takes zeroes where the allocation says zero."""
    with backup() as b, rawnbd.Client(b.server.socket) as c:
        c.structured()
        bitmaps = c.list_contexts("v", "qemu:dirty-bitmap:")
        assert bitmaps == [dirty_context("backup-vda")], bitmaps
        contexts = c.set_contexts("v", ALLOCATION, "qemu:allocation-depth", bitmaps[0])
        assert set(contexts) == {ALLOCATION, bitmaps[0]}
        c.go("v", infos=())
        assert c.size == SIZE and c.eflags & rawnbd.READ_ONLY

        offset, flags = 0, {}
        while offset < SIZE:
            status = c.block_status(offset, min(SIZE - offset, IMAGEIO_STATUS))
            covered = min(sum(n for n, _ in e) for e in status.values())
            for name, found in status.items():
                at = offset
                for n, bits in found:
                    flags.setdefault(name, []).append((at, n, bits))
                    at += n
            offset += covered
        zero = [(o, n) for o, n, bits in flags[ALLOCATION] if bits & ZERO]
        for start, length, bits in flags[bitmaps[0]]:
            if not bits & DIRTY:
                continue
            for at in range(start, start + length, IMAGEIO_READ):
                n = min(IMAGEIO_READ, start + length - at)
                data = c.read(at, n)
                for o, m in zero:  # imageio does not read these, it takes them for zeroes
                    a, e = max(o, at), min(o + m, at + n)
                    assert a >= e or data[a - at:e - at] == bytes(e - a)
                b.apply(at, data)
        b.check()


@test
def virtnbdbackup():
    """virtnbdbackup 2.x: libnbd, both contexts, status requests of nearly 4 GiB. The next request
    begins where the bitmap's extents end; those of the other context do not count."""
    with backup() as b:
        context = dirty_context("backup-vda")
        h = nbd.NBD()
        h.add_meta_context(ALLOCATION)
        h.add_meta_context(context)
        h.set_export_name("v")
        h.connect_uri(b.server.uri("v"))
        assert h.can_meta_context(context) and h.can_meta_context(ALLOCATION)
        largest = h.get_block_size(nbd.SIZE_MAXIMUM)
        entries = {ALLOCATION: [], context: []}

        def told(name, offset, found, error):
            entries[name] += zip(found[0::2], found[1::2])

        offset = 0
        while offset < h.get_size():
            h.block_status(min(NEARLY_4_GIB, h.get_size() - offset), offset, told)
            offset = sum(n for n, _ in entries[context])
        assert offset == SIZE == sum(n for n, _ in entries[ALLOCATION])
        offset = 0
        for length, bits in entries[context]:
            if bits & DIRTY:
                for at in range(offset, offset + length, largest):
                    b.apply(at, h.pread(min(largest, offset + length - at), at))
            offset += length
        h.shutdown()
        b.check()


def interop_dirty_bitmap(uri):
    """libnbd's interop/dirty-bitmap: a client selects two contexts. Returns what each of them says
    to a request without flags, and to one with REQ_ONE."""
    h = nbd.NBD()
    h.add_meta_context(ALLOCATION)
    h.add_meta_context(dirty_context("bitmap0"))
    h.connect_uri(uri)
    assert h.get_size() == MIB and h.can_meta_context(dirty_context("bitmap0"))
    answers = []
    for flags in 0, nbd.CMD_FLAG_REQ_ONE:
        found = {}
        h.block_status(MIB, 0, lambda name, offset, entries, error: found.setdefault(
            name, [(offset, *entries)]) and 0, flags)
        answers.append(found)
    # An error of the callback becomes the request's error, and the connection goes on.
    try:
        def fails(name, offset, entries, error):
            error.value = 71  # EPROTO
            return -1
        h.block_status(MIB, 0, fails)
        raise AssertionError("the callback's error got lost")
    except nbd.Error as e:
        assert e.errno == "EPROTO", e
    assert h.pread(1, 0) == b"\0"
    h.shutdown()
    return answers


@test
def libnbd_dirty_bitmap():
    """1 MiB of which 64 KiB at 64 KiB and at 512 KiB are dirty; qemu-nbd says the same."""
    for program in "qemu-img", "qemu-io", "qemu-nbd":
        require_program(program)
    writes = ["-c", "write -P 1 64k 64k", "-c", "write -z 512k 64k"]
    with tmpdir() as d, Server("--disk", "vda", "memory", "1M") as s:
        s.qmp().cmd("block-dirty-bitmap-add", node="vda", name="bitmap0", granularity=64 * KIB)
        run("qemu-io", "-f", "raw", *writes, s.uri("vda"))
        whole, one = interop_dirty_bitmap(s.uri("vda"))
        assert whole == {
            ALLOCATION: [(0, 64 * KIB, HOLE | ZERO, 64 * KIB, 0, 896 * KIB, HOLE | ZERO)],
            dirty_context("bitmap0"): [(0, 64 * KIB, 0, 64 * KIB, DIRTY, 384 * KIB, 0,
                                        64 * KIB, DIRTY, 448 * KIB, 0)]}, whole
        assert one == {ALLOCATION: [(0, 64 * KIB, HOLE | ZERO)],
                       dirty_context("bitmap0"): [(0, 64 * KIB, 0)]}, one

        run("qemu-img", "create", "-q", "-f", "qcow2", f"{d}/q", "1M")
        run("qemu-img", "bitmap", "--add", "-g", "64k", f"{d}/q", "bitmap0")
        run("qemu-io", "-f", "qcow2", *writes, f"{d}/q")
        with activated(f"{d}/s", "qemu-nbd", "-t", "-f", "qcow2", "-B", "bitmap0", f"{d}/q"):
            theirs, theirs_one = interop_dirty_bitmap(f"nbd+unix:///?socket={d}/s")
        context = dirty_context("bitmap0")
        assert (whole[context], one[context]) == (theirs[context], theirs_one[context])


main()
