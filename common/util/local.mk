# SPDX-License-Identifier: BSD-3-Clause
# What needs GLib: errors as GError, the log, sockets, words of people.
noinst_LIBRARIES += common/util/libutil.a
common_util_libutil_a_SOURCES = \
	common/base/bitmap.c common/base/bitmap.h \
	common/util/accept.c common/util/accept.h \
	common/util/delay.c common/util/delay.h \
	common/util/error.c common/util/error.h \
	common/util/log.c common/util/log.h \
	common/util/log-limit.c common/util/log-limit.h \
	common/util/names.c common/util/names.h \
	common/util/port.c common/util/port.h \
	common/util/text.c common/util/text.h \
	common/util/unix-socket.c common/util/unix-socket.h
