# SPDX-License-Identifier: BSD-3-Clause
# Copying disks: sources, targets, and the engine between them. For the client, and for jobs of the
# server.
noinst_LIBRARIES += common/copy/libcopy.a
common_copy_libcopy_a_CPPFLAGS = $(AM_CPPFLAGS) $(LIBNBD_CFLAGS)
common_copy_libcopy_a_SOURCES = \
	common/copy/batch.c common/copy/batch.h \
	common/copy/conductor.c common/copy/conductor.h \
	common/copy/copy.c common/copy/copy.h \
	common/copy/copy-private.h \
	common/copy/engine.c common/copy/engine.h \
	common/copy/lane.c common/copy/lane.h \
	common/copy/nbd-error.c common/copy/nbd-error.h \
	common/copy/nbd-exchange.c common/copy/nbd-exchange.h \
	common/copy/nbd-lane.c common/copy/nbd-lane.h \
	common/copy/nbd-lanes.c common/copy/nbd-lanes.h \
	common/copy/nbd-link.c common/copy/nbd-link.h \
	common/copy/nbd-map.c common/copy/nbd-map.h \
	common/copy/nbd-request.h \
	common/copy/planner.c common/copy/planner.h \
	common/copy/rate.c common/copy/rate.h \
	common/copy/source.h \
	common/copy/source-image.c common/copy/source-image.h \
	common/copy/source-nbd.c common/copy/source-nbd.h \
	common/copy/target.h \
	common/copy/target-compare.c common/copy/target-compare.h \
	common/copy/target-nbd.c \
	common/copy/target-null.c \
	common/copy/target-pipe.c \
	common/copy/target-qcow2.c \
	common/copy/target-raw.c \
	common/copy/targets.h \
	common/copy/trims.c common/copy/trims.h \
	common/copy/zeroes.c common/copy/zeroes.h

# Before COMMON_LIBS.
COPY_LIBS = common/copy/libcopy.a $(QCOW2_LIBS) $(LIBNBD_LIBS) $(GNUTLS_LIBS)
