# SPDX-License-Identifier: BSD-3-Clause
"""NBD programs that are newer than the system's, in a folder of their own: $INTEROP_ROOT, or one
that make-root makes in the build folder, once. That folder's own loader starts the programs, so
that they use its libraries and none of the system's."""

import glob
import os
import runpy
import shlex
import subprocess

import fleece
import tap
from fleece import SOURCE, run, tmpdir

HERE = os.path.dirname(os.path.abspath(__file__))
MAKE_SECONDS = 900
# What tests start by name.
PROGRAMS = ["nbdcopy", "nbdinfo", "nbdkit", "qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon"]

# nbdkit has the path of its plugins and filters built in, and that is the system's. This gives it the
# root's by their paths. {command} and {modules} are quoted for a shell.
NBDKIT = """#!/bin/bash
modules={modules}
words=() plugin=
for word; do
    case $word in --filter=*)
        word=--filter=$modules/filters/nbdkit-${{word#*=}}-filter.so ;;
    esac
    if [ -z "$plugin" ] && [ -f "$modules/plugins/nbdkit-$word-plugin.so" ]; then
        word=$modules/plugins/nbdkit-$word-plugin.so plugin=$word
    fi
    words+=("$word")
done
exec {command} "${{words[@]}}"
"""


class Peers:
    """The programs of one root folder."""

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self._loader = self._one("lib*/ld-linux*.so.*", "usr/lib*/ld-linux*.so.*")
        self._libraries = self._one("usr/lib/*-linux-gnu*")
        for program in PROGRAMS:
            self._one(f"usr/bin/{program}")

    def _one(self, *patterns):
        for pattern in patterns:
            found = sorted(glob.glob(os.path.join(self.root, pattern)))
            if found:
                return found[0]
        raise FileNotFoundError(f"{self.root} has no {patterns[0]}")

    def command(self, program, *args):
        path = self._one(f"usr/bin/{program}")
        return [self._loader, "--library-path", self._libraries, path, *args]

    def run(self, program, *args, **kwargs):
        return run(*self.command(program, *args), **kwargs)

    def python(self, code, *args):
        """Run code in this root's Python, whose module nbd is its libnbd's."""
        env = {"PYTHONHOME": os.path.join(self.root, "usr"), "PYTHONPATH": ""}
        python = os.path.basename(self._one("usr/bin/python3.[0-9]*"))
        return self.run(python, "-c", code, *args, env=env).stdout

    def fleecectl(self, folder):
        """Make a command in `folder`, whose path is returned: our fleecectl with this root's libnbd,
        and its other libraries where it has them."""
        folders = f"{self._libraries}:/usr/lib/{os.path.basename(self._libraries)}"
        return self._script(folder, "fleecectl", [self._loader, "--library-path", folders,
                                                  fleece.FLEECECTL])

    @staticmethod
    def _script(folder, name, command, text='#!/bin/sh\nexec {command} "$@"\n', **words):
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.format(command=shlex.join(command), **words))
        os.chmod(path, 0o755)
        return path

    def install(self, folder):
        """Make commands in `folder` that start PROGRAMS."""
        modules = os.path.join(self._libraries, "nbdkit")
        for name in PROGRAMS:
            special = {"text": NBDKIT, "modules": shlex.quote(modules)} if name == "nbdkit" else {}
            self._script(folder, name, self.command(name), **special)

    def version(self, program):
        return self.run(program, "--version").stdout.splitlines()[0]


def find():
    """(Peers, None), or (None, the reason why there are none)."""
    root = os.environ.get("INTEROP_ROOT")
    if not root:
        root = os.path.join(os.environ.get("top_builddir", "."), "interop-root")
        if not os.path.isdir(root):
            tap.note(f"making {root}")
            try:
                made = subprocess.run([os.path.join(HERE, "make-root"), root], text=True,
                                      stderr=subprocess.PIPE, timeout=MAKE_SECONDS)
            except subprocess.TimeoutExpired:
                return None, f"no newer clients: not here within {MAKE_SECONDS} seconds"
            if made.returncode != 0:
                tap.note(made.stderr)
                return None, f"no newer clients: {(made.stderr.splitlines() or ['?'])[-1]}"
    try:
        return Peers(root), None
    except FileNotFoundError as e:
        return None, f"no newer clients: {e}"


def run_test(name, newer_libnbd=False):
    """Be the test program `name`, a path in tests/, with the newer programs in the place of the
    system's. newer_libnbd: fleecectl, too, runs with the newer library. With that it speaks extended
    headers."""
    peers, why = find()
    if peers and newer_libnbd and fleece.SANITIZER != "no":
        peers, why = None, "a program with a sanitizer runs with the libraries that it was built with"
    if not peers:
        print(f"1..0 # SKIP {why}")
        return
    with tmpdir() as folder:
        peers.install(folder)
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
        if newer_libnbd:
            fleece.FLEECECTL = peers.fleecectl(folder)
        for program in PROGRAMS:
            tap.note(peers.version(program))
        runpy.run_path(os.path.join(SOURCE, "tests", name), run_name="__main__")
