# SPDX-License-Identifier: BSD-3-Clause
"""`fleecectl pull` from NBD servers of other projects, with every way that they have of serving a
disk: all that comes is compared byte for byte."""

import os
import subprocess

import fleece
from fleece import die_with_parent, require_program, run, tmpdir, uri, wait_file
from others import Daemon, nbdkit, qcow2, qemu_nbd, write_some, writer
from pulls import KIB, MIB, assert_equal, contents, pull, pull_json, read_all, refused, seeded
from rig import activated
from tap import main, test

SIZE = 24 * MIB


def sparse(path, rng, size=SIZE):
    """A raw image with data, zeroes and holes. Its bytes."""
    with open(path, "wb") as f:
        f.truncate(size)
        for at in range(0, size - MIB, MIB):
            kind = rng.randrange(3)
            if kind:
                f.seek(at + rng.randrange(16) * 4 * KIB)
                f.write(rng.randbytes(300 * KIB) if kind == 1 else bytes(300 * KIB))
    with open(path, "rb") as f:
        return f.read()


def as_pulled(where, *options):
    """What pull makes of an export, and its summary."""
    with tmpdir() as folder:
        summary = pull_json(where, "-o", f"{folder}/out", *options)
        return contents(f"{folder}/out"), summary


def qemu_io(image, *commands, format="qcow2"):
    require_program("qemu-io")
    run("qemu-io", "-f", format, *(word for c in commands for word in ("-c", c)), image)


# ---- nbdkit ----


@test
def nbdkit_in_its_variants():
    rng = seeded()
    with tmpdir() as folder:
        data = sparse(f"{folder}/disk", rng, SIZE + 700)
        for words, zero in (
                ((), True), (("--filter=noextents",), False),
                (("--no-sr",), False), (("-o",), False), (("--mask-handshake=0",), False),
                (("--filter=noparallel", "serialize=requests"), True),
                (("--filter=multi-conn", "multi-conn-mode=disable"), True),
                (("--filter=cacheextents",), True)):
            options = [w for w in words if w.startswith("-")]
            keys = [w for w in words if not w.startswith("-")]
            with nbdkit(folder, *options, "-r", "file", f"{folder}/disk", *keys) as where:
                got, summary = as_pulled(where)
            assert_equal(got, data)
            # Where the server can tell, holes are not read.
            assert (summary["read"] < len(data)) == zero, (words, summary)


@test
def nbdkit_with_limits():
    rng = seeded()
    with tmpdir() as folder:
        data = sparse(f"{folder}/disk", rng)
        for least, most in (1, "64k"), (4096, "8k"), ("64k", "1M"):
            with nbdkit(folder, "--filter=blocksize-policy", "file", f"{folder}/disk",
                        f"blocksize-minimum={least}", f"blocksize-maximum={most}",
                        f"blocksize-preferred={max(4096, 65536 if least == '64k' else 0)}",
                        "blocksize-error-policy=error") as where:
                got, _ = as_pulled(where)
            assert_equal(got, data)


@test
def nbdkit_with_errors():
    with tmpdir() as folder:
        sparse(f"{folder}/disk", seeded())
        with nbdkit(folder, "--filter=error", "-r", "file", f"{folder}/disk",
                    "error-pread-rate=100%") as where:
            refused(where, "-o", f"{folder}/out", "--retry", "100", why="Input/output error")
        # Without extents all is read.
        with nbdkit(folder, "--filter=error", "-r", "file", f"{folder}/disk",
                    "error-extents-rate=100%", "error=EIO") as where:
            got, _ = as_pulled(where)
        with open(f"{folder}/disk", "rb") as f:
            assert_equal(got, f.read())


@test
def nbdkit_with_tls():
    with tmpdir() as folder:
        data = sparse(f"{folder}/disk", seeded())
        with open(f"{folder}/keys", "w", encoding="ascii") as f:
            f.write(f"alice:{'0123456789abcdef' * 4}\n")
        with nbdkit(folder, "--tls=require", f"--tls-psk={folder}/keys", "-r", "file",
                    f"{folder}/disk"):
            got, _ = as_pulled(f"nbds+unix://alice@/?socket={folder}/socket"
                               f"&tls-psk-file={folder}/keys")
        assert_equal(got, data)


