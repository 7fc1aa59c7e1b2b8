# SPDX-License-Identifier: BSD-3-Clause
"""NBD servers of other projects, for tests that need one of them with all its options.

    with tmpdir() as folder, nbdkit(folder, "memory", "1G") as where:
        pull(where, "-o", f"{folder}/out")
"""

import contextlib
import subprocess

import nbd
from fleece import Qmp, die_with_parent, require_program, uri, wait_file
from rig import activated


@contextlib.contextmanager
def server(folder, *command, export=""):
    """A server that takes its socket over. Its URI."""
    require_program(command[0])
    with activated(f"{folder}/socket", *command):
        yield uri(export, unix=f"{folder}/socket")


def nbdkit(folder, *args):
    return server(folder, "nbdkit", "-f", *args)


def qemu_nbd(folder, *args, export="", readonly=True):
    return server(folder, "qemu-nbd", "--persistent", *(["-r"] if readonly else []), "-x", export,
                  *args, export=export)


def qcow2(node, path, **more):
    """A qcow2 image for blockdev-add."""
    return {"driver": "qcow2", "node-name": node, "file": {"driver": "file", "filename": path},
            **more}


class Daemon(contextlib.AbstractContextManager):
    """qemu-storage-daemon with a monitor and an NBD server, in `folder`."""

    def __init__(self, folder, *args):
        self.folder, self.args = folder, args

    def __enter__(self):
        self.process = subprocess.Popen(
            [require_program("qemu-storage-daemon"), "--pidfile", f"{self.folder}/qsd.pid",
             "--chardev", f"socket,id=m,path={self.folder}/m,server=on,wait=off",
             "--monitor", "m", "--nbd-server", f"addr.type=unix,addr.path={self.folder}/n",
             *self.args], preexec_fn=die_with_parent)
        assert wait_file(self.process, f"{self.folder}/qsd.pid")
        self.qmp = Qmp(f"{self.folder}/m")
        return self

    def __exit__(self, *_):
        self.qmp.close()
        self.process.kill()
        self.process.wait()

    def export(self, node, name, *bitmaps, writable=False):
        self.qmp.cmd("block-export-add", type="nbd", id=name, name=name, writable=writable,
                     **{"node-name": node}, **({"bitmaps": list(bitmaps)} if bitmaps else {}))
        return uri(name, unix=f"{self.folder}/n")

    def end_export(self, name, client):
        client.shutdown()
        self.qmp.cmd("block-export-del", id=name, mode="hard")
        self.qmp.wait_event("BLOCK_EXPORT_DELETED")


def writer(where):
    h = nbd.NBD()
    h.connect_uri(where)
    return h


def write_some(h, rng, count=15, size=None):
    """So many random writes to a disk, or to its first `size` bytes."""
    size = size or h.get_size()
    for _ in range(count):
        length = rng.randrange(1, 600) * 512
        at = rng.randrange((size - length) // 512) * 512
        if rng.random() < 0.3:
            h.zero(length, at)
        else:
            h.pwrite(rng.randbytes(length), at)
