# SPDX-License-Identifier: BSD-3-Clause
bin_PROGRAMS += nbdfleece
nbdfleece_SOURCES = server/main.c
# Plugins call back into the program: it exports nbdkit's functions, and those alone. All of
# libbackend.a goes in, since nothing else refers to some of them; in one word, since libtool would
# not keep the order of several.
nbdfleece_LDFLAGS = $(AM_LDFLAGS) $(plugin_host_flags)
nbdfleece_LDADD = \
	server/start/libstart.a server/nbd/libnbdserver.a server/control/libcontrol.a \
	server/backup/libbackup.a server/registry/libregistry.a server/disk/libdisk.a server/state/libstate.a \
	$(STATE_LIBS) $(GLIB_LIBS) $(JSON_LIBS) $(GNUTLS_LIBS) -ldl -lm
nbdfleece_DEPENDENCIES = \
	server/start/libstart.a server/nbd/libnbdserver.a server/control/libcontrol.a \
	server/backup/libbackup.a server/registry/libregistry.a server/disk/libdisk.a server/state/libstate.a server/backend/libbackend.a \
	common/state/libcommonstate.a $(COMMON_LIBS) \
	server/backend/nbdkit.syms
