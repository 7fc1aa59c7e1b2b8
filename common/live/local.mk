# SPDX-License-Identifier: BSD-3-Clause
# Live images: qcow2 chains that are served, by many threads. Position-independent, without GLib, so
# that a plugin can link it.
noinst_LTLIBRARIES += common/live/liblive.la
common_live_liblive_la_SOURCES = \
	common/live/live.h common/live/live-private.h common/live/live-ops.h \
	common/live/live-batch.c common/live/live-batch.h \
	common/live/live-change.c common/live/live-change.h \
	common/live/live-commit.c common/live/live-commit.h \
	common/live/live-compressed.c common/live/live-compressed.h \
	common/live/live-counts.c common/live/live-counts.h \
	common/live/live-damage.c \
	common/live/live-extent.c \
	common/live/live-file.c common/live/live-file.h \
	common/live/live-find.c common/live/live-find.h \
	common/live/live-given-up.c common/live/live-given-up.h \
	common/live/live-header.c common/live/live-header.h \
	common/live/live-map.c \
	common/live/live-metadata-find.c common/live/live-metadata.c common/live/live-metadata.h \
	common/live/live-open.c \
	common/live/live-policy.c common/live/live-policy.h \
	common/live/live-ranges.c \
	common/live/live-read.c \
	common/live/live-reserve.c common/live/live-reserve.h \
	common/live/live-resize.c \
	common/live/live-settle.c \
	common/live/live-slices.h \
	common/live/live-slices-change.c \
	common/live/live-slices-run.c \
	common/live/live-slots.c common/live/live-slots.h \
	common/live/live-slots-load.c \
	common/live/live-slots-write.c \
	common/live/live-worker.c \
	common/live/live-write.c \
	common/live/live-write-step.c \
	common/live/live-write-sub.c \
	common/live/live-zero.c

LIVE_LIBS = common/live/liblive.la $(QCOW2_LIBS)
