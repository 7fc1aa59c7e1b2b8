# SPDX-License-Identifier: BSD-3-Clause
"""Our qcow2 plugin in a stock nbdkit."""

import contextlib
import os
import random
import select
import signal

import nbd

from fleece import BUILD, SANITIZER, SOON, require_program, run, tmpdir, uri
from qcow2 import KINDS, Disk, check, disk_of, qemu_img
from rig import MIB, activated, assert_same, content, seed
from tap import main, note, skip, test
from waiting import wait_until

PLUGIN = os.path.join(BUILD, "plugins/qcow2/.libs/nbdkit-qcow2-plugin.so")
NAMES = ["plain", "version 2 over qcow2", "clusters of 512, filled by us", "subclusters over qcow2",
         "over a shorter image", "zstd over qcow2", "zlib", "data file", "preallocated"]
LIBRARIES = {"libc.so.6", "libz.so.1", "libzstd.so.1", "ld-linux-x86-64.so.2"}


def require_nbdkit():
    require_program("nbdkit")
    if SANITIZER != "no":
        skip("nbdkit does not load plugins with sanitizers")


@contextlib.contextmanager
def nbdkit(folder, *words):
    """A connection to it; at the end of the block, nbdkit ends."""
    require_nbdkit()
    with activated(f"{folder}/nbdkit", "nbdkit", "-f", *words) as process:
        h = nbd.NBD()
        h.add_meta_context("base:allocation")
        h.connect_uri(uri(unix=f"{folder}/nbdkit"))
        yield h
        h.shutdown()
    assert process.returncode == 0, process.returncode


def kind_of(name):
    return next(kind for kind in KINDS if str(kind) == name)


def a_test_of(kind):
    def requests():
        value = seed()
        note(kind)
        rng = random.Random(value)
        with tmpdir() as d:
            path = kind.make(d, rng)
            disk = Disk(rng, disk_of(path))
            with nbdkit(d, PLUGIN, path) as h:
                disk.assert_read(h)
                for _ in range(60):
                    disk.request(h)
                disk.assert_read(h)
            check(path)
            assert_same(disk_of(path), disk.content, "the image")

    requests.__name__ = "in_nbdkit_" + "".join(c if c.isalnum() else "_" for c in str(kind))
    return requests


for each in NAMES:
    test(a_test_of(kind_of(each)))


@test
def nbdcopy_runs_under_it():
    require_nbdkit()
    require_program("nbdcopy")
    with tmpdir() as d:
        path = kind_of("over raw").make(d, random.Random(seed()))
        disk = disk_of(path)
        run("nbdkit", "-U", "-", "-r", PLUGIN, f"file={path}", "--run", f'nbdcopy "$uri" {d}/out')
        assert_same(content(f"{d}/out"), disk, "the copy")
        with open(f"{d}/new", "wb") as f:
            f.write(disk[::-1])
        run("nbdkit", "-U", "-", PLUGIN, f"file={path}", "--run", f'nbdcopy --flush {d}/new "$uri"')
        check(path)
        assert_same(disk_of(path), disk[::-1], "the image")


@test
def it_goes_to_the_background():
    """nbdkit forks when the image has been looked at: the plugin's thread is that of the child."""
    require_nbdkit()
    with tmpdir() as d:
        qemu_img("create", "-q", "-f", "qcow2", f"{d}/i", str(4 * MIB))
        run("nbdkit", "-U", f"{d}/socket", "-P", f"{d}/pid", PLUGIN, f"file={d}/i")
        wait_until(lambda: os.path.exists(f"{d}/pid") and os.path.getsize(f"{d}/pid"), d)
        with open(f"{d}/pid", encoding="utf-8") as f:
            pid = int(f.read())
        pidfd = os.pidfd_open(pid)
        h = nbd.NBD()
        h.connect_uri(uri(unix=f"{d}/socket"))
        h.pwrite(b"x" * 4096, MIB)
        h.shutdown()
        os.kill(pid, signal.SIGTERM)
        assert select.select([pidfd], [], [], SOON)[0], "nbdkit has not ended"
        os.close(pidfd)
        check(f"{d}/i")
        assert disk_of(f"{d}/i")[MIB:MIB + 4096] == b"x" * 4096


@test
def the_cow_filter_over_it():
    with tmpdir() as d:
        path = kind_of("over a longer image").make(d, random.Random(seed()))
        before, disk = content(path), disk_of(path)
        with nbdkit(d, "--filter=cow", PLUGIN, path) as h:
            h.pwrite(b"x" * 65536, MIB)
            assert h.pread(65536, MIB) == b"x" * 65536
            assert_same(h.pread(MIB, 0), disk[:MIB])
        assert_same(content(path), before, "the file")


@test
def the_cache_filter_over_it():
    rng = random.Random(seed())
    with tmpdir() as d:
        path = kind_of("subclusters over qcow2").make(d, rng)
        disk = Disk(rng, disk_of(path), trims=False)  # the filter passes them on, and has what was there
        with nbdkit(d, "--filter=cache", PLUGIN, path, "cache=writeback") as h:
            for _ in range(60):
                disk.request(h)
            disk.assert_read(h)
            h.flush()
        check(path)
        assert_same(disk_of(path), disk.content, "the image")


def undefined(path):
    """The functions that a library takes from others: {name: version of glibc, or ""}."""
    found = {}
    for line in run("nm", "-D", "--undefined-only", path).stdout.splitlines():
        name, _, version = line.split()[-1].partition("@")
        found[name] = version
    return found


@test
def it_needs_nothing_but_nbdkit_and_its_libraries():
    for program in "nm", "readelf":
        require_program(program)
    if SANITIZER != "no":
        skip("sanitizers are libraries, too")
    needed = run("readelf", "-d", PLUGIN).stdout
    needed = {line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line}
    assert needed <= LIBRARIES, needed
    strange = [name for name, version in undefined(PLUGIN).items()
               if not version.startswith("GLIBC") and not name.startswith(("nbdkit_", "_ITM", "__gmon", "__cxa"))
               and not name.startswith(("inflate", "deflate", "zlib", "crc32", "adler32", "ZSTD_"))]
    assert not strange, strange
    exported = {line.split()[-1].partition("@")[0]
                for line in run("nm", "-D", "--defined-only", PLUGIN).stdout.splitlines()}
    assert all(name == "plugin_init" or name.startswith("nbdfleece_plugin_") for name in exported), exported


main()
