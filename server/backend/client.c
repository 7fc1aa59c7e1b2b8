/* SPDX-License-Identifier: BSD-3-Clause */
/* The client that a thread works for: nbdkit's functions have no argument that could tell it. */
#include "server/backend/backend.h"

static _Thread_local const struct backend_client *thread_client;

void backend_set_thread_client(const struct backend_client *client)
{
    thread_client = client;
}

const struct backend_client *backend_thread_client(void)
{
    return thread_client;
}
