# SPDX-License-Identifier: BSD-3-Clause
# What everybody links, before GLib.
COMMON_LIBS = common/libcommon.a

noinst_LIBRARIES += common/libcommon.a
common_libcommon_a_SOURCES = \
	common/util/accept.c common/util/accept.h \
	common/base/bitmap.c common/base/bitmap.h \
	common/base/cursor.c common/base/cursor.h \
	common/base/nbd-protocol.h \
	common/base/nbdkit-abi.h \
	common/util/delay.c common/util/delay.h \
	common/util/error.c common/util/error.h \
	common/base/extents.c common/base/extents.h \
	common/base/file-io.c common/base/file-io.h \
	common/json/stream.c common/json/stream.h \
	common/json/value.c common/json/value.h \
	common/json/write.c common/json/write.h \
	common/util/log.c common/util/log.h \
	common/util/log-limit.c common/util/log-limit.h \
	common/util/names.c common/util/names.h \
	common/util/port.c common/util/port.h \
	common/base/patience.c common/base/patience.h \
	common/base/size.c common/base/size.h
