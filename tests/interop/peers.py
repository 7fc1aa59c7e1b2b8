# SPDX-License-Identifier: BSD-3-Clause
"""NBD clients that are newer than the system's, in a folder of their own: $INTEROP_ROOT, or one
that make-root makes in the build folder, once. That folder's own loader starts the programs, so
that they use its libraries and none of the system's."""

import glob
import os
import subprocess

import tap
from fleece import run

HERE = os.path.dirname(os.path.abspath(__file__))
MAKE_SECONDS = 900


class Peers:
    """The programs of one root folder."""

    def __init__(self, root):
        self.root = root
        self._loader = self._one("lib*/ld-linux*.so.*", "usr/lib*/ld-linux*.so.*")
        self._libraries = self._one("usr/lib/*-linux-gnu*")

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
