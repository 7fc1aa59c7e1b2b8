#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdkit's plugins run in our server and in nbdkit itself. Sizes, abilities, bytes and maps must be
the same in both."""

import ctypes
import errno
import os
import random
import socket
import subprocess
import sys
import tempfile

import nbd

from fleece import SANITIZER, Server, die_with_parent, nbdfleece, require_plugin, require_program
from fleece import tmpdir
from rig import read_all
from tap import main, note, skip, test

sys.path.insert(0, os.path.dirname(__file__))
import httpd

BASE = nbd.CONTEXT_BASE_ALLOCATION
ABILITIES = ("is_read_only", "can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero",
             "can_cache", "is_rotational")


def nbdkit(*args):
    """A connection to nbdkit itself, which ends with it."""
    h = nbd.NBD()
    h.add_meta_context(BASE)
    h.connect_command([require_program("nbdkit"), "-s", "--exit-with-parent", *args])
    return h


def block_map(h):
    """The allocation of the whole disk: [[length, flags]], equal neighbours merged."""
    result = []

    def add(context, offset, entries, error):
        for length, flags in zip(entries[::2], entries[1::2]):
            if result and result[-1][1] == flags:
                result[-1][0] += length
            else:
                result.append([length, flags])

    while (at := sum(length for length, _ in result)) < h.get_size():
        h.block_status(h.get_size() - at, at, add)
    result[-1][0] -= sum(length for length, _ in result) - h.get_size()
    return result


def assert_same(ours, theirs, data=True, abilities=ABILITIES):
    assert ours.get_size() == theirs.get_size()
    for ability in abilities:
        a, b = getattr(ours, ability)(), getattr(theirs, ability)()
        assert a == b, f"{ability}: ours {a}, nbdkit's {b}"
    if data:
        assert read_all(ours) == read_all(theirs)
    assert block_map(ours) == block_map(theirs)


def compare(*args, data=True):
    """Compare one plugin in both servers."""
    with Server("--disk", "vda", *args) as s:
        ours = s.nbd("vda", contexts=[BASE])
        theirs = nbdkit(*args)
        assert_same(ours, theirs, data)
        theirs.shutdown()


def can_zero_range(folder):
    """Can the file system zero a range and keep it allocated (FALLOC_FL_ZERO_RANGE)? Where it
    cannot (tmpfs), plugins differ in what they do for NO_HOLE: ours writes zeroes; nbdkit's makes a
    hole and allocates it again, and SEEK_DATA calls that a hole."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryFile(dir=folder) as f:
        f.write(bytes(65536))
        f.flush()
        return libc.fallocate(f.fileno(), 0x10, ctypes.c_long(0), ctypes.c_long(65536)) == 0


def write_a_little(h, seed=1, no_hole=True):
    """Send requests that the seed determines. no_hole: also zeroes that must stay allocated."""
    rng = random.Random(seed)
    size = h.get_size()
    for _ in range(50):
        length = rng.randrange(1, 65536)
        offset = rng.randrange(0, size - length)
        what = rng.randrange(4)
        if what == 0 and h.can_zero():
            sparse = rng.randrange(2) or not no_hole
            h.zero(length, offset, 0 if sparse else nbd.CMD_FLAG_NO_HOLE)
        elif what == 1 and h.can_trim():
            h.trim(length, offset)
        else:
            h.pwrite(rng.randbytes(length), offset, rng.choice([0, nbd.CMD_FLAG_FUA]
                                                               if h.can_fua() else [0]))
    if h.can_flush():
        h.flush()


def compare_connections(ours, theirs, abilities=ABILITIES, no_hole=True):
    """Compare both as they are, and after the same writes."""
    assert_same(ours, theirs, abilities=abilities)
    write_a_little(ours, no_hole=no_hole)
    write_a_little(theirs, no_hole=no_hole)
    assert_same(ours, theirs, abilities=abilities)
    theirs.shutdown()


def compare_writes(*args):
    with Server("--disk", "vda", *args) as s:
        compare_connections(s.nbd("vda", contexts=[BASE]), nbdkit(*args))


@test
def memory():
    require_plugin("memory")
    compare_writes("memory", "8M")
    compare("memory", "size=1000")


@test
def data():
    require_plugin("data")
    compare_writes("data", " ( 0x55 0xAA )*512 @1048576 1 2 3 ", "size=4M")
    compare("data", "raw=hello, world", "size=1M")
    compare("data", "base64=aGVsbG8=")


