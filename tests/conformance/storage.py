# SPDX-License-Identifier: BSD-3-Clause
"""Storage that fails, waits, or writes down what is done to it: arguments for nbdkit's eval plugin,
which runs in our server and in nbdkit. Each function gives (arguments, Where.more)."""

import os
import shutil
import signal
import tempfile

MIB = 1 << 20
ZEROES = "pread=head -c $3 /dev/zero"
SINK = "pwrite=cat >/dev/null"
WRITABLE = ("can_write=exit 0", SINK)


def _every_other(n):
    """An `extents` script: n bytes of data, n bytes of hole, and so on."""
    return (f"extents=awk -v at=$4 -v n=$3 'BEGIN {{ for (i = at - at % {n}; i < at + n; i += {n})"
            f" print i, {n}, i / {n} % 2 * 3 }}'")


def bad():
    """8 MiB of 'd'. Reads and status of the second half fail. A write at some offsets fails; the
    offset says with which error."""
    size = 8 * MIB
    errors = {name: i * 4096 for i, name in enumerate(
        ("EPERM", "EIO", "EINVAL", "ENOSPC", "EDQUOT", "EFBIG", "EROFS", "ENOTSUP", "EOPNOTSUPP",
         "EOVERFLOW", "ESHUTDOWN"))}
    cases = "".join(f"{offset}) e={name};; " for name, offset in errors.items())
    late = f"[ $(($3 + $4)) -gt {size // 2} ]"
    return ([f"get_size=echo {size}", "can_write=exit 0", "can_extents=exit 0",
             f"pread=if {late}; then echo EIO bad >&2; exit 1; fi;"
             " head -c $3 /dev/zero | tr '\\0' d",
             f"pwrite=cat >/dev/null; case $4 in {cases}*) exit 0;; esac;"
             " echo $e as it was asked for >&2; exit 1",
             f"extents=if {late}; then echo EIO no status >&2; exit 1; fi; echo $4 $3"],
            {"errors": errors, "good": {ord("d")}})


def logged(path):
    """Storage that appends a word to the file at `path` for each operation."""
    return ([f"get_size=echo {MIB}", ZEROES, *WRITABLE[:1],
             f"pwrite=cat >/dev/null; echo write >>{path}", f"flush=echo flush >>{path}",
             f"zero=echo zero >>{path}", f"trim=echo trim >>{path}", "can_flush=exit 0",
             "can_zero=exit 0", "can_trim=exit 0", "can_fua=echo emulate",
             "can_multi_conn=exit 0"],
            {"log": path})


def aligned():
    """Blocks of 4096 bytes, at most 1 MiB at a time, and extents in the middle of blocks."""
    block = 4096
    return ([f"get_size=echo {64 * MIB}", ZEROES, *WRITABLE, "can_trim=exit 0", "trim=exit 0",
             "can_zero=exit 0", "zero=exit 0", "can_cache=echo native", "cache=exit 0",
             f"block_size=echo {block} 65536 1048576", "can_extents=exit 0",
             _every_other(10000)],
            {"block": block})


def slow_zero(path):
    """Storage that says it has fast zeroing, and then refuses every fast zero. Its data are in the
    file at `path`."""
    with open(path, "wb") as f:
        f.truncate(MIB)
    return ([f"get_size=echo {MIB}",
             f"pread=dd if={path} bs=4096 iflag=skip_bytes,count_bytes skip=$4 count=$3"
             " status=none",
             f"pwrite=dd of={path} bs=4096 oflag=seek_bytes seek=$4 conv=notrunc status=none",
             "can_write=exit 0", "can_zero=exit 0", "can_fast_zero=exit 0",
             "zero=case $5 in *fast*) echo ENOTSUP slow >&2; exit 1;; esac;"
             f" head -c $3 /dev/zero |"
             f" dd of={path} bs=4096 oflag=seek_bytes seek=$4 conv=notrunc status=none"],
            {})


def no_trim(path):
    """Storage without trim and zero. Its data are in the file at `path`."""
    arguments, _ = slow_zero(path)
    kept = [a for a in arguments if not a.startswith(("can_zero=", "can_fast_zero=", "zero="))]
    # Without this answer, the server's own emulation of zeroing would offer FAST_ZERO.
    return kept + ["can_fast_zero=exit 3"], {}


def fragments():
    """Storage of which every other 512 bytes are a hole: more extents than fit in one reply."""
    count = (1 << 20) + 5000
    return ([f"get_size=echo {count * 512}", ZEROES, "can_extents=exit 0",
             _every_other(512)],
            {"extents": count})


class Fifos:
    """Reads at offset 0 say that they have begun, and wait until let_go(). All other requests are
    done at once."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="fleece-held-")
        self._begun, self._go = (os.path.join(self.dir, n) for n in ("begun", "go"))
        for fifo in self._begun, self._go:
            os.mkfifo(fifo)
        # Open for reading and writing, so that no open waits and nothing that is written is lost.
        self._fds = [os.open(fifo, os.O_RDWR) for fifo in (self._begun, self._go)]

    def arguments(self):
        return [f"get_size=echo {MIB}", f"pread=if [ $4 = 0 ]; then echo >{self._begun};"
                f" read x <{self._go}; fi; head -c $3 /dev/zero", *WRITABLE,
                "thread_model=echo parallel"]

    def wait_begun(self):
        assert os.read(self._fds[0], 1) == b"\n"

    def let_go(self):
        os.write(self._fds[1], b"\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for fd in self._fds:
            os.close(fd)
        shutil.rmtree(self.dir)


class Held:
    """See Target.held(). pid: the server's."""

    def __init__(self, pid, fifos, where):
        self._pid, self.where = pid, where
        self.wait_begun, self.let_go = fifos.wait_begun, fifos.let_go

    def end(self):
        os.kill(self._pid, signal.SIGTERM)
