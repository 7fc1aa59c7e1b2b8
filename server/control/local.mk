# SPDX-License-Identifier: BSD-3-Clause
noinst_LIBRARIES += server/control/libcontrol.a
server_control_libcontrol_a_SOURCES = \
	server/control/control.h
