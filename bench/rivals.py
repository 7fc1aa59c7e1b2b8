# SPDX-License-Identifier: BSD-3-Clause
"""The servers that are compared, each behind the same few methods.

Each is started as its own users would start it: on a Unix socket, no debugging, no filters, its
own defaults. Its disks are {name: Disk}; the main one is called `disk`.
"""

import ctypes
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import figures
import fleece
import peers

LIBC = ctypes.CDLL(None)


@dataclasses.dataclass
class Disk:
    """What holds a disk's bytes: a raw file; by nbdkit's plugins `memory` and `null`, a piece of
    memory, or nothing at all (writes are taken and dropped); or, as kind `nbd`, another NBD server
    whose Unix socket is `path`."""
    path: str = ""
    kind: str = "file"
    size: int = 0


class Process:
    """A server's process, and what it costs. `bitmaps`, `views`, `has_tls`: what it can do."""

    name = "?"
    bitmaps = views = False
    has_tls = True
    tls = None  # a folder of certificates, where clients have to use TLS
    kinds_of_disk = {"file"}

    def __init__(self, folder):
        self._log = os.path.join(folder, "log")
        self.process = None

    @classmethod
    def installed(cls, root):
        """Its version, or None if it is not installed."""
        raise NotImplementedError

    @property
    def pid(self):
        return self.process.pid

    def cpu_seconds(self):
        """User and system time so far, of all threads, also those that have ended. It is exact,
        while the fields of /proc/PID/stat count ticks."""
        clock = ctypes.c_int()
        if (error := LIBC.clock_getcpuclockid(self.pid, ctypes.byref(clock))) != 0:
            raise OSError(error, os.strerror(error), self.name)
        return time.clock_gettime(clock.value)

    def resident(self):
        """Its resident memory, in bytes."""
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))

    def spawn(self, command, **popen):
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(command, stderr=log,
                                            preexec_fn=fleece.die_with_parent, **popen)

    def secured(self, uri):
        """The URI that clients use, made of the plain one."""
        if self.tls is None:
            return uri
        return f"{uri.replace('nbd+unix:', 'nbds+unix:', 1)}&tls-certificates={self.tls}"

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            with open(self._log, errors="replace") as log:
                sys.stderr.write(f"{self.name}:\n{log.read()}")
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(fleece.SOON)
            self.process = None


class Qmp:
    """A server that is controlled by QMP; the commands' names are the same in both. Needs cmd()."""

    def transaction(self, kind, actions):
        self.cmd("transaction", actions=[{"type": kind, "data": data} for data in actions])

    def add_bitmap(self, disk="disk", name="bitmap"):
        self.cmd("block-dirty-bitmap-add", node=disk, name=name)

    def record(self, name, on):
        """Let a bitmap of `disk` record, or not."""
        self.cmd(f"block-dirty-bitmap-{'enable' if on else 'disable'}", node="disk", name=name)

    def clear_bitmaps(self, disks):
        """Clear the bitmaps `bitmap` of several disks at one instant."""
        self.transaction("block-dirty-bitmap-clear",
                         [{"node": disk, "name": "bitmap"} for disk in disks])


