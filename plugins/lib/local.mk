# SPDX-License-Identifier: BSD-3-Clause
# What plugins of ours share: images opened, locked, read, written and flushed.
noinst_LTLIBRARIES += plugins/lib/libimage.la
plugins_lib_libimage_la_SOURCES = \
	plugins/lib/config.c plugins/lib/config.h \
	plugins/lib/evict.c plugins/lib/evict.h \
	plugins/lib/identity.c plugins/lib/identity.h \
	plugins/lib/image.c plugins/lib/image.h plugins/lib/image-open.c \
	plugins/lib/source.c plugins/lib/source.h \
	plugins/lib/space.c plugins/lib/space.h
plugin_libs = plugins/lib/libimage.la common/base/libbase.la