@test
def a_disk_of_nbdkit_that_is_not_there_for_a_while():
    """nbdkit ends in the middle of a copy, and another one takes its place."""
    with tmpdir() as folder:
        data = sparse(f"{folder}/disk", seeded())
        command = ("nbdkit", "-f", "-U", f"{folder}/s", "-P")
        # It ends at the first read that comes to it.
        first = subprocess.Popen([*command, f"{folder}/p1", "eval", f"get_size=echo {SIZE}",
                                  "pread=kill -9 $PPID"], preexec_fn=die_with_parent)
        assert wait_file(first, f"{folder}/p1")
        copy = subprocess.Popen([fleece.FLEECECTL, "pull", "--retry", "100",
                                 uri(unix=f"{folder}/s"), "-o", f"{folder}/out"],
                                preexec_fn=die_with_parent)
        try:
            first.wait(60)
            os.unlink(f"{folder}/s")
            with activated(f"{folder}/s", "nbdkit", "-f", "file", f"{folder}/disk"):
                assert copy.wait(60) == 0
            assert_equal(contents(f"{folder}/out"), data)
        finally:
            for p in first, copy:
                p.kill()
                p.wait()


# ---- qemu-nbd ----


def chain(folder, rng):
    """A qcow2 image on another, and a bitmap of what has been written since. The disk as it was,
    and as it is."""
    require_program("qemu-img")
    base, top = f"{folder}/base.qcow2", f"{folder}/top.qcow2"
    run("qemu-img", "create", "-f", "qcow2", base, str(SIZE))
    qemu_io(base, *(f"write -P {rng.randrange(1, 256)} {rng.randrange(22 * 16) * 64}k "
                    f"{rng.randrange(1, 2048) * 512}" for _ in range(20)))
    run("qemu-img", "create", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    before = raw(top)
    run("qemu-img", "bitmap", "--add", "-g", "64k", top, "b0")
    run("qemu-img", "bitmap", "--add", "-g", "512", top, "fine")
    for _ in range(15):
        at, length = rng.randrange(23 * 128) * 8, rng.randrange(1, 1024) * 512
        qemu_io(top, rng.choice((f"write -P {rng.randrange(256)} {at}k {length}",
                                 f"write -z {at}k {length}", f"discard {at}k {length}")))
    return before, raw(top)


def raw(image):
    """The disk of a qcow2 image, which may have bitmaps."""
    with tmpdir() as folder:
        run("qemu-img", "convert", "-O", "raw", image, f"{folder}/raw")
        return contents(f"{folder}/raw")


@test
def qemu_nbd_with_bitmaps():
    rng = seeded()
    with tmpdir() as folder:
        before, after = chain(folder, rng)
        for words, bitmap in ((("-B", "b0"), "b0"), (("-B", "fine", "-e", "8"), "fine")):
            with qemu_nbd(folder, "-f", "qcow2", *words, f"{folder}/top.qcow2",
                          export="vda") as where:
                got, _ = as_pulled(where)
                assert_equal(got, after)
                with open(f"{folder}/copy", "wb") as f:
                    f.write(before)
                summary = pull_json(where, "--bitmap", bitmap, "-o", f"{folder}/copy")
                assert_equal(contents(f"{folder}/copy"), after)
                assert summary["read"] < SIZE, summary
                refused(where, "--bitmap", "other", "-o", f"{folder}/copy",
                        why="has no context qemu:dirty-bitmap:other")


@test
def qemu_nbd_without():
    rng = seeded()
    with tmpdir() as folder:
        _, after = chain(folder, rng)
        # One client only: there is no multi-conn, and another would not be let in.
        for words in ("-e", "1"), ("-e", "4"), ("-A",):
            with qemu_nbd(folder, "-f", "qcow2", *words, f"{folder}/top.qcow2") as where:
                got, _ = as_pulled(where)
            assert_equal(got, after)


# ---- qemu-storage-daemon: backups as libvirt makes them ----


@test
def a_pull_mode_backup_as_libvirt_makes_it():
    """A scratch image on the disk, a backup job with sync=none into it, and the scratch image and a
    merged bitmap are exported: the disk as it was."""
    rng = seeded()
    with tmpdir() as folder:
        for name in "disk", "scratch":
            run("qemu-img", "create", "-f", "qcow2", f"{folder}/{name}", str(SIZE))
        with Daemon(folder) as d:
            cmd = d.qmp.cmd
            cmd("blockdev-add", **qcow2("vda", f"{folder}/disk"))
            guest = writer(d.export("vda", "live", writable=True))
            write_some(guest, rng)
            before = read_all(guest)
            cmd("block-dirty-bitmap-add", node="vda", name="check", persistent=True)
            write_some(guest, rng)
            then = read_all(guest)
            cmd("block-dirty-bitmap-add", node="vda", name="tmp", disabled=True)
            cmd("block-dirty-bitmap-merge", node="vda", target="tmp", bitmaps=["check"])
            cmd("blockdev-add", **qcow2("scratch", f"{folder}/scratch", backing="vda"))
            cmd("blockdev-backup", device="vda", target="scratch", sync="none",
                **{"job-id": "fleece"})
            where = d.export("scratch", "backup", {"node": "vda", "name": "tmp"})
            write_some(guest, rng)
            got, _ = as_pulled(where)
            assert_equal(got, then)
            with open(f"{folder}/copy", "wb") as f:
                f.write(before)
            write_some(guest, rng)
            summary = pull_json(where, "--bitmap", "tmp", "-o", f"{folder}/copy")
            assert_equal(contents(f"{folder}/copy"), then)
            assert summary["read"] + summary["zero"] < SIZE, summary


@test
def a_fleecing_node_of_copy_before_write():
    """The same by a filter over the disk, and snapshot-access. Only what the bitmap has may be
    read there."""
    rng = seeded()
    with tmpdir() as folder:
        for name in "disk", "scratch":
            run("qemu-img", "create", "-f", "qcow2", f"{folder}/{name}", str(SIZE))
        with Daemon(folder) as d:
            cmd = d.qmp.cmd
            cmd("blockdev-add", **qcow2("vda", f"{folder}/disk"))
            guest = writer(d.export("vda", "live", writable=True))
            write_some(guest, rng)
            before = read_all(guest)
            cmd("block-dirty-bitmap-add", node="vda", name="b0")
            write_some(guest, rng)
            d.end_export("live", guest)
            cmd("block-dirty-bitmap-disable", node="vda", name="b0")
            cmd("blockdev-add", **qcow2("scratch", f"{folder}/scratch"))
            cmd("blockdev-add", driver="copy-before-write", file="vda", target="scratch",
                bitmap={"node": "vda", "name": "b0"}, **{"node-name": "cbw"})
            cmd("blockdev-add", driver="snapshot-access", file="cbw", **{"node-name": "access"})
            guest = writer(d.export("cbw", "live", writable=True))
            then = read_all(guest)
            where = d.export("access", "backup", {"node": "vda", "name": "b0"})
            with open(f"{folder}/copy", "wb") as f:
                f.write(before)
            # QEMU 7.2 gives what is there now, also to a plain read of any client, where the first part
            # of a read has been kept and the rest has not. So all is overwritten.
            for at in range(0, SIZE, MIB):
                guest.pwrite(rng.randbytes(MIB), at)
            pull(where, "--bitmap", "b0", "-o", f"{folder}/copy")
            assert_equal(contents(f"{folder}/copy"), then)


@test
def an_export_with_several_bitmaps():
    rng = seeded()
    with tmpdir() as folder:
        run("qemu-img", "create", "-f", "qcow2", f"{folder}/disk", str(SIZE))
        with Daemon(folder) as d:
            d.qmp.cmd("blockdev-add", **qcow2("vda", f"{folder}/disk"))
            guest = writer(d.export("vda", "live", writable=True))
            disks = []
            for i in range(3):
                write_some(guest, rng, 5)
                disks.append(read_all(guest))
                d.qmp.cmd("block-dirty-bitmap-add", node="vda", name=f"b{i}",
                          granularity=512 << (3 * i))
            write_some(guest, rng, 5)
            d.end_export("live", guest)
            for i in range(3):
                d.qmp.cmd("block-dirty-bitmap-disable", node="vda", name=f"b{i}")
            where = d.export("vda", "all", "b0", "b1", "b2")
            now = read_all(writer(where))
            for i, disk in enumerate(disks):
                with open(f"{folder}/copy", "wb") as f:
                    f.write(disk)
                pull(where, "--bitmap", f"b{i}", "-o", f"{folder}/copy")
                assert_equal(contents(f"{folder}/copy"), now)


main()
