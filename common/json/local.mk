# SPDX-License-Identifier: BSD-3-Clause
# JSON as QMP has it, by json-glib's trees.
noinst_LIBRARIES += common/json/libjson.a
common_json_libjson_a_SOURCES = \
	common/json/grammar.c common/json/grammar.h \
	common/json/limits.h \
	common/json/read.c common/json/read.h \
	common/json/stream.c common/json/stream.h \
	common/json/value.c common/json/value.h \
	common/json/write.c common/json/write.h
