# SPDX-License-Identifier: BSD-3-Clause
# Checkpoints, backup sessions and what quiesces guests.
noinst_LIBRARIES += server/backup/libbackup.a
server_backup_libbackup_a_SOURCES = \
	server/backup/backup.c server/backup/backup.h \
	server/backup/checkpoint-record.c server/backup/checkpoint-record.h \
	server/backup/checkpoint-list.c \
	server/backup/checkpoints.c server/backup/checkpoints.h server/backup/checkpoints-private.h \
	server/backup/hook-command.c server/backup/hook-command.h \
	server/backup/quiesce.c server/backup/quiesce.h \
	server/backup/lease.c \
	server/backup/quiescing.c \
	server/backup/session.c server/backup/session-private.h \
	server/backup/session-begin.c \
	server/backup/session-end.c \
	server/backup/session-renew.c \
	server/backup/session-restore.c \
	server/backup/session-record.c server/backup/session-record.h \
	server/backup/session-views.c \
	server/backup/sessions.c server/backup/sessions.h
server_backup_libbackup_a_CPPFLAGS = $(AM_CPPFLAGS) -DPKGLIBEXECDIR='"$(pkglibexecdir)"'
