# SPDX-License-Identifier: BSD-3-Clause
"""Running tests/copy/copy-nbd.c, and what its results mean."""

import contextlib
import signal
import subprocess

from fleece import BUILD, SOON, die_with_parent, run, sanitizer_env, sanitizer_reports, tmpdir

COPY = f"{BUILD}/tests/copy/copy-nbd"
(UNREACHABLE, NO_EXPORT, NO_CONTEXT, CHANGED, FAILED, CANCELLED, TLS) = range(10, 17)


def dirty(name="b0"):
    return f"qemu:dirty-bitmap:{name}"


def mapped(uri, *options):
    """What there is to copy: [(offset, length, "data" or "zero")]."""
    lines = run(COPY, "--map", *options, uri).stdout.splitlines()
    extents = [(int(o), int(n), kind) for o, n, kind in (line.split() for line in lines)]
    position = 0
    for offset, length, _ in extents:
        assert offset >= position and length > 0, extents
        position = offset + length
    return joined(extents)


def joined(extents):
    """Neighbours of one kind as one."""
    whole = []
    for offset, length, kind in extents:
        if whole and whole[-1][2] == kind and whole[-1][0] + whole[-1][1] == offset:
            offset, length = whole[-1][0], whole.pop()[1] + length
        whole.append((offset, length, kind))
    return whole


def copied(uri, *options, onto=None):
    """Copy into a file that holds the bytes `onto`, or a new one. Its content, and the figures
    {"lanes", "read", "written", "zero"}."""
    with tmpdir() as folder:
        target = f"{folder}/out"
        if onto is not None:
            with open(target, "wb") as f:
                f.write(onto)
        words = run(COPY, *options, uri, target).stdout.split()
        with open(target, "rb") as f:
            return f.read(), dict(zip(words[::2], map(int, words[1::2])))


def fails(code, *arguments):
    """Run it; it must fail with this code. What it says."""
    with tmpdir() as folder:
        r = run(COPY, *arguments, *([] if "--map" in arguments else [f"{folder}/out"]), check=False)
    assert r.returncode == code, (r.returncode, r.stdout, r.stderr)
    return r.stderr


class Running:
    """A copy that goes on meanwhile, as a context. `target`: an export; else a file of its own."""

    def __init__(self, *arguments, target=None):
        self.arguments, self.target = arguments, target

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        folder = self._stack.enter_context(tmpdir())
        self.target = self.target or f"{folder}/out"
        map_only = "--map" in self.arguments
        self.process = subprocess.Popen(
            [COPY, *self.arguments, *([] if map_only else [self.target])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=sanitizer_env(folder),
            preexec_fn=die_with_parent)
        self._folder = folder
        return self

    def __exit__(self, *_):
        with self._stack:
            self.process.kill()
            self.process.communicate()
            reports = sanitizer_reports(self._folder)
            assert not reports, reports

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def end(self, code):
        """Wait for its end, with this exit code. What it says."""
        out, err = self.process.communicate(timeout=SOON)
        assert self.process.returncode == code, (self.process.returncode, out, err)
        return err

    def content(self):
        with open(self.target, "rb") as f:
            return f.read()
