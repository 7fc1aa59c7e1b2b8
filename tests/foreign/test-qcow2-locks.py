# SPDX-License-Identifier: BSD-3-Clause
"""QEMU's locks on a chain of images, both ways: who has an image open for writing has it alone, and
the files below are shared by those who only read them."""

import contextlib
import os

from fleece import nbdfleece, require_program, run, tmpdir
from others import Daemon, qcow2
from qcow2 import qemu_img, qemu_io, server
from rig import MIB
from tap import main, test


@contextlib.contextmanager
def chain():
    """A folder with `base`, `one` and `two`, overlays of it, and `raw`, which is raw, and `three` over it."""
    with tmpdir() as d:
        qemu_img("create", "-q", "-f", "qcow2", f"{d}/base", str(4 * MIB))
        qemu_io(f"{d}/base", "write -P 1 0 1M")
        qemu_img("create", "-q", "-f", "raw", f"{d}/raw", str(4 * MIB))
        for name, base, kind in ("one", "base", "qcow2"), ("two", "base", "qcow2"), ("three", "raw", "raw"):
            qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", kind, f"{d}/{name}", cwd=d)
        yield d


def qemu_opens(path, readonly, kind="qcow2"):
    """Does qemu-io get it?"""
    require_program("qemu-io")
    result = run("qemu-io", "-f", kind, *(["-r"] if readonly else []), "-c", "read 0 512", path, check=False,
                 cwd=os.path.dirname(path))
    text = result.stdout + result.stderr
    assert result.returncode == 0 or "lock" in text, text
    return result.returncode == 0


def we_open(*words):
    """Do we? If not, because somebody else has it."""
    result = nbdfleece("-U", "-", "--disk", "vda", "qcow2", *words, "--run", "true", check=False)
    assert result.returncode == 0 or "has this image open" in result.stderr, result.stderr
    return result.returncode == 0


@contextlib.contextmanager
def qemu_has(folder, path, readonly=False):
    """QEMU has the image open, with all that is below."""
    with Daemon(folder) as daemon:
        daemon.qmp.cmd("blockdev-add", **qcow2("n", path, **{"read-only": readonly}))
        if not readonly:  # a writer is who has the permission
            daemon.qmp.cmd("block-export-add", type="nbd", id="e", **{"node-name": "n"}, writable=True)
        yield daemon


@test
def nobody_else_has_an_image_that_we_write():
    with chain() as d, server(f"{d}/one"):
        assert not qemu_opens(f"{d}/one", readonly=False)
        assert not qemu_opens(f"{d}/one", readonly=True)
        assert not we_open(f"{d}/one")


@test
def a_base_is_read_by_all_and_written_by_nobody():
    with chain() as d, server(f"{d}/one"), server(f"{d}/three"):
        assert qemu_opens(f"{d}/base", readonly=True)
        assert not qemu_opens(f"{d}/base", readonly=False)
        assert not we_open(f"{d}/base")
        assert qemu_opens(f"{d}/raw", readonly=True, kind="raw")
        assert not qemu_opens(f"{d}/raw", readonly=False, kind="raw")


@test
def overlays_share_a_base():
    with chain() as d, server(f"{d}/one") as ours, server(f"{d}/two") as other:
        a, b = ours.nbd("vda"), other.nbd("vda")
        a.pwrite(b"a" * 512, 0)
        b.pwrite(b"b" * 512, 0)
        assert a.pread(1024, 0) == b"a" * 512 + b"\1" * 512
        assert b.pread(1024, 0) == b"b" * 512 + b"\1" * 512


@test
def an_overlay_of_ours_and_one_of_QEMUs_share_a_base():
    with chain() as d, tmpdir() as folder:
        with qemu_has(folder, f"{d}/two"):
            assert we_open(f"{d}/one")
        with server(f"{d}/one"):
            assert qemu_opens(f"{d}/two", readonly=False)


@test
def we_do_not_take_what_QEMU_has():
    with chain() as d, tmpdir() as folder:
        with qemu_has(folder, f"{d}/one"):
            assert not we_open(f"{d}/one")
            assert not we_open(f"{d}/base")
            assert we_open(f"{d}/one", "locking=off")
        assert we_open(f"{d}/one")


@test
def we_do_not_take_an_overlay_of_a_base_that_QEMU_writes():
    with chain() as d, tmpdir() as folder, qemu_has(folder, f"{d}/base"):
        assert not we_open(f"{d}/one")
        assert we_open(f"{d}/three")


@test
def a_data_file_is_locked_as_its_image():
    with tmpdir() as d:
        qemu_img("create", "-q", "-f", "qcow2", "-o", "data_file=data", f"{d}/i", str(MIB), cwd=d)
        with server(f"{d}/i"):
            assert not qemu_opens(f"{d}/data", readonly=False, kind="raw")
        assert qemu_opens(f"{d}/i", readonly=False)


@test
def the_locks_end_with_the_server_that_is_killed():
    with chain() as d:
        with server(f"{d}/one") as s:
            s.kill()
        assert qemu_opens(f"{d}/one", readonly=False)
        assert we_open(f"{d}/one")


main()
