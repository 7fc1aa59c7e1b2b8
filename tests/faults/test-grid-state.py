#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The standard scenario with a state folder, and its end (README.md)."""

import rows
from stateful import BreakRun, ProcessRun, StateEndRun, StateRun
from tap import main

rows.nothing_fails(StateRun, BreakRun, ProcessRun, StateEndRun)
rows.add(StateRun, "memory", "memory_for_good", "threads", "reading", "reading_interrupted",
         "reading_little", "writing", "writing_full", "writing_interrupted", "writing_little",
         "flushing_for_good", "allocating_space", "allocating_space_for_good",
         "allocating_space_not_supported", "finding_holes", most=4)
rows.add(StateRun, "flushing", "opening", most=6)
rows.add(StateRun, "threads_for_good", most=2)
rows.add(BreakRun, "writing", "flushing_for_good", most=4, after="_break_guest_write")
rows.add(ProcessRun, "flushing_for_good", most=4, after="_without_a_journal")
rows.add(StateEndRun, "memory", "reading_for_good", "writing", "writing_full", "flushing",
         "flushing_for_good", "threads", most=3, after="_at_the_end")
main()
