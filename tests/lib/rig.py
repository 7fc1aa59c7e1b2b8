# SPDX-License-Identifier: BSD-3-Clause
"""What tests with libnbd share: images, extents, and NBD servers of other projects."""

import contextlib
import os
import random
import signal
import socket
import subprocess

import nbd

import fleece
import tap

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
DIRTY = 1
HOLE, ZERO = nbd.STATE_HOLE, nbd.STATE_ZERO


def seed():
    """The seed of this run. It is printed, so that $FLEECE_TEST_SEED can repeat a failure."""
    value = int(os.environ.get("FLEECE_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
    tap.note(f"FLEECE_TEST_SEED={value}")
    return value


def image(path, size, pieces=(), rng=None):
    """A sparse raw image with random data in `pieces` [(offset, length)]. Returns its bytes."""
    rng = rng or random.Random(1)
    model = bytearray(size)
    with open(path, "wb") as f:
        f.truncate(size)
        for offset, length in pieces:
            model[offset:offset + length] = rng.randbytes(length)
            f.seek(offset)
            f.write(model[offset:offset + length])
    return model


@contextlib.contextmanager
def file_server(size, pieces=(), rng=None, options=()):
    """A server whose disk `vda` is a new image, the file `disk` in a folder: (the server, the folder, the
    image's bytes)."""
    with fleece.tmpdir() as d:
        model = image(f"{d}/disk", size, pieces, rng)
        with fleece.Server(*options, "--disk", "vda", "file", f"{d}/disk") as s:
            yield s, d, model


def content(path):
    with open(path, "rb") as f:
        return f.read()


def assert_same(got, expected, what="the image"):
    """Two byte strings are equal. The message names the first difference instead of showing
    both."""
    assert len(got) == len(expected), f"{what}: {len(got)} bytes, {len(expected)} expected"
    if got != expected:
        at = next(i for i in range(0, len(got), 512) if got[i:i + 512] != expected[i:i + 512])
        raise AssertionError(f"{what} differs first in the sector at {at}")


def extents(h, context, request=GIB):
    """The extents of a whole export, neighbours with equal flags merged: [(offset, length,
    flags)]."""
    found, at = [], 0

    def tell(name, offset, entries, error):
        nonlocal at
        if name != context:
            return
        for length, flags in zip(entries[0::2], entries[1::2]):
            assert offset == at and length > 0, (offset, at, length)
            if found and found[-1][2] == flags:
                found[-1] = (found[-1][0], found[-1][1] + length, flags)
            else:
                found.append((offset, length, flags))
            offset += length
            at = offset

    size = h.get_size()
    while at < size:
        before = at
        h.block_status(min(size - at, request), at, tell)
        assert at > before, f"no progress at {at}"
    return found


def dirty_context(bitmap):
    return f"qemu:dirty-bitmap:{bitmap}"


def dirty_extents(h, bitmap):
    """[(offset, length)] of what is dirty in a bitmap."""
    return [(o, n) for o, n, flags in extents(h, dirty_context(bitmap)) if flags & DIRTY]


def granules(pieces, size=64 * KIB):
    """The numbers of the granules of `size` bytes in which the pieces [(offset, length)] lie, in order."""
    return sorted({granule for offset, length in pieces
                   for granule in range(offset // size, (offset + length - 1) // size + 1)})


def read_all(h):
    """All bytes of an export."""
    size = h.get_size()
    return b"".join(h.pread(min(MIB, size - at), at) for at in range(0, size, MIB))


def pull(h, pieces, path):
    """Read the pieces [(offset, length)] through `h` and write them over the file `path`, as an
    incremental backup does. Returns the number of bytes."""
    total = 0
    with open(path, "r+b") as f:
        for offset, length in pieces:
            for at in range(offset, offset + length, MIB):
                piece = min(MIB, offset + length - at)
                f.seek(at)
                f.write(h.pread(piece, at))
                total += piece
    return total


def freeze(q, disk, view, new=None, old=None, granularity=64 * KIB):
    """One transaction that makes a view, adds the bitmap `new`, and disables the bitmap `old`."""
    actions = [("view-create", {"disk": disk, "name": view})]
    if new:
        actions.append(("block-dirty-bitmap-add",
                        {"node": disk, "name": new, "granularity": granularity}))
    if old:
        actions.append(("block-dirty-bitmap-disable", {"node": disk, "name": old}))
    q.transaction(*actions)


def export_view(q, view, disk=None, bitmap=None):
    """Export a view. Name and id of the export are those of the view. `bitmap` is a disabled bitmap
    of its disk."""
    bitmaps = [{"node": disk, "name": bitmap}] if bitmap else []
    q.cmd("block-export-add", type="nbd", id=view, name=view, bitmaps=bitmaps,
          **{"node-name": view})


@contextlib.contextmanager
def activated(path, *command):
    """An NBD server of another project on the Unix socket `path`, by socket activation. Clients can
    connect at once, so nobody has to wait for the server."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        process = subprocess.Popen(
            ["bash", "-c", 'exec 3<&"$1"; shift; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "bash",
             str(listener.fileno()), *command],
            stdin=subprocess.DEVNULL, pass_fds=[listener.fileno()],
            preexec_fn=fleece.die_with_parent)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(fleece.SOON)
        os.unlink(path)


class Storm:
    """A guest that writes without a pause: a thread that writes random pieces of 512 bytes to 64
    KiB through a connection of its own, until the `with` ends.

        with Storm(s.uri("vda"), rng) as storm:
            storm.wait_writes(100)        # returns when 100 more are answered
    """

    def __init__(self, uri, rng, region=None):
        import threading
        self._uri, self._rng, self._region = uri, rng, region
        self._changed = threading.Condition()
        self._writes, self._ending, self._error = 0, False, None
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            h = nbd.NBD()
            h.connect_uri(self._uri)
            start, end = self._region or (0, h.get_size())
            while not self._ending:
                length = 512 << self._rng.randrange(8)
                offset = self._rng.randrange(start, end - length) & ~511
                kind = self._rng.randrange(8)
                if kind == 0:
                    h.zero(length, offset)
                elif kind == 1:
                    h.trim(length, offset)
                else:
                    h.pwrite(self._rng.randbytes(length), offset)
                with self._changed:
                    self._writes += 1
                    self._changed.notify_all()
            h.shutdown()
        except Exception as error:  # raised by whoever waits
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def wait_writes(self, count):
        with self._changed:
            goal = self._writes + count
            ok = self._changed.wait_for(lambda: self._error or self._writes >= goal, fleece.SOON)
            assert ok, "the guest is stuck"
            if self._error:
                raise self._error

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self._ending = True
        self._thread.join(fleece.SOON)
        assert not self._thread.is_alive(), "the guest is stuck"
        if self._error and kind is None:
            raise self._error
