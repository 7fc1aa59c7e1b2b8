# SPDX-License-Identifier: BSD-3-Clause
# What plugins link, too: position-independent, and libc is all that it needs.
noinst_LTLIBRARIES += common/base/libbase.la
common_base_libbase_la_SOURCES = \
	common/base/bitmap.c common/base/bitmap.h \
	common/base/cursor.c common/base/cursor.h \
	common/base/deadline.c common/base/deadline.h \
	common/base/extents.c common/base/extents.h \
	common/base/file-io.c common/base/file-io.h \
	common/base/nbd-protocol.h \
	common/base/nbdkit-abi.h \
	common/base/patience.c common/base/patience.h \
	common/base/qemu-locks.c common/base/qemu-locks.h \
	common/base/range-lock.c common/base/range-lock.h \
	common/base/size.c common/base/size.h
