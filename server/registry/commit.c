/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/registry/commit.h"

void server_commit(struct server *s, struct instant *i,
                   void (*done)(void *opaque, const GError *error), void *opaque)
{
    g_autoptr(GError) error = NULL;

    instant_commit(i, &error);
    done(opaque, error);
}

void server_cancel_commits(struct server *s)
{
}
