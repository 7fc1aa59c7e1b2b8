# SPDX-License-Identifier: BSD-3-Clause
noinst_LIBRARIES += common/libcommon.a
common_libcommon_a_SOURCES = \
	common/accept.c common/accept.h \
	common/bitmap.c common/bitmap.h \
	common/cursor.c common/cursor.h \
	common/nbd-protocol.h \
	common/delay.c common/delay.h \
	common/error.c common/error.h \
	common/extents.c common/extents.h \
	common/file-io.c common/file-io.h \
	common/json-write.c common/json-write.h \
	common/log.c common/log.h \
	common/log-limit.c common/log-limit.h \
	common/port.c common/port.h \
	common/patience.c common/patience.h \
	common/size.c common/size.h
