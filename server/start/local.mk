# SPDX-License-Identifier: BSD-3-Clause
# What starts and ends the process. main() alone is in no library: unit tests can have the rest.
noinst_LIBRARIES += server/start/libstart.a
server_start_libstart_a_SOURCES = \
	server/start/captive.c server/start/captive.h \
	server/start/close-disks.c server/start/close-disks.h \
	server/start/closer.c server/start/closer.h \
	server/start/command-line.c server/start/command-line.h \
	server/start/daemon.c server/start/daemon.h \
	server/start/show.c server/start/show.h \
	server/start/nbd-listeners.c server/start/nbd-listeners.h \
	server/start/options.c server/start/options.h \
	server/start/options-file.c server/start/options-file.h \
	server/start/options-table.c server/start/options-table.h \
	server/start/disks.c server/start/disks.h \
	server/start/folders.c server/start/folders.h \
	server/start/quit.c server/start/quit.h \
	server/start/run.c server/start/run.h \
	server/start/shutdown.c server/start/shutdown.h \
	server/start/open-watchdog.c server/start/open-watchdog.h \
	server/start/sockets.c server/start/sockets.h
server_start_libstart_a_CPPFLAGS = $(AM_CPPFLAGS) \
	-DBINDIR='"$(bindir)"' -DMANDIR='"$(mandir)"' \
	-DPLUGINDIR='"$(plugindir)"' -DNBDKIT_PLUGINDIR='"$(nbdkit_plugindir)"' \
	-DHOST_CPU='"$(host_cpu)"' -DHOST_OS='"$(host_os)"'
