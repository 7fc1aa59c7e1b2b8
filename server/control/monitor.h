/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A monitor: one client of the control socket, from its greeting to its end. Main thread only.
 */
#ifndef CONTROL_MONITOR_H
#define CONTROL_MONITOR_H

#include "common/util/log-limit.h"
#include "server/control/qmp.h"

struct monitor;

/* Requests have a lower priority than what earlier requests have set in motion (events, ends of
 * exports and of monitors are callbacks of default priority). So an event is sent before the reply
 * to any request that is received later. */
#define MONITOR_PRIORITY (G_PRIORITY_DEFAULT + 10)

/* Greet the client on the connected stream socket `fd` and serve it from the default main context.
 * Takes over `fd`. `name` is for log lines; `lost_events` limits those about events that the client
 * is too slow for. When the client has gone, `gone` is called once, from the main loop; it has to
 * free the monitor. */
struct monitor *monitor_new(int fd, const char *name, const struct qmp_command *const *commands,
                            void *context, struct log_limit *lost_events,
                            void (*gone)(struct monitor *m, void *opaque), void *opaque);
/* Take no further requests; replies and events still go out. */
void monitor_stop(struct monitor *m);
/* End the connection. What is still to be sent is sent as far as that does not block. */
void monitor_free(struct monitor *m);

/* Send a whole line, unless the client has not negotiated or reads too slowly. */
void monitor_event(struct monitor *m, const GString *line);

#endif
