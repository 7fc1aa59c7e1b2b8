/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files of a state folder that fail, in the whole process and for SQLite, too: fdatasync, fsync and
 * pread of a test that links this are its own.
 */
#ifndef TESTS_RIGS_FAILING_FOLDER_H
#define TESTS_RIGS_FAILING_FOLDER_H

/* Syncs of files whose paths have this text in them fail from now on; NULL: none do. */
void fail_syncs(const char *text);
/* The first `from` of them work; then `n` fail. */
void fail_some_syncs(const char *text, unsigned from, unsigned n);

/* What becomes of reads of bits: those of many pages fail, or the file is cut short after one. */
enum reads { READS_WORK, READS_FAIL, READS_CUT };
void make_reads(enum reads how);

#endif
