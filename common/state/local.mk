# SPDX-License-Identifier: BSD-3-Clause
# The files of a state folder: what they look like, and what reads them.
noinst_LIBRARIES += common/state/libcommonstate.a
common_state_libcommonstate_a_SOURCES = \
	common/state/bit-file.c common/state/bit-file.h \
	common/state/bits-read.c common/state/bits-read.h \
	common/state/catalogue.c common/state/catalogue.h \
	common/state/catalogue-make.c common/state/catalogue-make.h \
	common/state/catalogue-private.h \
	common/state/catalogue-row.c common/state/catalogue-row.h \
	common/state/catalogue-rows.c common/state/catalogue-rows.h \
	common/state/catalogue-schema.c common/state/catalogue-schema.h \
	common/state/catalogue-sql.c common/state/catalogue-sql.h \
	common/state/catalogue-tables.c common/state/catalogue-tables.h \
	common/state/catalogue-tally.c common/state/catalogue-tally.h \
	common/state/folder.c common/state/folder.h \
	common/state/identity.c common/state/identity.h \
	common/state/journal-format.c common/state/journal-format.h \
	common/state/journal-scan.c common/state/journal-scan.h \
	common/state/live-file.c common/state/live-file.h \
	common/state/memory.c common/state/memory.h \
	common/state/note.c common/state/note.h \
	common/state/recovery.c common/state/recovery.h \
	common/state/state-check.c common/state/state-check.h \
	common/state/storage.c common/state/storage.h \
	common/state/storage-dir.c common/state/storage-dir.h
