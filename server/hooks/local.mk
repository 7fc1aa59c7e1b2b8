# SPDX-License-Identifier: BSD-3-Clause
# Programs that the server starts: what guards a guest's freeze, and the hooks that we ship.
pkglibexec_PROGRAMS += server/hooks/freeze-guard
server_hooks_freeze_guard_SOURCES = \
	server/hooks/freeze-guard.c server/hooks/freeze-guard.h \
	server/hooks/hook-process.c server/hooks/hook-process.h \
	server/hooks/hook-status.h
server_hooks_freeze_guard_LDADD = common/base/libbase.la

pkglibexec_PROGRAMS += server/hooks/fsfreeze-qga
server_hooks_fsfreeze_qga_SOURCES = \
	server/hooks/fsfreeze-qga.c \
	server/hooks/guest-agent.c server/hooks/guest-agent.h \
	server/hooks/hook-status.h
server_hooks_fsfreeze_qga_LDADD = common/util/libutil.a common/base/libbase.la $(JSON_LIBS) $(GLIB_LIBS)
