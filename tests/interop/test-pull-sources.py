#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`fleecectl pull` from newer servers of other projects: tests/foreign/test-pull-sources.py, by `make
check-interop`."""

import peers

peers.run_test("foreign/test-pull-sources.py")
