# SPDX-License-Identifier: BSD-3-Clause
"""Whole copies of disks: fleecectl against nbdcopy and qemu-img, all from our server, and into
memory. A backup is of a point in time, so the others read a view, too. It has checksums of all that
it writes, and ends when its files are synced."""

import contextlib
import json
import os
import random
import subprocess
import time

import clients
import fleece
from figures import NBDCOPY, OURS, QEMU_IMG
from rig import GIB, KIB, MIB
from rivals import Disk
from setting import folder, make_image, make_sparse
from state import Stateful

FULL = 1024 * MIB
REAL = 512 * MIB  # of files that can be compressed
LARGE = 16 * GIB
CLUSTER = 64 * KIB
CHANGED = LARGE // 100 // CLUSTER * CLUSTER
# What qemu-img is fastest with.
PARALLEL = ["-W", "-m", "16"]


class Tool:
    """A program that has run to its end: how long it took, its processor time, in seconds, its
    resident memory at its most, in bytes, and its standard output."""

    def __init__(self, *command):
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                   preexec_fn=fleece.die_with_parent, text=True)
        self.output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{command}: exit code {process.returncode}\n{self.output}")
        self.seconds = time.monotonic() - start
        self.cpu = usage.ru_utime + usage.ru_stime
        self.memory = usage.ru_maxrss * 1024


def fleecectl(server, *words):
    return Tool(fleece.FLEECECTL, "-C", server.qmp_path, *words)


def backup(server, repository, disk, *words):
    """Back up a disk; (the tool, what it says of the disk)."""
    tool = fleecectl(server, "--json", "backup", "-o", repository, "--include", disk, *words)
    return tool, json.loads(tool.output.splitlines()[-1])["disks"][0]


class Source(Stateful):
    """Ours, whose disks are backed up."""

    @property
    def qmp_path(self):
        return self._server.qmp_path


@contextlib.contextmanager
def source(setting, make, view=False):
    """A server whose disks `make`(folder) makes. `view`: `disk` has a view, exported as `view`."""
    with folder(setting.memory, "source") as place, folder(setting.disk, "source") as state, \
            setting.start(Source, place, make(place), state=f"{state}/state",
                          view=view) as server:
        yield server


def make_real(path, size):
    """A file of the contents of this machine's programs and libraries, which can be compressed."""
    left = size
    with open(path, "wb") as f:
        while left > 0:
            before = left
            for where, _, names in os.walk("/usr/lib"):
                for name in sorted(names):
                    file = os.path.join(where, name)
                    if left > 0 and os.path.isfile(file) and not os.path.islink(file):
                        with contextlib.suppress(OSError), open(file, "rb") as g:
                            left -= f.write(g.read(left))
            if left == before:
                raise RuntimeError("there are no files in /usr/lib")
    return path


def add_cpu(results, part, key, name, tool, size):
    """On a busy machine this is steadier than a rate."""
    results.add(part, f"{key}-cpu", name, tool.cpu / (size / GIB), less=True, unit="s",
                title="the client's CPU time for 1 GiB")


# ---- full ----

def full_tools(server, disk, place, compressed):
    """{name of a figure's server: how to copy all of the disk}"""
    uri = server.uri("view")
    zstd = ["-c", "-o", "compression_type=zstd", *PARALLEL] if compressed else []
    tools = {
        OURS: lambda: backup(server, f"{place}/repo", disk,
                             *(["--compress=zstd"] if compressed else []))[0],
        QEMU_IMG: lambda: Tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *zstd, uri,
                               f"{place}/it.qcow2"),
    }
    if not compressed:
        tools[NBDCOPY] = lambda: Tool("nbdcopy", uri, f"{place}/it.raw")
    return tools


def add_summed(results, part, key, name, title, size, seconds, place):
    """The same, with a checksum of what was made, as ours has it already."""
    file = {NBDCOPY: "it.raw", QEMU_IMG: "it.qcow2"}.get(name)
    if file:
        seconds += Tool("openssl", "dgst", "-sha256", f"{place}/{file}").seconds
    results.add(part, f"{key}-summed", name, size / seconds / 1e6, unit="MB/s",
                title=f"{title}; the others and then `openssl dgst -sha256`")


def measure_full(setting, results, part, key, title, size, make, goals):
    compressed = key == "zstd"
    with source(setting, lambda place: {"disk": Disk(make(f"{place}/disk", size))},
                view=True) as server:
        for _, name in setting.turns(list(full_tools(server, "disk", "", compressed)), title):
            with folder(setting.memory, "target") as place:
                tool = full_tools(server, "disk", place, compressed)[name]()
                if not compressed:
                    add_summed(results, part, key, name, title, size, tool.seconds, place)
            results.add(part, key, name, size / tool.seconds / 1e6, title=title, unit="MB/s",
                        goals=goals)
            add_cpu(results, part, key, name, tool, size)
            results.add(part, f"{key}-memory", name, tool.memory / MIB, less=True, limit=128,
                        title="the client's resident memory at its most", unit="MiB")


