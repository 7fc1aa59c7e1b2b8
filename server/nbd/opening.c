/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/opening.h"

#include "common/util/log-limit.h"
#include "server/nbd/admission.h"

/* The export's places are taken. */
static uint32_t no_place(struct connection *c, struct export *e, char **why)
{
    const char *name = export_info(e)->name;
    unsigned max = c->client.port->admission->max_connections;

    if (atomic_load(&c->server->clients.ending)) {
        *why = g_strdup("the server is shutting down");
        return NBD_REP_ERR_SHUTDOWN;
    }
    log_error_limited(&export_info(e)->node->open_errors,
                      "export %s: a client is refused: there are as many as may be on a socket, %u",
                      name, max);
    *why = g_strdup_printf("export \"%s\" has as many clients as it may, %u", name, max);
    return NBD_REP_ERR_POLICY;
}

uint32_t opening_try(struct connection *c, struct export *e, struct agreement agreed,
                     int64_t deadline, char **why)
{
    const char *name = export_info(e)->name;
    g_autoptr(GError) err = NULL;

    if (!admission_take_place(&c->client, e, deadline))
        return no_place(c, e, why);
    if (connection_open(c, e, agreed, deadline, &err) == 0)
        return 0;
    admission_leave_place(&c->client);
    if (atomic_load(&c->leaving)) {
        *why = g_strdup_printf("export \"%s\" is being removed", name);
        return NBD_REP_ERR_UNKNOWN;
    }
    /* What went wrong is our operator's business, and may name files. */
    log_error_limited(&export_info(e)->node->open_errors, "export %s: a client is refused: %s",
                      name, err->message);
    *why =
        g_strdup_printf("export \"%s\" is there, but its plugin does not open it for this client;"
                        " the server's log says why",
                        name);
    return NBD_REP_ERR_POLICY;
}
