# SPDX-License-Identifier: BSD-3-Clause
"""The servers that are compared, each behind the same few methods.

Every server has one raw file as its disk `disk` on a Unix socket, is started afresh where a figure
depends on it, and runs as its own users would run it: no debugging, no filters, its own defaults.
"""

import json
import os
import random
import shutil
import signal
import subprocess

import fleece
from rig import MIB


class Process:
    """A server's process, and what it costs."""

    name = "?"

    def __init__(self):
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def cpu_seconds(self):
        """User and system time so far, all threads."""
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Resident bytes: (all of it, its private anonymous part)."""
        kib = {}
        with open(f"/proc/{self.pid}/status") as f:
            for line in f:
                if line.startswith(("VmRSS", "RssAnon")):
                    kib[line.split(":")[0]] = int(line.split()[1])
        return kib["VmRSS"] * 1024, kib["RssAnon"] * 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(fleece.SOON)
            self.process = None


class Nbdfleece(Process):
    """Ours. Guest writes are recorded in one dirty bitmap: that is what it is for."""

    name = "nbdfleece"

    def __init__(self, folder, images, bitmap=True, view=False):
        super().__init__()
        self.folder = folder
        args = ["--scratch", folder]
        for disk, path in images.items():
            args += ["--disk", disk, "file", path]
        self._server = fleece.Server(*args, dir=folder)
        self._server.start()
        self._qmp = self._server.qmp()
        if bitmap:
            self.add_bitmap()
        if view:
            self._qmp.cmd("view-create", disk="disk", name="view")
            self._qmp.cmd("block-export-add", type="nbd", id="view", **{"node-name": "view"})

    @property
    def pid(self):
        return self._server.pid

    def __exit__(self, *why):
        self._server.__exit__(*why)

    def add_bitmap(self):
        self._qmp.cmd("block-dirty-bitmap-add", node="disk", name="bitmap")

    def uri(self):
        return self._server.uri("disk")

    def scratch_bytes(self):
        """What the view takes: blocks on disk of its (unlinked) scratch file, and bytes kept."""
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            path = f"/proc/{self.pid}/fd/{fd}"
            target = os.readlink(path)
            if target.startswith(self.folder) and target.endswith("(deleted)"):
                allocated = os.stat(path).st_blocks * 512
                return self._qmp.cmd("query-views")[0]["scratch-bytes"], allocated
        raise RuntimeError("there is no scratch file")

    @staticmethod
    def version():
        return fleece.nbdfleece("--version").stdout.strip()


class Qsd(Process):
    """qemu-storage-daemon. With `view`: its fleecing setup, a copy-before-write filter that the
    guest writes through, and snapshot-access for the reader; the scratch is a raw file."""

    name = "qemu-storage-daemon"

    def __init__(self, folder, images, bitmap=False, view=False):
        super().__init__()
        self._socket = os.path.join(folder, "sock")
        self._scratch = os.path.join(folder, "scratch")
        options = []
        for disk, path in images.items():
            options.append(f"--blockdev driver=file,node-name={disk},filename={path},discard=unmap")
        node = "disk"
        if view:
            with open(self._scratch, "wb") as f:
                f.truncate(os.path.getsize(images["disk"]))
            options += [f"--blockdev driver=file,node-name=scratch,filename={self._scratch},"
                        "discard=unmap",
                        "--blockdev driver=copy-before-write,node-name=cbw,file=disk,"
                        "target=scratch",
                        "--blockdev driver=snapshot-access,node-name=snapshot,file=cbw"]
            node = "cbw"
        options.append(f"--nbd-server addr.type=unix,addr.path={self._socket}")
        for disk in images:
            options.append(f"--export type=nbd,id={disk},name={disk},writable=on,node-name="
                           f"{node if disk == 'disk' else disk}")
        if view:
            options.append("--export type=nbd,id=view,name=view,node-name=snapshot")
        options.append("--chardev stdio,id=monitor --monitor monitor")
        self.process = subprocess.Popen(
            ["qemu-storage-daemon", *" ".join(options).split()], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, preexec_fn=fleece.die_with_parent)
        json.loads(self.process.stdout.readline())  # the greeting
        self.cmd("qmp_capabilities")                # answered once all the above is done
        if bitmap:
            self.add_bitmap()

    def cmd(self, command, **arguments):
        self.process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline())
        assert "return" in reply, reply
        return reply["return"]

    def add_bitmap(self):
        self.cmd("block-dirty-bitmap-add", node="disk", name="bitmap")

    def uri(self):
        return fleece.uri("disk", unix=self._socket)

    def scratch_bytes(self):
        allocated = os.stat(self._scratch).st_blocks * 512
        return allocated, allocated

    def __exit__(self, *why):
        super().__exit__(*why)
        if os.path.exists(self._socket):
            os.unlink(self._socket)

    @staticmethod
    def version():
        return fleece.run("qemu-storage-daemon", "--version").stdout.splitlines()[0]


class Nbdkit(Process):
    """nbdkit with its file plugin; one disk a process, no bitmaps, no views."""

    name = "nbdkit"

    def __init__(self, folder, images, bitmap=False, view=False):
        super().__init__()
        assert len(images) == 1 and not bitmap and not view
        self._socket = os.path.join(folder, "sock")
        pid = os.path.join(folder, "pid")
        os.mkfifo(pid)
        self.process = subprocess.Popen(
            ["nbdkit", "-f", "-P", pid, "-U", self._socket, "-e", "disk", "file",
             *images.values()], preexec_fn=fleece.die_with_parent)
        fleece.wait_ready(self.process, pid, "nbdkit")
        os.unlink(pid)

    def uri(self):
        return fleece.uri("disk", unix=self._socket)

    @staticmethod
    def version():
        return fleece.run("nbdkit", "--version").stdout.strip()


def installed():
    """The servers that are there, ours first."""
    found = [Nbdfleece]
    for kind, program in (Qsd, "qemu-storage-daemon"), (Nbdkit, "nbdkit"):
        if shutil.which(program):
            found.append(kind)
    return found


def make_image(path, size):
    """A file without holes or zeroes."""
    rng = random.Random(1)
    with open(path, "wb") as f:
        for _ in range(0, size, MIB):
            f.write(rng.randbytes(MIB))
