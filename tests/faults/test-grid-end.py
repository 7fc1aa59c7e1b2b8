#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Calls fail while the server ends by SIGTERM, with requests of all clients and a command under way
(README.md)."""

import rows
from ending import EndRun
from tap import main

rows.nothing_fails(EndRun)
rows.add(EndRun, "memory", "memory_for_good", "receiving", "receiving_for_good", "sending",
         "sending_for_good", "sending_little", "threads", "reading_for_good", "writing",
         "writing_full", "flushing_for_good", "allocating_space_for_good", "finding_holes", most=6)
rows.add(EndRun, "writing_full", policy="break-guest-write", most=6, after="_break_guest_write")
main()
