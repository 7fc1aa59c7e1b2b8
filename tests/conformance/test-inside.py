#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The lines once more, inside TLS: the framing of messages must not depend on where records end."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import suite  # noqa: E402
from client import NotOffered  # noqa: E402
from lines import FAIL, NA, run_lines  # noqa: E402
from ours import Ours  # noqa: E402
from tap import main, note, skip, test  # noqa: E402


@test
def every_line():
    absent = suite.features(suite.read_expected(), suite.OURS)
    try:
        target = Ours(inside=True).__enter__()
    except NotOffered as missing:
        assert missing.feature in absent, missing
        skip(f"not offered yet: {missing}")
    try:
        parts = [part for _, parts in run_lines(target) for part in parts]
        wrong = [part for part in parts if part.result == FAIL or (
            part.result == NA and part.feature not in absent | {"no tls"})]
        for part in wrong:
            note(f"{part.line}, {part.name}: {part.why}\n{part.trace}")
        assert not wrong, f"{len(wrong)} parts"
    finally:
        target.stack.close()


main()