# ---- pull: no session, and no checksums ----

def measure_pull(setting, results, part):
    with source(setting, lambda place: {"disk": Disk(make_image(f"{place}/disk", FULL))},
                view=True) as server:
        uri = server.uri("view")
        pull = [fleece.FLEECECTL, "pull", uri, "-o"]
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri]
        for kind, other, command, goal in (("raw", NBDCOPY, ["nbdcopy", uri], 0.9),
                                           ("qcow2", QEMU_IMG, convert, 1)):
            title = f"pull of 1 GiB of data, to a {kind} file"
            for _, name in setting.turns([OURS, other], title):
                with folder(setting.memory, "target") as place:
                    tool = Tool(*(pull if name == OURS else command), f"{place}/it.{kind}")
                results.add(part, f"pull-{kind}", name, FULL / tool.seconds / 1e6, title=title,
                            unit="MB/s", goals={other: goal})


# ---- incremental ----

def change(server, seed):
    """Write CHANGED bytes in random clusters of 64 KiB."""
    clusters = random.Random(seed).sample(range(LARGE // CLUSTER), CHANGED // CLUSTER)
    data = random.Random(seed).randbytes(CLUSTER)
    handle, = clients.connect(server.uri("disk"), 1)
    for cluster in clusters:
        handle.pwrite(data, cluster * CLUSTER)
    handle.shutdown()


def measure_incremental(setting, results, part):
    """Of a disk that is sparse but for what changes; nbdcopy reads a view of as many bytes."""
    def disks(place):
        return {"disk": Disk(make_sparse(f"{place}/disk", LARGE)),
                "small": Disk(make_image(f"{place}/small", CHANGED // MIB * MIB))}

    title = "incremental backup of 16 GiB with 1 % changed"
    with source(setting, disks) as server, folder(setting.memory, "repository") as place:
        backup(server, f"{place}/repo", "disk")
        server.export_view("small")
        for n, name in setting.turns([OURS, NBDCOPY], title):
            if name == NBDCOPY:
                with folder(setting.memory, "target") as target:
                    seconds = Tool("nbdcopy", server.uri("view"), f"{target}/it.raw").seconds
                seconds *= CHANGED / (CHANGED // MIB * MIB)
            else:
                change(server, n)
                tool, disk = backup(server, f"{place}/repo", "disk")
                if disk["level"] != "inc":
                    raise RuntimeError(f"not incremental: {disk}")
                seconds = tool.seconds
                results.add(part, "inc-read", OURS, disk["read"] / CHANGED, less=True, limit=1.05,
                            title=f"bytes read for each dirty byte, {title}", unit="ratio")
                results.add(part, "inc-memory", OURS, tool.memory / MIB, less=True, limit=128,
                            title="the client's resident memory at its most", unit="MiB")
            results.add(part, "inc", name, seconds, less=True, goals={NBDCOPY: 1.3}, unit="s",
                        title=f"{title}; nbdcopy: as many bytes in one run")


# ---- restore ----

def measure_restore(setting, results, part, key, title, size, make, words):
    with source(setting, lambda place: {"disk": Disk(make(f"{place}/disk", size))}) as server, \
            folder(setting.memory, "repository") as place:
        repository = f"{place}/repo"
        _, disk = backup(server, repository, "disk", *words)
        commands = {
            OURS: [fleece.FLEECECTL, "restore", repository, "--disk", "disk", "-o"],
            QEMU_IMG: ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", *PARALLEL,
                       f"{repository}/{disk['file']}"],
        }
        for _, name in setting.turns(list(commands), title):
            with folder(setting.memory, "target") as target:
                tool = Tool(*commands[name], f"{target}/it.raw")
            results.add(part, key, name, size / tool.seconds / 1e6, title=title, unit="MB/s",
                        goals={QEMU_IMG: 1})
            add_cpu(results, part, key, name, tool, size)


def measure(setting, results, part):
    measure_full(setting, results, part, "full", "full backup of 1 GiB of data", FULL, make_image,
                 {NBDCOPY: 0.9, QEMU_IMG: 1})
    measure_full(setting, results, part, "zstd", "full backup of 512 MiB of files, zstd", REAL,
                 make_real, {QEMU_IMG: 1})
    measure_pull(setting, results, part)
    measure_incremental(setting, results, part)
    measure_restore(setting, results, part, "restore", "restore of 1 GiB of data to a raw file",
                    FULL, make_image, [])
    measure_restore(setting, results, part, "restore-zstd",
                    "restore of 512 MiB of files, zstd, to a raw file", REAL, make_real,
                    ["--compress=zstd"])
