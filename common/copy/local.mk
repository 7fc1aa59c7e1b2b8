# SPDX-License-Identifier: BSD-3-Clause
# Copying disks: sources, targets, and the engine between them. For the client, and for jobs of the
# server.
noinst_LIBRARIES += common/copy/libcopy.a
common_copy_libcopy_a_CPPFLAGS = $(AM_CPPFLAGS) $(LIBNBD_CFLAGS)
common_copy_libcopy_a_SOURCES = \
	common/copy/copy.h \
	common/copy/source.h \
	common/copy/source-image.c common/copy/source-image.h \
	common/copy/source-nbd.h \
	common/copy/target.h \
	common/copy/target-qcow2.c \
	common/copy/targets.h

# Before COMMON_LIBS.
COPY_LIBS = common/copy/libcopy.a $(QCOW2_LIBS) $(LIBNBD_LIBS) $(GNUTLS_LIBS)
