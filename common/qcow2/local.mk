# SPDX-License-Identifier: BSD-3-Clause
# qcow2: the format, reading, and writing in one pass. Position-independent, without GLib, so that a
# plugin can link it.
noinst_LTLIBRARIES += common/qcow2/libqcow2.la
common_qcow2_libqcow2_la_SOURCES = \
	common/qcow2/q2-bitmaps.c common/qcow2/q2-bitmaps.h \
	common/qcow2/q2-check.c common/qcow2/q2-check-private.h \
	common/qcow2/q2-check-extras.c \
	common/qcow2/q2-check-refs.c \
	common/qcow2/q2-check-tables.c \
	common/qcow2/q2-codec.c common/qcow2/q2-codec.h \
	common/qcow2/q2-counts.c common/qcow2/q2-counts.h \
	common/qcow2/q2-create.c common/qcow2/q2-create.h \
	common/qcow2/q2-entry.c common/qcow2/q2-entry.h \
	common/qcow2/q2-entry-build.h \
	common/qcow2/q2-error.c common/qcow2/q2-error.h \
	common/qcow2/q2-extent.c \
	common/qcow2/q2-file.c common/qcow2/q2-file.h \
	common/qcow2/q2-header.h \
	common/qcow2/q2-header-build.c \
	common/qcow2/q2-header-parse.c \
	common/qcow2/q2-image.c common/qcow2/q2-image.h common/qcow2/q2-image-private.h \
	common/qcow2/q2-map.c common/qcow2/q2-map.h \
	common/qcow2/q2-open.c \
	common/qcow2/q2-read.c \
	common/qcow2/q2-reader.c common/qcow2/q2-reader.h \
	common/qcow2/q2-refcount.h \
	common/qcow2/q2-repair.c common/qcow2/q2-repair.h common/qcow2/q2-repair-private.h \
	common/qcow2/q2-repair-counts.c \
	common/qcow2/q2-repair-flags.c \
	common/qcow2/q2-repair-write.c \
	common/qcow2/q2-slices.c common/qcow2/q2-slices.h \
	common/qcow2/q2-snapshots.c common/qcow2/q2-snapshots.h \
	common/qcow2/q2-stream.c common/qcow2/q2-stream.h common/qcow2/q2-stream-private.h \
	common/qcow2/q2-stream-compress.c \
	common/qcow2/q2-stream-counts.c \
	common/qcow2/q2-stream-head.c \
	common/qcow2/q2-stream-io.c \
	common/qcow2/q2-stream-space.c \
	common/qcow2/q2-stream-tables.c \
	common/qcow2/q2-stream-write.c

QCOW2_LIBS = common/qcow2/libqcow2.la common/base/libbase.la $(ZSTD_LIBS) $(ZLIB_LIBS)
