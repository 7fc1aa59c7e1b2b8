# SPDX-License-Identifier: BSD-3-Clause
plugin_LTLIBRARIES += plugins/file/nbdkit-file-plugin.la
plugins_file_nbdkit_file_plugin_la_SOURCES = plugins/file/file.c
plugins_file_nbdkit_file_plugin_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared \
	-export-symbols-regex '^(plugin_init|nbdfleece_plugin_)'
plugins_file_nbdkit_file_plugin_la_LIBADD = $(plugin_libs)
