# SPDX-License-Identifier: BSD-3-Clause
# Bitmaps in a state folder, while a server runs.
noinst_LIBRARIES += server/state/libstate.a
server_state_libstate_a_SOURCES = \
	server/state/bits-memory.c server/state/bits-memory.h \
	server/state/bits-sync.c server/state/bits-sync.h \
	server/state/cover.h \
	server/state/failure.c server/state/failure.h \
	server/state/jobs.c server/state/jobs.h \
	server/state/journal-batch.c server/state/journal-batch.h \
	server/state/journal-close.c server/state/journal-close.h \
	server/state/journal-file.c server/state/journal-file.h \
	server/state/journal.c server/state/journal.h server/state/journal-private.h \
	server/state/journal-ranges.c server/state/journal-ranges.h \
	server/state/journal-storm.c server/state/journal-storm.h \
	server/state/journal-table.c server/state/journal-table.h \
	server/state/journal.h \
	server/state/live.c server/state/live.h \
	server/state/state.h \
	server/state/store.c server/state/store.h \
	server/state/store-attach.c server/state/store-attach.h \
	server/state/store-break.c server/state/store-break.h \
	server/state/store-catalogue.c server/state/store-catalogue.h \
	server/state/store-detach.c server/state/store-detach.h \
	server/state/store-names.c server/state/store-names.h \
	server/state/store-private.h \
	server/state/store-records.c server/state/store-records.h \
	server/state/store-renew.c server/state/store-renew.h \
	server/state/store-resize.c server/state/store-resize.h \
	server/state/store-rows.c server/state/store-rows.h \
	server/state/store-change.c server/state/store-change.h \
	server/state/store-steps.c server/state/store-steps.h \
	server/state/store-tick.c server/state/store-tick.h \
	server/state/store-transaction.c server/state/store-transaction.h \
	server/state/store-views.c server/state/store-views.h \
	server/state/stored-bits.c server/state/stored-bits.h \
	server/state/sync-together.c server/state/sync-together.h
