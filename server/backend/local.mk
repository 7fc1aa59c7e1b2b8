# SPDX-License-Identifier: BSD-3-Clause
noinst_LIBRARIES += server/backend/libbackend.a
# Of a program that plugins are loaded into.
plugin_host_flags = -Wl,--dynamic-list=$(srcdir)/server/backend/nbdkit.syms \
	-Wl,--whole-archive,server/backend/libbackend.a,--no-whole-archive
EXTRA_DIST += server/backend/nbdkit.syms
server_backend_libbackend_a_CPPFLAGS = $(AM_CPPFLAGS) \
	-DPLUGINDIR='"$(plugindir)"' -DNBDKIT_PLUGINDIR='"$(nbdkit_plugindir)"'
server_backend_libbackend_a_SOURCES = \
	server/backend/backend.h server/backend/plugin.h \
	server/backend/plugin-private.h \
	server/backend/client.c \
	server/backend/nbdkit-client.c \
	server/backend/nbdkit-exports.c \
	server/backend/nbdkit-extents.c \
	server/backend/nbdkit-log.c \
	server/backend/nbdkit-parse.c \
	server/backend/nbdkit-password.c \
	server/backend/nbdkit-string.c \
	server/backend/plugin.c \
	server/backend/plugin-call.c \
	server/backend/plugin-data.c \
	server/backend/plugin-dump.c \
	server/backend/plugin-handle.c \
	server/backend/plugin-identity.c \
	server/backend/plugin-load.c \
	server/backend/plugin-share.c \
	server/backend/start.c server/backend/start.h
