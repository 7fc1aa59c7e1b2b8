# SPDX-License-Identifier: BSD-3-Clause
# Preloaded into fleecectl, which then dies at a step, or fails there. Not built with a sanitizer, whose runtime
# has to come first.
check_LTLIBRARIES += tests/fleecectl/steps.la
tests_fleecectl_steps_la_SOURCES = tests/fleecectl/steps.c
tests_fleecectl_steps_la_CFLAGS = $(tests_faults_faults_la_CFLAGS)
tests_fleecectl_steps_la_LDFLAGS = $(tests_faults_faults_la_LDFLAGS)
tests_fleecectl_steps_la_LIBADD = -ldl
tests_fleecectl_steps_la_CPPFLAGS = -D_GNU_SOURCE
