#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The lines once more, inside TLS: the framing of messages must not depend on where records end."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import again  # noqa: E402
from tap import main, test  # noqa: E402


@test
def every_line():
    again.every_line(inside=True, missing=["no tls"])


main()
