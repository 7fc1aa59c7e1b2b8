# SPDX-License-Identifier: BSD-3-Clause
noinst_LIBRARIES += server/control/libcontrol.a
server_control_libcontrol_a_SOURCES = \
	server/control/actual-size.c server/control/actual-size.h \
	server/control/args.c server/control/args.h \
	server/control/cmd-backup.c \
	server/control/cmd-bitmaps.c \
	server/control/cmd-checkpoints.c \
	server/control/cmd-exports.c \
	server/control/cmd-nbd-server.c \
	server/control/cmd-nodes.c \
	server/control/cmd-server.c \
	server/control/cmd-stats.c \
	server/control/cmd-transaction.c \
	server/control/cmd-views.c \
	server/control/commands.c \
	server/control/control.c server/control/control.h server/control/control-private.h \
	server/control/events.c \
	server/control/in-turn.c server/control/in-turn.h \
	server/control/lookup.c server/control/lookup.h \
	server/control/monitor.c server/control/monitor.h \
	server/control/qmp.c server/control/qmp.h \
	server/control/socket.c server/control/socket.h \
	server/control/transaction.c server/control/transaction.h \
	server/control/wall-time.c server/control/wall-time.h
