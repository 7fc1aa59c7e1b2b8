/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection to the QEMU guest agent of a guest, by the Unix socket that QEMU's chardev listens on
 * (qemu-ga-ref(7)). One thread.
 */
#ifndef HOOKS_GUEST_AGENT_H
#define HOOKS_GUEST_AGENT_H

#include <glib.h>
#include <stdbool.h>

struct guest_agent;

/* Connect, and make sure that the next answers are ours: who used the agent before may have left some
 * unread. `ahead` (or NULL) is a command that is sent at once, before the agent has answered anything:
 * an agent that is busy carries it out later, also if we have gone by then. It has to be the first one
 * that is asked with the functions below, which then wait for its answer only. `deadline`
 * (common/base/deadline.h) is that of all that follows. NULL and *err; *absent (may be NULL) is set to
 * true where nobody listens at the socket, thus no QEMU runs. */
struct guest_agent *guest_agent_open(const char *path, const char *ahead, gint64 deadline,
                                     bool *absent, GError **err);
/* Another one (common/base/deadline.h), of all that follows. */
void guest_agent_set_deadline(struct guest_agent *a, gint64 deadline);
void guest_agent_close(struct guest_agent *a);

/* Send one command without arguments and wait for its answer, of which one of the two is taken: a
 * number, or a text, which is freed with g_free(). 0, or -1 and *err: "agent PATH: COMMAND: ...". */
int guest_agent_number(struct guest_agent *a, const char *command, gint64 *answer, GError **err);
int guest_agent_text(struct guest_agent *a, const char *command, char **answer, GError **err);

#endif