class Nbdfleece(Process, Qmp):
    """Ours. `view`: the first disk has a view, made and exported just now, as `view`."""

    name = figures.OURS
    program = fleece.NBDFLEECE
    bitmaps = views = True
    kinds_of_disk = {"file", "memory", "null", "nbd"}

    def __init__(self, root, folder, disks, view=False, tls=None):
        super().__init__(folder)
        self._folder = folder
        self.tls = tls
        args = ["--scratch", folder, *self.options()]
        if tls:
            args += ["--tls=require", f"--tls-certificates={tls}"]
        for name, disk in disks.items():
            args += ["--disk", name, *self._plugin(root, disk)]
        self._server = fleece.Server(*args, dir=folder, program=self.program,
                                     env=self.environment())
        self._server.start()
        self._qmp = self._server.qmp()
        self.cmd = self._qmp.cmd
        if view:
            self.export_view("disk")

    @staticmethod
    def _plugin(root, disk):
        if disk.kind == "file":
            return ["file", disk.path]
        if disk.kind == "nbd":
            return [foreign(root, "nbd"), f"socket={disk.path}"]
        return [foreign(root, disk.kind), f"size={disk.size}"]

    def options(self):
        """Further options of the command line."""
        return []

    def environment(self):
        """What is added to the environment."""
        return {}

    @classmethod
    def installed(cls, root):
        return peers.version([cls.program])

    @property
    def pid(self):
        return self._server.pid

    def crash(self):
        self._server.kill()

    def __exit__(self, *why):
        self._server.__exit__(*why)

    def make_views(self, disks):
        """Views of several disks at one instant."""
        self.transaction("view-create", [{"disk": d, "name": f"view-{d}"} for d in disks])

    def export_view(self, disk):
        """A view of the disk, exported as `view`."""
        self.make_views([disk])
        self.cmd("block-export-add", type="nbd", id="view", name="view",
                 **{"node-name": f"view-{disk}"})

    def delete_views(self, disks):
        for disk in disks:
            self.cmd("view-delete", name=f"view-{disk}")

    def uri(self, name="disk"):
        return self.secured(self._server.uri(name))

    def map_uri(self):
        """The URI of an export that has the bitmap of `disk`: the disk's own."""
        return self.uri()

    def scratch_bytes(self):
        """What views need: (bytes kept, blocks on disk of the unlinked scratch files)."""
        allocated = {}
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            path = f"/proc/{self.pid}/fd/{fd}"
            target = os.readlink(path)
            if target.startswith(self._folder) and target.endswith("(deleted)"):
                stat = os.stat(path)
                allocated[stat.st_ino] = stat.st_blocks * 512
        if not allocated:
            raise RuntimeError("nbdfleece has no scratch file")
        kept = sum(view["scratch-bytes"] for view in self.cmd("query-views"))
        return kept, sum(allocated.values())


class Earlier(Nbdfleece):
    """An earlier version of ours: the program that --earlier names, in its build tree."""

    name = figures.EARLIER
    program = None

    @classmethod
    def installed(cls, root):
        return super().installed(root) if cls.program else None