@test
def pattern():
    require_plugin("pattern")
    compare("pattern", "5M")


@test
def sparse_random():
    require_plugin("sparse-random")
    compare("sparse-random", "64M", "seed=3", "percent=10", data=False)
    with Server("--disk", "vda", "sparse-random", "64M", "seed=3") as s:
        h = s.nbd("vda", contexts=[BASE])
        at, extents = 0, block_map(h)
        assert {bool(flags) for _, flags in extents} == {False, True}
        for length, flags in extents:
            if flags:  # the map calls it zero, so it reads as zeroes
                n = min(length, 65536)
                assert h.pread(n, at) == bytes(n)
            at += length


@test
def null():
    require_plugin("null")
    compare_writes("null", "16M")


@test
def full():
    require_plugin("full")
    compare("full", "4M")
    with Server("--disk", "vda", "full", "4M") as s:
        h = s.nbd("vda")
        try:
            h.pwrite(b"x" * 512, 0)
            raise AssertionError("a full disk took data")
        except nbd.Error as e:
            assert e.errnum == errno.ENOSPC


def two_files(folder):
    paths = [f"{folder}/a", f"{folder}/b"]
    for path in paths:
        with open(path, "wb") as f:
            f.truncate(16 << 20)
    return paths


def content(path):
    with open(path, "rb") as f:
        return f.read()


# The abilities that our file plugin and nbdkit's have in common. (Ours also promises fast zeroes.)
FILE_ABILITIES = [a for a in ABILITIES if a != "can_fast_zero"]


@test
def file_of_nbdkit():
    require_plugin("file")
    path = os.path.join(os.environ["NBDKIT_PLUGINDIR"], "nbdkit-file-plugin.so")
    with tmpdir() as d:
        a, b = two_files(d)
        with Server("--disk", "vda", path, a) as s:
            compare_connections(s.nbd("vda", contexts=[BASE]), nbdkit("file", b))
        assert content(a) == content(b)


@test
def our_own_file():
    with tmpdir() as d:
        a, b = two_files(d)
        with Server("--disk", "vda", "file", a) as s:
            compare_connections(s.nbd("vda", contexts=[BASE]), nbdkit("file", b), FILE_ABILITIES,
                                no_hole=can_zero_range(d))
        assert content(a) == content(b)


@test
def our_file_plugin_in_nbdkit_itself():
    if SANITIZER != "no":
        skip("nbdkit itself cannot load plugins that were built with a sanitizer")
    ours = os.path.join(os.environ["top_builddir"], "plugins/file/.libs/nbdkit-file-plugin.so")
    with tmpdir() as d:
        a, b = two_files(d)
        h = nbdkit(ours, a)
        compare_connections(h, nbdkit("file", b), FILE_ABILITIES, no_hole=can_zero_range(d))
        h.shutdown()
        assert content(a) == content(b)


@test
def split():
    require_plugin("split")
    with tmpdir() as d:
        files = []
        for i, size in enumerate((100, 65536, 1000000)):
            files.append(f"{d}/{i}")
            with open(files[-1], "wb") as f:
                f.write(random.Random(i).randbytes(size))
        compare("split", *files)
        # Only the first file is written, because the split plugin of nbdkit 1.32 writes to the
        # wrong place in all other files, in nbdkit too.
        with Server("--disk", "vda", "split", *files) as s:
            s.nbd("vda").pwrite(b"seam" * 10, 60)
        assert content(files[0])[60:] == b"seam" * 10


@test
def partitioning():
    require_plugin("partitioning")
    with tmpdir() as d:
        for name in "one", "two":
            with open(f"{d}/{name}", "wb") as f:
                f.write(name.encode() * 30000)
        compare("partitioning", "partition-type=mbr", f"{d}/one", f"{d}/two")


@test
def floppy():
    require_plugin("floppy")
    with tmpdir() as d:
        os.mkdir(f"{d}/dir")
        with open(f"{d}/dir/hello.txt", "w") as f:
            f.write("hello" * 1000)
        os.utime(f"{d}/dir/hello.txt", (1600000000, 1600000000))
        os.utime(f"{d}/dir", (1600000000, 1600000000))
        compare("floppy", f"{d}/dir", "label=LABEL")


