#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Plant faults, one at a time, and show that their tests find them: see README.md in this folder.

    make check-planted                      all of them
    make check-planted PLANTED='NAME...'    those; a name may be a pattern such as 'tls-*', or a
                                            file such as nbd.faults

Exits with 0 if every one was found.
"""

import argparse
import concurrent.futures
import fnmatch
import os
import queue
import sys
import textwrap
import threading

import records
import tree

# A test may take FACTOR times as long as without the fault, and at least LEAST_LIMIT seconds.
# Without a fault it may take FIRST_LIMIT seconds.
FACTOR = 10
LEAST_LIMIT = 30
FIRST_LIMIT = 300

FOUND, NOT_FOUND, NOT_BUILT, NO_BASE = "found", "NOT FOUND", "DID NOT BUILD", "NO BASELINE"


class Verdict:
    """The result for a fault: one of the four words, and why."""

    def __init__(self, fault, word, why="", seconds=0.0):
        self.fault = fault
        self.word = word
        self.why = why
        self.seconds = seconds

    def __str__(self):
        text = f"{self.word:13} {self.fault.name} ({self.fault.path}), {self.seconds:.1f} s"
        return f"{text}: {self.why}" if self.why else text


class Prover:
    """Proves faults in a tree. Provers share the baselines {(test, inside): Outcome}."""

    def __init__(self, place, baselines, lock):
        self.tree = place
        self._baselines = baselines
        self._lock = lock

    def baseline(self, key):
        """The Outcome of a test in the tree without a fault."""
        with self._lock:
            known = self._baselines.get(key)
        if known is None:
            known = self.tree.run(*key, FIRST_LIMIT)
            with self._lock:
                self._baselines[key] = known
        return known

    def prove(self, fault):
        """Plant a fault and run its tests: each alone must find it."""
        tests = [test for test, _ in fault.found_by]
        start = os.times().elapsed
        try:
            self.tree.make(tests)
            for key in fault.found_by:
                if not self.baseline(key).passed:
                    base = self.baseline(key)
                    return Verdict(fault, NO_BASE, f"{key[0]} fails or does nothing without the "
                                   f"fault: {base.failure()}\n{base.output[-3000:]}")
        except tree.BuildFailed as error:
            return Verdict(fault, NO_BASE, f"without the fault, make fails:\n{error}")
        take_out = self.tree.plant(fault)
        try:
            self.tree.make(tests)
            verdict = self._judge(fault)
        except tree.BuildFailed as error:
            verdict = Verdict(fault, NOT_BUILT, f"\n{error}")
        finally:
            take_out()
        verdict.seconds = os.times().elapsed - start
        return verdict

    def _judge(self, fault):
        how = []
        for key in fault.found_by:
            base = self.baseline(key)
            limit = fault.limit or max(LEAST_LIMIT, int(FACTOR * base.seconds))
            outcome = self.tree.run(*key, limit)
            broke = outcome.broke(base)
            if broke is None:
                return Verdict(fault, NOT_FOUND, f"{':'.join(filter(None, key))} passes; "
                               f"{fault.breaks}")
            how.append(f"{key[0]}: {broke}")
        return Verdict(fault, FOUND, "; ".join(how))


def prove_all(faults, source, build, jobs=1, make_jobs=1, report=print, keep=False):
    """Prove faults in `jobs` trees at a time. report(Verdict) is called for each as it is done.
    Returns the Verdicts."""
    # Faults of one file follow each other, because then it is compiled less often.
    faults = sorted(faults, key=lambda fault: fault.path)
    trees, provers, lock, baselines = [], queue.SimpleQueue(), threading.Lock(), {}

    def prove(fault):
        prover = provers.get()
        try:
            verdict = prover.prove(fault)
        finally:
            provers.put(prover)
        with lock:
            report(verdict)
        return verdict
    try:
        for _ in range(min(jobs, len(faults))):
            trees.append(tree.Tree(source, build, make_jobs))
            provers.put(Prover(trees[-1], baselines, lock))
        with concurrent.futures.ThreadPoolExecutor(len(trees)) as pool:
            return list(pool.map(prove, faults))
    finally:
        for one in trees:
            if keep:
                print(f"# kept: {one.root}", file=sys.stderr)
            else:
                one.close()


def table(verdicts):
    """The lines of a table: how many faults were found in each folder."""
    folders = sorted({verdict.fault.folder for verdict in verdicts})
    words = (FOUND, NOT_FOUND, NOT_BUILT, NO_BASE)
    yield f"{'folder':16}" + "".join(f"{word.lower():>15}" for word in words)
    for folder in folders:
        counts = [sum(v.word == word for v in verdicts if v.fault.folder == folder)
                  for word in words]
        yield f"{folder:16}" + "".join(f"{count:15}" for count in counts)
    found = sum(verdict.word == FOUND for verdict in verdicts)
    yield f"{len(verdicts)} planted faults, {found} found, {len(verdicts) - found} not"


def chosen(faults, patterns):
    """The faults that one of the patterns matches. A pattern that matches none ends the program."""
    def matches(fault, pattern):
        return fnmatch.fnmatchcase(fault.name, pattern) or fault.where.split(":")[0] == pattern
    for pattern in patterns:
        if not any(matches(fault, pattern) for fault in faults):
            sys.exit(f"run.py: there is no planted fault named {pattern}")
    return [fault for fault in faults
            if not patterns or any(matches(fault, p) for p in patterns)]


def main():
    parser = argparse.ArgumentParser(description="Plant faults and show that tests find them.")
    parser.add_argument("--source", default=os.environ.get("top_srcdir"), help="the source tree")
    parser.add_argument("--build", default=os.environ.get("top_builddir"),
                        help="its build, in which `make check TESTS=` has been done")
    parser.add_argument("-j", "--jobs", type=int, default=len(os.sched_getaffinity(0)),
                        help="how many at a time, each in a copy of the build (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the copies there")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these; may be a pattern")
    args = parser.parse_args()
    if not args.source or not args.build:
        parser.error("--source and --build are needed; `make check-planted` gives them")
    try:
        faults = chosen(records.load(), args.names)
    except records.Malformed as error:
        sys.exit(f"run.py: {error}")
    known = records.default_tests(args.source)
    wrong = [text for fault in faults for text in records.complaints(fault, args.source, known)]
    if wrong:
        sys.exit("\n".join(wrong))
    if not faults:
        sys.exit("run.py: there are no planted faults")

    def report(verdict):
        head, _, rest = str(verdict).partition("\n")
        print(head + ("\n" + textwrap.indent(rest, "    ") if rest else ""), flush=True)
    verdicts = prove_all(faults, args.source, args.build, args.jobs, report=report, keep=args.keep)
    print("\n".join(table(verdicts)))
    sys.exit(any(verdict.word != FOUND for verdict in verdicts))


if __name__ == "__main__":
    main()
