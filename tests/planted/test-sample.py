# SPDX-License-Identifier: BSD-3-Clause
"""Some of the planted faults are found: see README.md in this folder. This runs only in builds
without a sanitizer: with one, the tests would find the same faults, but building takes much longer.

The list itself determines which faults are taken, so that all runs of the same code have the same
result. FLEECE_PLANTED_SEED chooses others; FLEECE_PLANTED_NUMBER is how many (5).
"""

import os
import zlib

import records
import run
import tree
from fleece import BUILD, SOURCE
from tap import main, note, test

NUMBER = int(os.environ.get("FLEECE_PLANTED_NUMBER", "5"))
# Building on a busy machine takes longer than a test should.
os.environ.setdefault("FLEECE_TEST_TIMEOUT", "1200")


def seed_of_the_list():
    return zlib.crc32("".join(sorted(fault.name for fault in records.load())).encode())


SEED = int(os.environ.get("FLEECE_PLANTED_SEED", 0)) or seed_of_the_list()


@test
def a_sample_is_found():
    note(f"FLEECE_PLANTED_SEED={SEED}")
    faults = records.sample(records.load(), NUMBER, SEED)
    verdicts = run.prove_all(faults, SOURCE, BUILD, make_jobs=2, report=note)
    assert [v for v in verdicts if v.word != run.FOUND] == []
    assert len(verdicts) == NUMBER


@test
def the_runner_tells_what_is_not_found():
    """It gets a change that no test can find, one that does not build, and one whose test does
    nothing even without it."""
    def fault(name, old, new, found_by):
        return records.Fault(name, "common/base/size.c", "", found_by, None, [(old, new)], name)
    with open(os.path.join(SOURCE, "common/base/size.c"), encoding="utf-8") as f:
        old = f.readline()
    finder = [("tests/unit/common/test-size", None)]
    verdicts = run.prove_all([fault("harmless", old, old + "/* */\n", finder),
                              fault("no-c", old, old + "this is not C;\n", finder),
                              fault("no-test", old, "", [("tests/unit/common/test-size", "/none")])],
                             SOURCE, BUILD, make_jobs=2, report=note)
    assert [v.word for v in verdicts] == [run.NOT_FOUND, run.NOT_BUILT, run.NO_BASE], verdicts


@test
def nothing_is_left_behind():
    left = [name for name in os.listdir(BUILD) if name.startswith(tree.PREFIX)]
    assert left == [], left


main()