EVAL = ["get_size=echo 1M",
        "pread=dd if=/dev/zero bs=$3 count=1 2>/dev/null | tr '\\0' x",
        "can_write=exit 0", "pwrite=cat >$tmpdir/last; [ $4 -lt 65536 ] || { echo ENOSPC no >&2; exit 1; }",
        "can_fua=echo emulate", "can_flush=exit 0", "flush=exit 0",
        "thread_model=echo parallel", "can_extents=exit 0",
        "extents=echo 0 64K; echo 64K 960K hole,zero"]


@test
def eval_scripts():
    require_plugin("eval")
    compare("eval", *EVAL)
    with Server("--disk", "vda", "eval", *EVAL) as s:
        h = s.nbd("vda")
        h.pwrite(b"abc", 5, nbd.CMD_FLAG_FUA)
        try:
            h.pwrite(b"abc", 65536)
            raise AssertionError("the script's error was lost")
        except nbd.Error as e:
            assert e.errnum == errno.ENOSPC


@test
def sh_script():
    require_plugin("sh")
    with tmpdir() as d:
        with open(f"{d}/script", "w") as f:
            f.write("""#!/bin/sh
case "$1" in
  get_size) stat -L -c %s "$(dirname "$0")/disk" ;;
  pread) dd if="$(dirname "$0")/disk" iflag=skip_bytes,count_bytes skip=$4 count=$3 2>/dev/null ;;
  can_write) exit 0 ;;
  pwrite) dd of="$(dirname "$0")/disk" oflag=seek_bytes conv=notrunc seek=$4 2>/dev/null ;;
  *) exit 2 ;;
esac
""")
        os.chmod(f"{d}/script", 0o755)
        with open(f"{d}/disk", "wb") as f:
            f.write(random.Random(5).randbytes(300000))
        compare("sh", f"{d}/script")
        with Server("--disk", "vda", "sh", f"{d}/script") as s:
            h = s.nbd("vda")
            h.pwrite(b"A" * 1000, 777)
            h.zero(1000, 2000)  # the script has no `zero`, so the server writes zeroes
            assert h.pread(4000, 0)[777:1777] == b"A" * 1000
        with open(f"{d}/disk", "rb") as f:
            assert f.read()[2000:3000] == bytes(1000)


@test
def curl():
    require_plugin("curl")
    page = random.Random(7).randbytes(3 << 20)
    with httpd.serve(page) as url:
        compare("curl", url)
        with Server("--disk", "vda", "curl", url) as s:
            assert read_all(s.nbd("vda")) == page


def start_qemu_nbd(path, image):
    """Start qemu-nbd on a socket that listens already, so that clients can connect at once."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        return subprocess.Popen(
            ["sh", "-c", f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh",
             require_program("qemu-nbd"), "-f", "raw", "-t", image],
            pass_fds=[listener.fileno()], preexec_fn=die_with_parent)


@test
def nbd_of_another_server():
    require_plugin("nbd")
    with tmpdir() as d:
        with open(f"{d}/image", "wb") as f:
            f.write(random.Random(9).randbytes(1 << 20))
            f.truncate(4 << 20)
        remote = start_qemu_nbd(f"{d}/remote", f"{d}/image")
        try:
            with Server("--disk", "vda", "nbd", f"socket={d}/remote") as s:
                h = s.nbd("vda", contexts=[BASE])
                assert read_all(h) == content(f"{d}/image")
                assert block_map(h)[-1][1] == 3
                write_a_little(h)
                served = read_all(h)
            assert content(f"{d}/image") == served
        finally:
            remote.terminate()
            remote.wait()


@test
def one_plugin_on_two_disks():
    require_plugin("memory")
    require_plugin("data")
    with Server("--disk", "vda", "memory", "1M", "--disk", "vdb", "memory", "2M",
                "--disk", "vdc", "data", "data=1 2 3", "--disk", "vdd", "data", "data=9 8") as s:
        a, b = s.nbd("vda"), s.nbd("vdb")
        assert (a.get_size(), b.get_size()) == (1 << 20, 2 << 20)
        a.pwrite(b"a" * 65536, 0)
        b.pwrite(b"b" * 65536, 32768)
        assert a.pread(1 << 20, 0) == b"a" * 65536 + bytes((1 << 20) - 65536)
        assert b.pread(1 << 20, 0) == bytes(32768) + b"b" * 65536 + bytes((1 << 20) - 98304)
        assert s.nbd("vdc").pread(3, 0) == b"\1\2\3"
        assert s.nbd("vdd").pread(2, 0) == b"\x09\x08"


def built_plugin(name):
    """The path of a plugin of tests/plugins-src, which is built with nbdkit's own header."""
    path = os.path.join(os.environ["top_builddir"], f"tests/plugins-src/.libs/{name}.so")
    if not os.path.exists(path):
        skip("nbdkit-plugin.h was not there to build test plugins with")
    return path


