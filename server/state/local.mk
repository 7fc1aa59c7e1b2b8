# SPDX-License-Identifier: BSD-3-Clause
# Bitmaps in a state folder, while a server runs.
noinst_LIBRARIES += server/state/libstate.a
server_state_libstate_a_SOURCES = \
	server/state/cover.h \
	server/state/failure.h \
	server/state/journal.h \
	server/state/state.h \
	server/state/store.h