class Qsd(Process, Qmp):
    """qemu-storage-daemon. `view`: its fleecing setup, a copy-before-write filter that the guest
    writes through, and snapshot-access for the reader; the scratch is a raw file."""

    name = figures.QSD
    bitmaps = views = True
    kinds_of_disk = {"file", "null", "nbd"}

    def __init__(self, root, folder, disks, view=False, tls=None):
        super().__init__(folder)
        self.tls = tls
        self._socket = os.path.join(folder, "sock")
        self._scratch = os.path.join(folder, "scratch")
        options = [option for name, disk in disks.items() for option in self._node(name, disk)]
        if view:
            options += self._fleece(disks["disk"])
        options += self._listen()
        for name in disks:
            node = "cbw" if view and name == "disk" else name
            options += ["--export",
                        f"type=nbd,id={name},name={name},writable=on,node-name={node}"]
        if view:
            options += ["--export", "type=nbd,id=view,name=view,node-name=snapshot"]
        self.spawn([*root.command("qemu-storage-daemon"), *options,
                    "--chardev", "stdio,id=monitor", "--monitor", "monitor"],
                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        json.loads(self.process.stdout.readline())  # the greeting
        self.cmd("qmp_capabilities")                # answered once all the above is done

    def _listen(self):
        server = f"addr.type=unix,addr.path={self._socket}"
        if self.tls is None:
            return ["--nbd-server", server]
        return ["--object", f"tls-creds-x509,id=tls,endpoint=server,verify-peer=off,dir={self.tls}",
                "--nbd-server", f"{server},tls-creds=tls"]

    @staticmethod
    def _node(name, disk):
        backend = f"driver=file,filename={disk.path},discard=unmap"
        if disk.kind == "null":
            backend = f"driver=null-co,size={disk.size},read-zeroes=on"
        if disk.kind == "nbd":
            backend = f"driver=nbd,server.type=unix,server.path={disk.path}"
        return ["--blockdev", f"{backend},node-name={name}"]

    def _fleece(self, disk):
        with open(self._scratch, "wb") as f:
            f.truncate(os.path.getsize(disk.path))
        return ["--blockdev",
                f"driver=file,node-name=scratch,filename={self._scratch},discard=unmap",
                "--blockdev", "driver=copy-before-write,node-name=cbw,file=disk,target=scratch",
                "--blockdev", "driver=snapshot-access,node-name=snapshot,file=cbw"]

    @classmethod
    def installed(cls, root):
        command = root.command("qemu-storage-daemon")
        return peers.version(command) if command else None

    def cmd(self, command, **arguments):
        self.process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        while "event" in (reply := json.loads(self.process.stdout.readline())):
            pass
        if "return" not in reply:
            raise RuntimeError(f"qemu-storage-daemon: {command}: {reply}")
        return reply["return"]

    def uri(self, name="disk"):
        return self.secured(fleece.uri(name, unix=self._socket))

    def map_uri(self):
        """The URI of an export that has the bitmap of `disk`, made for that."""
        self.cmd("block-export-add", type="nbd", id="map", name="map", writable=True,
                 bitmaps=["bitmap"], **{"node-name": "disk"})
        return self.uri("map")

    def scratch_bytes(self):
        allocated = os.stat(self._scratch).st_blocks * 512
        return allocated, allocated


class Nbdkit(Process):
    """nbdkit: one disk a process, no bitmaps, no views."""

    name = figures.NBDKIT
    kinds_of_disk = {"file", "memory", "null"}

    def __init__(self, root, folder, disks, tls=None):
        super().__init__(folder)
        self.tls = tls
        self._socket = os.path.join(folder, "sock")
        disk, = disks.values()
        plugin = [root.builtin(disk.kind),
                  disk.path if disk.kind == "file" else f"size={disk.size}"]
        pid = os.path.join(folder, "pid")
        os.mkfifo(pid)
        secure = ["--tls=require", f"--tls-certificates={tls}"] if tls else []
        self.spawn([*root.command("nbdkit"), "-f", "-P", pid, "-U", self._socket, "-e", "disk",
                    *secure, *plugin])
        fleece.wait_ready(self.process, pid, "nbdkit")
        os.unlink(pid)

    @classmethod
    def installed(cls, root):
        command = root.command("nbdkit")
        return peers.version(command) if command else None

    def uri(self, name="disk"):
        return self.secured(fleece.uri(name, unix=self._socket))


class Bare(Process):
    """bench/bare.c: roughly how fast this machine can serve one file."""

    name = figures.BARE
    has_tls = False

    def __init__(self, root, folder, disks):
        super().__init__(folder)
        self._socket = os.path.join(folder, "sock")
        disk, = disks.values()
        self.spawn([os.path.join(fleece.BUILD, "bench", "bare"), self._socket, disk.path],
                   stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"bench/bare ended with {self.process.wait()}")

    @classmethod
    def installed(cls, root):
        return "bench/bare.c"

    def uri(self, name="disk"):
        return fleece.uri(name, unix=self._socket)


class SlowDisk(Process):
    """A disk in memory at `socket`, whose writes take `ms` ms. It is this machine's nbdkit."""

    name = "slow disk"

    def __init__(self, folder, size, ms):
        super().__init__(folder)
        self.socket = os.path.join(folder, "sock")
        pid = os.path.join(folder, "pid")
        os.mkfifo(pid)
        self.spawn(["nbdkit", "-f", "-P", pid, "-U", self.socket, "--filter=delay", "memory",
                    str(size), f"wdelay={ms}ms"])
        fleece.wait_ready(self.process, pid, "nbdkit")
        os.unlink(pid)


def foreign(root, plugin):
    """The path of a plugin of nbdkit's that our server can load: from the rivals' root where this
    machine's C library is new enough for it, else this machine's."""
    for place in root, peers.Host():
        path = place.plugin(plugin)
        if path and fleece.nbdfleece("--dump-plugin", path, check=False).returncode == 0:
            return path
    raise RuntimeError(f"nbdkit's plugin {plugin} is not installed")


def available(root):
    """{class: version} of the servers that are there, ours first."""
    kinds = {kind: kind.installed(root) for kind in (Nbdfleece, Earlier, Qsd, Nbdkit, Bare)}
    return {kind: version for kind, version in kinds.items() if version}
