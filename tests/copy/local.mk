# SPDX-License-Identifier: BSD-3-Clause
# What tests of copies run.
check_PROGRAMS += tests/copy/copy-nbd
tests_copy_copy_nbd_SOURCES = tests/copy/copy-nbd.c
tests_copy_copy_nbd_LDADD = $(links_copy)
