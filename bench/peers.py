# SPDX-License-Identifier: BSD-3-Clause
"""Where the other servers come from: this machine, or another root folder.

A folder that debootstrap filled holds programs of another release. They run without root rights
and without chroot when they are started by that release's own dynamic loader, which is told to
take libraries from there and from nowhere else.
"""

import glob
import os
import shutil
import struct
import subprocess

BIN = ["usr/bin", "usr/sbin", "usr/local/bin", "bin", "sbin"]


class Host:
    """What is installed here."""

    def __init__(self):
        self._plugins = os.environ.get("NBDKIT_PLUGINDIR", "")

    def command(self, program):
        """The command line that starts a program, None if it is not installed."""
        path = shutil.which(program)
        return [path] if path else None

    def plugin(self, name):
        """The path of one of nbdkit's plugins, None if it is not installed."""
        path = os.path.join(self._plugins, f"nbdkit-{name}-plugin.so")
        return path if os.path.exists(path) else None

    @staticmethod
    def builtin(name):
        """How nbdkit is told to use its own plugin of this name."""
        return name

    def __str__(self):
        return "this machine's"


class Root:
    """What is in another root folder. It has the methods of Host."""

    def __init__(self, folder):
        self._folder = os.path.abspath(folder)
        if not os.path.isdir(self._folder):
            raise SystemExit(f"BENCH_PEERS: {folder}: no such folder")
        self._libraries = self._library_folders()

    def command(self, program):
        path = self._find([f"{folder}/{program}" for folder in BIN])
        if path is None:
            return None
        loader = inside(self._folder, interpreter(path))
        return [loader, "--inhibit-cache", "--library-path", ":".join(self._libraries),
                "--argv0", program, path]

    def plugin(self, name):
        return self._find([f"{os.path.relpath(folder, self._folder)}/nbdkit/plugins/"
                           f"nbdkit-{name}-plugin.so" for folder in self._libraries])

    def builtin(self, name):
        """Give the path, because that nbdkit's built-in folder is this machine's."""
        return self.plugin(name) or name

    def __str__(self):
        return self._folder

    def _find(self, names):
        for name in names:
            path = inside(self._folder, name)
            if os.path.isfile(path):
                return path
        return None

    def _library_folders(self):
        """The folders in which that root's loader looks: those of its configuration, and the
        usual."""
        names = []
        for conf in sorted(glob.glob(f"{self._folder}/etc/ld.so.conf.d/*.conf")):
            with open(conf) as f:
                names += [line.strip() for line in f if line.startswith("/")]
        names += ["/usr/lib64", "/usr/lib"]
        names += ["/" + os.path.relpath(p, self._folder)
                  for p in sorted(glob.glob(f"{self._folder}/usr/lib/*-linux-gnu*"))]
        folders = dict.fromkeys(inside(self._folder, name) for name in names)
        return [folder for folder in folders if os.path.isdir(folder)]


def inside(root, path):
    """The real path of what is `path` in the folder `root`. Absolute symbolic links lead to places
    inside `root`, as they would after chroot."""
    done, todo, links = "", path.split("/"), 0
    while todo:
        part = todo.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            done = os.path.dirname(done)
            continue
        here = f"{done}/{part}"
        if not os.path.islink(root + here):
            done = here
            continue
        links += 1
        if links > 40:
            raise OSError(f"{root}{path}: too many symbolic links")
        target = os.readlink(root + here)
        if target.startswith("/"):
            done = ""
        todo = target.split("/") + todo
    return root + done


def interpreter(path):
    """The dynamic loader that a 64-bit ELF program asks for (PT_INTERP, elf(5))."""
    with open(path, "rb") as f:
        head = f.read(64)
        if head[:5] != b"\x7fELF\x02":
            raise SystemExit(f"{path}: not a 64-bit ELF program")
        order = "<" if head[5] == 1 else ">"
        at, = struct.unpack_from(order + "Q", head, 32)
        entry, count = struct.unpack_from(order + "HH", head, 54)
        for i in range(count):
            f.seek(at + i * entry)
            segment = f.read(entry)
            kind, = struct.unpack_from(order + "I", segment)
            offset, = struct.unpack_from(order + "Q", segment, 8)
            length, = struct.unpack_from(order + "Q", segment, 32)
            if kind == 3:
                f.seek(offset)
                return f.read(length).rstrip(b"\0").decode()
    raise SystemExit(f"{path}: a program without a dynamic loader")


def version(command):
    """The first line of what `--version` says."""
    result = subprocess.run([*command, "--version"], stdout=subprocess.PIPE, text=True, check=True)
    return result.stdout.splitlines()[0].strip()


def find(folder):
    """The source of rivals: another root if `folder` is set."""
    return Root(folder) if folder else Host()
