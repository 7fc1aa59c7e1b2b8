#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A check of the checker: qemu-nbd and nbdkit deviate from the lines exactly as expected.txt
says."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import others  # noqa: E402
import suite  # noqa: E402
from client import NotOffered  # noqa: E402
from lines import run_lines  # noqa: E402
from tap import main, note, skip, test  # noqa: E402


def check(make):
    try:
        target = make()
    except NotOffered as missing:
        skip(str(missing))
    rows = suite.read_expected()
    if target.name not in {row.server for row in rows}:
        skip(f"expected.txt has no rows for {target.name} yet")
    with target:
        results = run_lines(target)
    wrong = suite.compare(results, rows, target.name)
    for sentence in wrong:
        note(sentence)
    assert not wrong, f"{len(wrong)} differences from expected.txt"


@test
def qemu_nbd():
    check(others.QemuNbd)


@test
def nbdkit():
    check(others.Nbdkit)


main()
