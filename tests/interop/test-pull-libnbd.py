#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""tests/foreign/test-pull-sources.py with newer servers, and a newer libnbd in fleecectl: a part
of `make check-interop`."""

import peers

peers.run_test("foreign/test-pull-sources.py", newer_libnbd=True)
