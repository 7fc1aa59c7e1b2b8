/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The wish to end: from a signal, a command, a plugin. Ending itself is run.c's.
 */
#ifndef START_QUIT_H
#define START_QUIT_H

#include <glib.h>

/* First of all: from now on a wish is kept. Returns a descriptor that becomes readable with the
 * first one and stays open as long as the process, since a signal may come at any time; -1 and
 * *err. Main thread, once. */
int quit_open(GError **err);

/* Catch SIGTERM, SIGINT and SIGQUIT: the first is a wish to end, one that comes a second or more
 * later ends the process at once; others say nothing new. Until quit_started the first ends it,
 * too, if that has not come two seconds later. Ignore SIGPIPE. Main thread, once, after quit_open.
 */
void quit_install(void);

/* From now on whoever wishes it to end is heard. When the orderly end has not ended the process
 * `limit` seconds after the wish (0: unlimited), it is ended at once: the last resort, for a main
 * thread that hangs. Main thread. */
void quit_started(unsigned limit);

/* The wish, from any thread; does not block. */
void quit_request(void);

/* A socket or folder that exists and is to go with this process: it is removed if that has to end
 * at once, unless another file is in its place by then. A folder is noted before what is in it.
 * There is room for eight; what is too much, or has too long a name, is left behind. Main thread.
 */
void quit_leftover(const char *path);
/* It has been removed, or is about to be. Main thread. */
void quit_no_leftover(const char *path);

/* End the process at once, with EXIT_FAILURE; what was noted is removed. Any thread. */
void quit_now(void) G_GNUC_NORETURN;

/* In a child that is not the server: signals as they are by default. */
void quit_uninstall(void);

#endif
