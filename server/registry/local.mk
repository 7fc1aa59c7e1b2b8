# SPDX-License-Identifier: BSD-3-Clause
# Disks, views, exports, events: where nbd/ and control/ meet.
noinst_LIBRARIES += server/registry/libregistry.a
server_registry_libregistry_a_SOURCES = \
	server/registry/commit.c server/registry/commit.h \
	server/registry/departure.c server/registry/departure.h \
	server/registry/disk-store.c server/registry/disk-store.h \
	server/registry/event.c server/registry/event.h \
	server/registry/export.c server/registry/export.h server/registry/export-private.h \
	server/registry/export-removal.c server/registry/export-removal.h \
	server/registry/registry.c server/registry/registry.h server/registry/registry-private.h \
	server/registry/turn.c server/registry/turn.h
