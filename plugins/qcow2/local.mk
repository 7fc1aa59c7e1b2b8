# SPDX-License-Identifier: BSD-3-Clause
plugin_LTLIBRARIES += plugins/qcow2/nbdkit-qcow2-plugin.la
plugins_qcow2_nbdkit_qcow2_plugin_la_SOURCES = \
	plugins/qcow2/chain-identity.c plugins/qcow2/chain-identity.h \
	plugins/qcow2/qcow2.c \
	plugins/qcow2/settings.c plugins/qcow2/settings.h \
	plugins/qcow2/shared.c plugins/qcow2/shared.h
plugins_qcow2_nbdkit_qcow2_plugin_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared \
	-export-symbols-regex '^(plugin_init|nbdfleece_plugin_)'
plugins_qcow2_nbdkit_qcow2_plugin_la_LIBADD = plugins/lib/libimage.la $(LIVE_LIBS)
