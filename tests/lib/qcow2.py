# SPDX-License-Identifier: BSD-3-Clause
"""qcow2 images for tests: a matrix of them, which qemu-img makes; QEMU's tools, which change them and
say what is right; random requests to a server over one, and a model of its disk."""

import contextlib
import os

import nbd

import fleece
from fleece import require_program, run
from rig import KIB, MIB, assert_same

CLEAN, BROKEN, LEAKS = 0, 2, 3  # exit codes of qemu-img check


def qemu_img(*args, **kwargs):
    """Its last argument may be an image: it runs in that one's folder, since it looks for data files where it runs."""
    require_program("qemu-img")
    kwargs.setdefault("cwd", os.path.dirname(args[-1]) if os.path.isabs(args[-1]) else None)
    return run("qemu-img", *args, **kwargs)


def qemu_io(path, *commands, options=("-f", "qcow2")):
    """Run commands of qemu-io, which all have to succeed."""
    require_program("qemu-io")
    result = run("qemu-io", *options, *(word for c in commands for word in ("-c", c)), path,
                 cwd=os.path.dirname(path) if os.path.isabs(path) else None)
    for word in "verification failed", "failed:", "rror":
        assert word not in result.stdout + result.stderr, result.stdout + result.stderr
    return result.stdout


def check(path, *allowed):
    """qemu-img check ends with one of these exit codes, CLEAN if none is given."""
    result = qemu_img("check", "-f", "qcow2", path, check=False)
    assert result.returncode in (allowed or (CLEAN,)), \
        f"qemu-img check: {result.returncode}\n{result.stdout}{result.stderr}"
    return result.returncode


def disk_of(path, *more):
    """The bytes of the disk, as qemu-img reads it."""
    raw = path + ".raw"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", *more, path, raw)
    with open(raw, "rb") as f:
        disk = f.read()
    os.unlink(raw)
    return disk


def server(path, *words, options=(), **more):
    """Our server, whose disk `vda` is the image."""
    return fleece.Server(*options, "--disk", "vda", "qcow2", path, *words, **more)


# ---- images ----

class Kind:
    """How an image is made: `options` of qemu-img create, or of convert -c if it is compressed."""

    def __init__(self, name, *options, size=8 * MIB, backing=None, compressed=False, filled=True):
        self.name, self.options, self.size = name, options, size
        self.backing, self.compressed, self.filled = backing, compressed, filled

    def make(self, folder, rng):
        """Its path, in a folder that has no other."""
        path, options = os.path.join(folder, "i.qcow2"), list(self.options)
        if self.backing:
            kind, size = self.backing
            make_base(folder, kind, size, rng)
            options += ["-b", "base", "-F", kind]
        if self.compressed:
            make_base(folder, "qcow2", self.size, rng, "top")
            over = ["-o", "backing_file=base,backing_fmt=" + self.backing[0]] if self.backing else []
            qemu_img("convert", "-c", "-q", "-f", "qcow2", "-O", "qcow2", *self.options, *over,
                     os.path.join(folder, "top"), path)
        else:
            qemu_img("create", "-q", "-f", "qcow2", *options, path, str(self.size), cwd=folder)
        if self.filled:
            qemu_io(path, *random_commands(rng, self.size, 6))
        return path

    def __str__(self):
        return self.name


def make_base(folder, kind, size, rng, name="base"):
    path = os.path.join(folder, name)
    qemu_img("create", "-q", "-f", kind, path, str(size))
    qemu_io(path, *random_commands(rng, size, 8, compress=kind == "qcow2"), options=("-f", kind))


