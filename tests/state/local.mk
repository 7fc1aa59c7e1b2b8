# SPDX-License-Identifier: BSD-3-Clause
# Preloaded into the server by test-faults.py; not built with a sanitizer, whose runtime comes first.
check_LTLIBRARIES += tests/state/folder-faults.la
tests_state_folder_faults_la_SOURCES = tests/state/folder-faults.c
tests_state_folder_faults_la_CFLAGS = $(tests_faults_faults_la_CFLAGS)
tests_state_folder_faults_la_LDFLAGS = $(tests_faults_faults_la_LDFLAGS)
tests_state_folder_faults_la_LIBADD = -ldl
tests_state_folder_faults_la_CPPFLAGS = -D_GNU_SOURCE
# Runs in the guest of test-power.py.
check_PROGRAMS += tests/state/relay
tests_state_relay_SOURCES = tests/state/relay.c
tests_state_relay_LDADD =
