# SPDX-License-Identifier: BSD-3-Clause
# The registry, below nbd/ and control/; and above them what starts and ends it all. main() alone is
# in no library: unit tests can have the rest.
noinst_LIBRARIES += server/libserver.a
server_libserver_a_SOURCES = \
	server/exports.c \
	server/server.c server/server.h server/server-private.h

noinst_LIBRARIES += server/libstart.a
server_libstart_a_SOURCES = \
	server/captive.c server/captive.h \
	server/daemon.c server/daemon.h \
	server/info.c server/info.h \
	server/nbd-control.c server/nbd-control.h \
	server/options.c server/options.h \
	server/options-file.c \
	server/options-table.c server/options-table.h \
	server/plugins.c server/plugins.h \
	server/quit.c server/quit.h \
	server/run.c server/run.h \
	server/slow-open.c server/slow-open.h \
	server/sockets.c server/sockets.h
server_libstart_a_CPPFLAGS = $(AM_CPPFLAGS) \
	-DBINDIR='"$(bindir)"' -DMANDIR='"$(mandir)"' \
	-DPLUGINDIR='"$(plugindir)"' -DNBDKIT_PLUGINDIR='"$(nbdkit_plugindir)"' \
	-DHOST_CPU='"$(host_cpu)"' -DHOST_OS='"$(host_os)"'

bin_PROGRAMS += nbdfleece
nbdfleece_SOURCES = server/main.c
# Plugins call back into the program: it exports nbdkit's functions, and those alone. All of
# libbackend.a goes in, since nothing else refers to some of them; libtool would not keep the order
# that this takes.
nbdfleece_LDFLAGS = $(AM_LDFLAGS) -Wl,--dynamic-list=$(srcdir)/server/backend/nbdkit.syms
nbdfleece_LINK = $(CC) $(AM_CFLAGS) $(CFLAGS) $(nbdfleece_LDFLAGS) $(LDFLAGS) -o $@
nbdfleece_LDADD = \
	server/libstart.a server/nbd/libnbdserver.a server/control/libcontrol.a \
	server/libserver.a server/disk/libdisk.a \
	$(WHOLE_ARCHIVE) server/backend/libbackend.a $(NO_WHOLE_ARCHIVE) \
	common/libcommon.a $(GLIB_LIBS) $(JSON_LIBS) $(GNUTLS_LIBS) -ldl -lm
nbdfleece_DEPENDENCIES = \
	server/libstart.a server/nbd/libnbdserver.a server/control/libcontrol.a \
	server/libserver.a server/disk/libdisk.a server/backend/libbackend.a common/libcommon.a \
	server/backend/nbdkit.syms
EXTRA_DIST += server/backend/nbdkit.syms