KINDS = [
    Kind("empty", filled=False),
    Kind("plain"),
    Kind("version 2", "-o", "compat=0.10"),
    Kind("version 2 over qcow2", "-o", "compat=0.10", backing=("qcow2", 8 * MIB)),
    Kind("clusters of 512", "-o", "cluster_size=512", size=3 * MIB),
    Kind("clusters of 512, filled by us", "-o", "cluster_size=512", size=3 * MIB, filled=False),
    Kind("clusters of 4096", "-o", "cluster_size=4096"),
    Kind("clusters of 2 MiB", "-o", "cluster_size=2M", size=24 * MIB),
    Kind("counts of 1 bit", "-o", "refcount_bits=1"),
    Kind("counts of 2 bits", "-o", "refcount_bits=2,cluster_size=1024", size=4 * MIB),
    Kind("counts of 8 bits", "-o", "refcount_bits=8"),
    Kind("counts of 64 bits", "-o", "refcount_bits=64,cluster_size=512", size=2 * MIB),
    Kind("subclusters", "-o", "extended_l2=on"),
    Kind("small subclusters", "-o", "extended_l2=on,cluster_size=16k"),
    Kind("subclusters over qcow2", "-o", "extended_l2=on,cluster_size=128k", backing=("qcow2", 8 * MIB)),
    Kind("subclusters over raw", "-o", "extended_l2=on", backing=("raw", 8 * MIB)),
    Kind("over raw", backing=("raw", 8 * MIB)),
    Kind("over a shorter raw file", backing=("raw", 5 * MIB + 512)),
    Kind("over a longer raw file", backing=("raw", 13 * MIB)),
    Kind("over a shorter image", backing=("qcow2", 3 * MIB + 1536)),
    Kind("over a longer image", backing=("qcow2", 12 * MIB)),
    Kind("zlib", compressed=True),
    Kind("zstd", "-o", "compression_type=zstd", compressed=True),
    Kind("zstd over qcow2", "-o", "compression_type=zstd", backing=("qcow2", 6 * MIB), compressed=True),
    Kind("small clusters with zlib", "-o", "cluster_size=4096", size=4 * MIB, compressed=True),
    Kind("preallocated", "-o", "preallocation=metadata"),
    Kind("preallocated, full", "-o", "preallocation=full"),
    Kind("data file", "-o", "data_file=d.raw"),
    Kind("raw data file", "-o", "data_file=d.raw,data_file_raw=on"),
    Kind("lazy counts", "-o", "lazy_refcounts=on"),
    Kind("odd size", size=5 * MIB + 7 * 512),
]


# ---- requests ----

def random_range(rng, size, unit=512, most=300 * KIB):
    """(offset, length): of all sizes, small ones too, often at a round place."""
    length = min(size, max(unit, rng.choice([unit, 4 * KIB, 64 * KIB, rng.randrange(1, most)]) // unit * unit))
    step = rng.choice([unit, unit, 4 * KIB, 64 * KIB])
    offset = rng.randrange(0, size - length + 1) // step * step
    return offset, length


def random_commands(rng, size, n, compress=False):
    """For qemu-io, on an image of `size` bytes."""
    commands = []
    if compress:  # clusters that have nothing yet
        for place in rng.sample(range(size // (64 * KIB)), 3):
            commands.append(f"write -c -P {rng.randrange(1, 256)} {place * 64}k 64k")
    for _ in range(n):
        offset, length = random_range(rng, size)
        what = rng.choice(["write -P {p}", "write -P {p}", "write -P {p}", "write -z", "write -z -u", "discard"])
        commands.append(f"{what.format(p=rng.randrange(1, 256))} {offset} {length}")
    return commands


class Disk:
    """What a disk has to be, and random requests, which change both."""

    def __init__(self, rng, content, trims=True):
        self.rng, self.content = rng, bytearray(content)
        self.kinds = ["write"] * 5 + ["zero"] * 3 + ["read"] * 2 + ["flush"] + ["trim"] * 3 * trims

    def request(self, h):
        rng, unit = self.rng, self.rng.choice([512, 512, 1])
        offset, length = random_range(rng, len(self.content), unit)
        getattr(self, "_" + rng.choice(self.kinds))(h, offset, length, nbd.CMD_FLAG_FUA if rng.randrange(8) == 0 else 0)

    def _write(self, h, offset, length, flags):
        data = bytes([self.rng.randrange(1, 256)]) * (length - 1) + b"!"
        h.pwrite(data, offset, flags)
        self.content[offset:offset + length] = data

    def _zero(self, h, offset, length, flags):
        flags |= self.rng.choice([0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO])
        try:
            h.zero(length, offset, flags)
        except nbd.Error as e:
            assert flags & nbd.CMD_FLAG_FAST_ZERO and e.errno == "ENOTSUP", e
        else:
            self.content[offset:offset + length] = bytes(length)

    def _trim(self, h, offset, length, flags):
        """Each byte is as it was, or 0."""
        h.trim(length, offset, flags)
        after = h.pread(length, offset)
        before = bytes(self.content[offset:offset + length])
        if after != before:
            wrong = [i for i in range(length) if after[i] and after[i] != before[i]]
            assert not wrong, f"trimmed, byte {offset + wrong[0]} is {after[wrong[0]]}"
            self.content[offset:offset + length] = after

    def _read(self, h, offset, length, _):
        assert_same(h.pread(length, offset), self.content[offset:offset + length], f"{length} bytes at {offset}")

    def _flush(self, h, *_):
        h.flush()

    def assert_read(self, h):
        """All of it, in pieces; zeroes are where the map says so."""
        assert h.get_size() == len(self.content)
        for offset in range(0, len(self.content), MIB):
            length = min(MIB, len(self.content) - offset)
            assert_same(h.pread(length, offset), self.content[offset:offset + length], f"the disk from {offset} on")


@contextlib.contextmanager
def served(path, *words):
    """A connection to our server of the image, with base:allocation."""
    with server(path, *words) as s:
        h = s.nbd("vda", ["base:allocation"])
        yield h
        h.shutdown()
