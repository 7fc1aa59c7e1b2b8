# SPDX-License-Identifier: BSD-3-Clause
noinst_LIBRARIES += server/nbd/libnbdserver.a
server_nbd_libnbdserver_a_SOURCES = \
	server/nbd/nbd.h
