# SPDX-License-Identifier: BSD-3-Clause
bin_PROGRAMS += fleecectl
fleecectl_SOURCES = client/main.c
fleecectl_LDADD = $(CLIENT_LIBS)
CLIENT_LIBS = client/libclient.a common/libcommon.a $(LIBNBD_LIBS) $(JSON_LIBS) $(GLIB_LIBS) \
	$(GNUTLS_LIBS)

# All but main(), for the unit tests.
noinst_LIBRARIES += client/libclient.a
client_libclient_a_CPPFLAGS = $(AM_CPPFLAGS) $(LIBNBD_CFLAGS)
client_libclient_a_SOURCES = \
	client/client.c client/client.h \
	client/cmd-bitmap.c \
	client/cmd-map.c \
	client/cmd-qmp.c \
	client/cmd-status.c \
	client/cmd-tls.c \
	client/cmd-view.c \
	client/cmd-watch.c \
	client/command.c client/command.h \
	client/error.c client/error.h \
	client/inventory.c client/inventory.h \
	client/json.c client/json.h \
	client/map.c client/map.h \
	client/map-html.c \
	client/map-text.c \
	client/nbd-extents.c client/nbd-extents.h \
	client/options.c client/options.h \
	client/pki.c client/pki.h \
	client/qmp.c client/qmp.h \
	client/qmp-args.c client/qmp-args.h \
	client/table.c client/table.h \
	client/terminal.c client/terminal.h

tests_unit_test_client_args_LDADD = $(CLIENT_LIBS)
tests_unit_test_client_json_LDADD = $(CLIENT_LIBS)
tests_unit_test_client_map_LDADD = $(CLIENT_LIBS)
tests_unit_test_client_table_LDADD = $(CLIENT_LIBS)

EXTRA_DIST += tests/client/fakeqmp.py
