#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The n-th call of a kind fails, for every n of a standard scenario (README.md)."""

import rows
from scenario import Run
from tap import main

rows.nothing_fails(Run)
rows.add(Run, "memory", "receiving", "receiving_interrupted", "receiving_little", "sending",
         "sending_interrupted", "sending_little", "accepting", "accepting_without_descriptors",
         "accepting_without_memory", "threads", "reading", "reading_for_good", "reading_interrupted",
         "reading_little", "writing", "writing_full", "writing_interrupted", "writing_little",
         "flushing", "flushing_for_good", "allocating_space", "allocating_space_for_good",
         "allocating_space_not_supported", "finding_holes", "opening")
rows.add(Run, "memory_for_good", most=6)
rows.add(Run, "threads_for_good", most=4)
rows.add(Run, "reading", "writing_full", "allocating_space_for_good", policy="break-guest-write",
         after="_break_guest_write")
main()
