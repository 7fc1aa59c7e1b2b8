# SPDX-License-Identifier: BSD-3-Clause
"""All lines once more, on a server of ours with other options, as one test."""

import suite
from client import NotOffered
from lines import FAIL, NA, run_lines
from ours import Ours
from tap import note, skip


def every_line(missing=(), **options):
    """`options` are those of Ours; `missing` has the features that are not offered with them."""
    absent = suite.features(suite.read_expected(), suite.OURS)
    try:
        target = Ours(**options).__enter__()
    except NotOffered as not_offered:
        assert not_offered.feature in absent, not_offered
        skip(f"not offered yet: {not_offered}")
    try:
        parts = [part for _, parts in run_lines(target) for part in parts]
        wrong = [part for part in parts if part.result == FAIL or (
            part.result == NA and part.feature not in absent | set(missing))]
        for part in wrong:
            note(f"{part.line}, {part.name}: {part.why}\n{part.trace}")
        assert not wrong, f"{len(wrong)} parts"
        target.stack.close()  # fails unless the servers end in order
    finally:
        target.stack.close()
