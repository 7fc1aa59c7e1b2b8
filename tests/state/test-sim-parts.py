#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""All sequences of up to four steps of the simulation, with a death at each point: those that
tests/unit/state/test-sim leaves out of `make check`, in parts, so that each of them ends in time. Two
parts run at once."""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

from fleece import BUILD
from tap import main, note, test

PARTS = 8
AT_ONCE = 2
# Crashes of a part.
LEAST = 150_000

counts = []


def run(part):
    """The number of a part's crashes."""
    env = {**os.environ, "FLEECE_SIM_PART": f"{part}/{PARTS}"}
    result = subprocess.run([os.path.join(BUILD, "tests/unit/state/test-sim"), "-p", "/sim/all",
                             "--tap"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, errors="replace", check=False)
    for line in result.stdout.splitlines()[-40:]:
        note(f"part {part}: {line}")
    assert result.returncode == 0, result.returncode
    return int(re.search(r"crashes (\d+)", result.stdout).group(1))


def take(first):
    parts = range(first, first + AT_ONCE)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        counts.extend(pool.map(run, parts))
    assert min(counts) >= LEAST, counts


@test
def the_first_quarter():
    take(0)


@test
def the_second_quarter():
    take(2)


@test
def the_third_quarter():
    take(4)


@test
def the_last_quarter():
    take(6)


@test
def all_of_them():
    note(f"{sum(counts)} crashes, 0 wrong")
    assert sum(counts) >= 1_000_000, counts


main()
