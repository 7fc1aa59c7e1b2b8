#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Our server against every line of the conformance suite: it has no deviations, and every line
applies, unless expected.txt says that a feature is not written yet."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import suite  # noqa: E402
from lines import FAIL, LINES, NA, outcome, run_lines  # noqa: E402
from ours import Ours  # noqa: E402
from tap import main, note, skip, test  # noqa: E402

EXPECTED = suite.read_expected()
NOT_OFFERED = suite.features(EXPECTED, suite.OURS)

_missing = set()


def as_test(name, function):
    """The TAP test of one line."""
    def run():
        (_, parts), = run_lines(target, [name])
        for part in parts:
            if part.result == FAIL:
                note(f"{part.name}: {part.why}\n{part.trace}")
            if part.result == NA:
                assert part.feature in NOT_OFFERED, f"{part.name} does not apply: {part.why}"
                _missing.add(part.feature)
        assert outcome(parts) != FAIL, "; ".join(p.name for p in parts if p.result == FAIL)
        does_not_apply = outcome(parts) == NA
        assert does_not_apply == (name in suite.not_applying(EXPECTED, suite.OURS)), (
            "expected.txt says otherwise")
        if does_not_apply:
            skip(f"not offered yet: {', '.join(sorted({p.feature for p in parts}))}")
    run.__name__ = name
    run.__doc__ = function.__doc__
    return test(run)


def complete():
    """Every section has all its lines, numbered without gaps."""
    counts = {"H": 13, "T": 5, "M": 8, "X": 14, "S": 6, "B": 6, "Z": 2, "E": 6}
    wanted = [f"{section}{i + 1}" for section, n in counts.items() for i in range(n)]
    assert [name for name in LINES if name[0] in counts] == wanted


def expected_txt_has_what_we_do_not_offer():
    assert _missing == NOT_OFFERED, f"not offered: {_missing}, in expected.txt: {NOT_OFFERED}"


def readme_has_the_table():
    with open(suite.README) as f:
        assert suite.table(EXPECTED) in f.read(), "run.py --table gives another one"


def nothing_of_ours_deviates():
    assert {row.line for row in EXPECTED if row.server == suite.OURS} <= {suite.FEATURE,
                                                                          suite.NOWHERE}


target = Ours().__enter__()


def the_server_ends_in_order():
    target.stack.close()  # fails unless it exits with 0, and without a sanitizer's report


test(complete)
for line_name, line_function in LINES.items():
    as_test(line_name, line_function)
test(nothing_of_ours_deviates)
test(expected_txt_has_what_we_do_not_offer)
test(readme_has_the_table)
test(the_server_ends_in_order)
try:
    main()
finally:
    target.stack.close()  # does nothing if it has been closed
