# SPDX-License-Identifier: BSD-3-Clause
"""A private copy of a source tree and of its build, in which faults may be planted.

The build is copied as well. The copies have the same places relative to each other as the
originals, so that make only builds again what a fault changes.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

# Folders that are never copied: building does not need them, or they are other builds.
SKIPPED = {".git", "autom4te.cache", "__pycache__", "build", "interop-root"}
PREFIX = "planted-"  # of the folders that a Tree is in
# Files that make reads and that may name the folder of the build or of the source.
WITH_PATHS = re.compile(r"(Makefile|config\.status|environment|libtool|.*\.Pl?o)")
# Seconds after which a build is taken to hang.
BUILD_LIMIT = 600


class BuildFailed(Exception):
    """make failed; its text is the end of what make said."""


class Outcome:
    """The result of one run of a test program.

    results  {name: "ok" | "not ok" | "skip"}
    problem  why the program itself failed, None if it ended as it should
    seconds  that it took
    """

    def __init__(self, results, problem, seconds, output):
        self.results = results
        self.problem = problem
        self.seconds = seconds
        self.output = output

    @property
    def passed(self):
        """Something was tested and nothing failed."""
        return self.problem is None and set(self.results.values()) <= {"ok", "skip"} and \
            "ok" in self.results.values()

    def failure(self):
        """The first thing that failed, in a few words; None if nothing did."""
        failed = [name for name, result in self.results.items() if result == "not ok"]
        return failed[0] if failed else self.problem

    def broke(self, baseline):
        """What failed here that passed in `baseline`, in a few words; None if nothing did."""
        failed = [name for name, result in self.results.items()
                  if result == "not ok" and baseline.results.get(name) == "ok"]
        return failed[0] if failed else self.problem


def _copy(source, target, skipped, change):
    """Copy a folder and keep the times of its files. Folders of `skipped` (paths) and of SKIPPED
    (names) are left out. `change`(text) changes the text of the files that WITH_PATHS names."""
    for path, dirs, files in os.walk(source):
        dirs[:] = [d for d in dirs if d not in SKIPPED and not d.startswith(PREFIX)
                   and os.path.join(path, d) not in skipped]
        to = os.path.join(target, os.path.relpath(path, source))
        os.makedirs(to, exist_ok=True)
        for name in files:
            old, new = os.path.join(path, name), os.path.join(to, name)
            if name.endswith((".log", ".trs")) or not os.path.isfile(old):
                continue
            shutil.copy2(old, new)
            os.chmod(new, os.stat(new).st_mode | 0o200)
            if WITH_PATHS.fullmatch(name):
                _edit(new, change)


def _edit(path, change):
    """Change a file's text and keep its time."""
    times = os.stat(path)
    with open(path, encoding="utf-8", errors="surrogateescape") as f:
        text = f.read()
    if change(text) != text:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as f:
            f.write(change(text))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _tap(text):
    """The results in a test program's output, and whether there are as many as its plan says."""
    results, planned, number = {}, None, 0
    for line in text.splitlines():
        plan = re.fullmatch(r"1\.\.(\d+).*", line)
        if plan:
            planned = int(plan[1])
        match = re.match(r"(ok|not ok)\b *(\d*) *-? *(.*)", line)
        if not match:
            continue
        number += 1
        name, _, directive = match[3].partition(" # ")
        skipped = directive.upper().startswith("SKIP")
        results[f"{name}"] = "skip" if skipped and match[1] == "ok" else match[1]
    return results, planned == number and number > 0


class Tree:
    """The copy, which is below the build folder. close() removes it."""

    def __init__(self, source, build, make_jobs=1):
        source, build = os.path.realpath(source), os.path.realpath(build)
        self._jobs = make_jobs
        self.root = tempfile.mkdtemp(prefix=PREFIX, dir=build)
        common = os.path.commonpath([source, build])
        self.source = os.path.normpath(os.path.join(self.root, os.path.relpath(source, common)))
        self.build = os.path.normpath(os.path.join(self.root, os.path.relpath(build, common)))
        new = {source: self.source, build: self.build}
        names = re.compile("|".join(f"{re.escape(p)}(?![^/\\s'\":;])"
                                    for p in sorted(new, key=len, reverse=True)))
        try:
            for path in {source, build}:
                _copy(path, new[path], {source, build} - {path},
                      lambda text: names.sub(lambda m: new[m[0]], text))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        shutil.rmtree(self.root, ignore_errors=True)

    # ---- faults ----

    def plant(self, fault):
        """Put a fault in. Returns a function that takes it out again."""
        path = os.path.join(self.source, fault.path)
        with open(path, encoding="utf-8") as f:
            text = f.read()
        faulty = fault.applied(text)

        def write(content):
            with open(path, "w", encoding="utf-8") as f:
                f.write(content)
        write(faulty)
        return lambda: write(text)

    # ---- building and running ----

    def make(self, tests):
        """Build what the test programs need. Raises BuildFailed."""
        # Tests in Python run the programs, and tests of the plugin host load our plugins: both need
        # `all`. It is made alone first: it is a make of its own within make, and another goal
        # beside it would make the same library at the same time.
        if any(test.endswith(".py") or test.startswith("tests/backend/") for test in tests):
            self._make(["all"])
        # What these run is not in `all`.
        if any(test.endswith(".py") and test.startswith("tests/copy/") for test in tests):
            self._make(["tests/copy/copy-nbd"])
        self._make([test for test in tests if not test.endswith(".py")])

    def _make(self, targets):
        if not targets:
            return
        env = {key: value for key, value in os.environ.items()
               if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "srcdir")}
        done = subprocess.run(["make", "-C", self.build, "-s", f"-j{self._jobs}", *targets],
                              env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=BUILD_LIMIT)
        if done.returncode != 0:
            raise BuildFailed(done.stdout[-3000:])

    def run(self, test, inside, limit):
        """Run a test program, or only the test `inside` it, for at most `limit` seconds."""
        if test.endswith(".py"):
            command = [os.environ.get("PYTHON") or sys.executable,
                       os.path.join(self.source, test)] + ([inside] if inside else [])
        else:
            command = [os.path.join(self.build, test), "--tap"] + (["-p", inside] if inside else [])
        env = {**os.environ, "top_builddir": self.build, "top_srcdir": self.source,
               "PYTHONPATH": os.path.join(self.source, "tests", "lib"),
               "PYTHONDONTWRITEBYTECODE": "1", "FLEECE_TEST_TIMEOUT": str(limit)}
        env.pop("FLEECE_LONG", None)
        start = os.times().elapsed
        # The output goes into a file, because a process that a test leaves behind would keep a pipe
        # open.
        with tempfile.TemporaryFile(mode="w+", errors="replace", dir=self.root) as out:
            process = subprocess.Popen(command, cwd=self.build, env=env, stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                self._end(process)
            seconds = os.times().elapsed - start
            out.seek(0)
            output = out.read()
        results, complete = _tap(output)
        problem = None
        if code is None:
            problem = f"it took longer than {limit} s"
        elif code < 0:
            said = re.search(r"^(?:not ok [^-]*- |Bail out! |)\S*ERROR:(\S+): (.*)", output, re.M)
            problem = f"{os.path.basename(said[1])}: {said[2]}" if said else \
                f"it ended by {signal.Signals(-code).name}"
        elif not complete or (code > 0 and "not ok" not in results.values()):
            problem = f"it ended with {code} before its last test"
        return Outcome(results, problem, seconds, output)

    @staticmethod
    def _end(process):
        """End a test program and all that it has started and that is still in its group."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
