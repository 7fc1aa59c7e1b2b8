# SPDX-License-Identifier: BSD-3-Clause
"""The demonstration of quickstart.sh works and proves what it promises."""

import os

import fleece
from fleece import BUILD, SOURCE, run
from tap import main, test


@test
def demo():
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    for program in "mke2fs", "debugfs", "e2fsck", "nbdcopy", "nbdinfo":
        fleece.require_program(program)
    out = run("/bin/bash", f"{SOURCE}/tests/demo.sh", BUILD, timeout=250).stdout
    for line in ("the same, byte by byte", "the live disk is another one",
                 "no block that changed around the crash", "corruptions: 0",
                 "both disks, out of the repository", "Done: all as it should be"):
        assert line in out, out


main()
