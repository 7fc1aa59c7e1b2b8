#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""tests/foreign/test-audit-sources.py with newer servers, and a newer libnbd in fleecectl: a part
of `make check-interop`."""

import peers

peers.run_test("foreign/test-audit-sources.py", newer_libnbd=True)
