/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/main-loop.h"

#include <glib.h>

void run_main_loop(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        ;
}

int next_timer(void)
{
    GMainContext *context = g_main_context_default();
    int priority, timeout = -1;
    GPollFD fds[8];

    run_main_loop();
    g_assert_true(g_main_context_acquire(context));
    g_main_context_prepare(context, &priority);
    g_main_context_query(context, G_MAXINT, &timeout, fds, G_N_ELEMENTS(fds));
    g_main_context_release(context);
    return timeout;
}
