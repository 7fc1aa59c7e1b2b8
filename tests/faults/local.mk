# SPDX-License-Identifier: BSD-3-Clause
# The fault grid: see README.md here.

# Preloaded into the server. Not built with a sanitizer, whose runtime has to come first; there it
# leaves malloc & co. to the runtime.
check_LTLIBRARIES += tests/faults/faults.la
tests_faults_faults_la_SOURCES = tests/faults/faults.c
tests_faults_faults_la_CFLAGS = -std=gnu17 -pthread $(WARN_CFLAGS) -Wno-missing-prototypes
tests_faults_faults_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
tests_faults_faults_la_LIBADD = -ldl
tests_faults_faults_la_CPPFLAGS = -D_GNU_SOURCE -DSANITIZER_$(SANITIZER)
# Notes calls and makes none fail: preloaded by tests/backend/.
check_LTLIBRARIES += tests/faults/calls.la
tests_faults_calls_la_SOURCES = tests/faults/calls.c
tests_faults_calls_la_CFLAGS = $(tests_faults_faults_la_CFLAGS)
tests_faults_calls_la_LDFLAGS = $(tests_faults_faults_la_LDFLAGS)
tests_faults_calls_la_LIBADD = -ldl
tests_faults_calls_la_CPPFLAGS = -D_GNU_SOURCE
