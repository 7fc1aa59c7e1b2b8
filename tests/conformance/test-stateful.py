#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The lines once more, on servers with a state folder: clients cannot tell that bitmaps are
persistent."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import again  # noqa: E402
from tap import main, test  # noqa: E402


@test
def every_line():
    again.every_line(state=True)


main()
