/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The wish to end: from a signal, a command, a plugin. run.c does the ending itself.
 */
#ifndef START_QUIT_H
#define START_QUIT_H

#include <glib.h>

/* To be called first: from now on a wish is kept. Returns a descriptor that becomes readable with
 * the first wish, or -1 and *err. It stays open as long as the process, because a signal may come
 * at any time. Main thread, once. */
int quit_open(GError **err);

/* Catch SIGTERM, SIGINT and SIGQUIT. The first one is a wish to end. One that comes a second or
 * more later ends the process at once; one that comes sooner does nothing. If the first one comes
 * before quit_started, and quit_started is not called within two seconds after it, the process ends
 * at once, too. Also ignore SIGPIPE. Main thread, once, after quit_open. */
void quit_install(void);

/* The start is over: from now on the main loop hears of a wish to end. If the orderly end has not
 * ended the process `limit` seconds after the wish (0: unlimited), the process ends at once: the
 * last resort, for a main thread that hangs. Main thread. */
void quit_started(unsigned limit);

/* The wish, from any thread; does not block. */
void quit_request(void);

/* Note a socket or folder that exists: it is removed if the process has to end at once, unless
 * another file is in its place by then. A folder must be noted before what is in it. There is room
 * for eight; a ninth, and one whose name is too long, is left behind. Main thread. */
void quit_leftover(const char *path);
/* Forget it: it has been removed, or is about to be. Main thread. */
void quit_no_leftover(const char *path);

/* End the process at once, with EXIT_FAILURE; what was noted is removed. Any thread. */
void quit_now(void) G_GNUC_NORETURN;

/* In a child that is not the server: signals as they are by default. */
void quit_uninstall(void);

#endif
