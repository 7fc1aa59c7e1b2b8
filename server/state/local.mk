# SPDX-License-Identifier: BSD-3-Clause
# Bitmaps in a state folder, while a server runs.
noinst_LIBRARIES += server/state/libstate.a
server_state_libstate_a_SOURCES = \
	server/state/cover.h \
	server/state/failure.c server/state/failure.h \
	server/state/jobs.c server/state/jobs.h \
	server/state/journal.h \
	server/state/live.c server/state/live.h \
	server/state/state.h \
	server/state/store.c server/state/store.h \
	server/state/store-attach.c server/state/store-attach.h \
	server/state/store-break.c server/state/store-break.h \
	server/state/store-detach.c server/state/store-detach.h \
	server/state/store-private.h \
	server/state/store-rows.c server/state/store-rows.h \
	server/state/store-transaction.c server/state/store-transaction.h \
	server/state/stored-bits.c server/state/stored-bits.h
