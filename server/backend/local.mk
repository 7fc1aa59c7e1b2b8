# SPDX-License-Identifier: BSD-3-Clause
noinst_LIBRARIES += server/backend/libbackend.a
server_backend_libbackend_a_SOURCES = \
	server/backend/backend.h server/backend/plugin.h
