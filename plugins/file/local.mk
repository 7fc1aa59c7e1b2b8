# SPDX-License-Identifier: BSD-3-Clause
plugin_LTLIBRARIES += plugins/file/nbdkit-file-plugin.la
plugins_file_nbdkit_file_plugin_la_SOURCES = \
	plugins/file/evict.c \
	plugins/file/file.c \
	plugins/file/image.c plugins/file/image.h \
	plugins/file/qemu-locks.c plugins/file/qemu-locks.h \
	plugins/file/source.c plugins/file/source.h \
	plugins/file/space.c
plugins_file_nbdkit_file_plugin_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared \
	-export-symbols-regex '^(plugin_init|nbdfleece_plugin_)'