@test
def plugins_of_every_version():
    for name in "minimal", "v1", "v2":
        path = built_plugin(name)
        note(name)
        with Server("--disk", "vda", path) as s:
            h = s.nbd("vda", contexts=[BASE])
            if SANITIZER == "no":
                theirs = nbdkit(path)
                if name == "minimal":
                    assert_same(h, theirs)
                    theirs.shutdown()
                else:
                    compare_connections(h, theirs)
            elif name != "minimal":
                write_a_little(h)
            if name == "v1":  # version 1 has no flags: a fast zero is refused
                assert h.can_fast_zero()
                try:
                    h.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO)
                    raise AssertionError("a version 1 plugin cannot know what is fast")
                except nbd.Error as e:
                    assert e.errnum == errno.ENOTSUP


@test
def odd_answers_are_taken_as_nbdkit_takes_them():
    path = built_plugin("v2")
    if SANITIZER != "no":
        skip("nbdkit itself cannot load plugins that were built with a sanitizer")
    questions = ("can_write can_flush can_trim can_zero can_fast_zero is_rotational can_extents "
                 "can_fua can_cache").split()
    for number in 3, -2:
        for question in questions:
            if (question, number) == ("can_cache", -2):
                continue  # nbdkit itself ends at the first CACHE request then
            note(f"{question}={number}")
            compare(path, f"{question}={number}", data=False)


@test
def a_plugin_that_serves_one_connection_serves_all_clients():
    with Server("--disk", "vda", built_plugin("minimal")) as s:
        handles = [s.nbd("vda") for _ in range(3)]
        for h in handles:
            assert h.pread(2, 4095) == b"\0\1" and h.pread(1, 8192) == b"\2"


@test
def a_module_in_c_finds_its_interpreter():
    require_plugin("python")
    with tmpdir() as d:
        with open(f"{d}/script.py", "w") as f:
            f.write("""
import _ctypes  # a module in C, which needs the interpreter's symbols
API_VERSION = 2
def open(readonly): return 1
def get_size(h): return 4096
def pread(h, buf, offset, flags): buf[:] = b"p" * len(buf)
""")
        with Server("--disk", "vda", "python", f"{d}/script.py", "--disk", "vdb", "null") as s:
            assert s.nbd("vda").pread(3, 5) == b"ppp"


@test
def the_installed_plugins_say_the_same_of_themselves():
    nbdkit_program = require_program("nbdkit")
    folder = os.environ.get("NBDKIT_PLUGINDIR", "")
    count = 0
    for name in sorted(os.listdir(folder) if os.path.isdir(folder) else []):
        if not name.endswith("-plugin.so"):
            continue
        path = os.path.join(folder, name)
        theirs = subprocess.run([nbdkit_program, "--dump-plugin", path], capture_output=True,
                                text=True, check=True).stdout
        ours = nbdfleece("--dump-plugin", path).stdout
        assert ours == theirs, f"{name}:\n{ours}\n{theirs}"
        count += 1
    if not count:
        skip("none of nbdkit's plugins is installed")
    note(f"{count} plugins")


@test
def a_bad_plugin_is_named():
    def error(*args):
        result = nbdfleece("-f", "-U", "-", *args, check=False)
        assert result.returncode != 0 and not result.stdout, result
        assert len(result.stderr.splitlines()) == 1, result.stderr
        return result.stderr

    assert "nbdkit-nosuch-plugin.so" in error("nosuch")
    assert "/nonexistent/x.so" in error("/nonexistent/x.so")
    missing = os.path.join(os.environ["top_builddir"], "tests/plugins-src/.libs/missing-symbol.so")
    if os.path.exists(missing):
        text = error(missing)
        assert missing in text and "nbdkit_from_the_future" in text
    require_plugin("memory")
    assert "memory" in error("memory", "bogus=1")
    assert "memory" in error("memory", "size=bogus")


main()
