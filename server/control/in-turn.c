/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/control/in-turn.h"
#include "server/control/control-private.h"

struct wait {
    struct qmp_call *call;
    void (*disks)(struct qmp_call *call, GPtrArray *disks);
    void (*run)(struct qmp_call *call, struct turn *turn);
    GPtrArray *asked; /* disks that the turn is on */
};

void control_add_disk(struct server *s, const char *node, GPtrArray *disks)
{
    struct node *n = server_find_node(s, node);
    struct view *v = n ? node_to_view(n) : NULL;

    if (n)
        g_ptr_array_add(disks, v ? view_disk(v) : node_to_disk(n));
}

void control_end_turn(struct qmp_call *call, struct turn *turn, GError *error)
{
    turn_end(turn);
    if (error)
        qmp_call_fail(call, error);
    else
        qmp_call_return(call, NULL);
    g_clear_error(&error);
}

static GPtrArray *disks_now(const struct wait *w)
{
    GPtrArray *disks = g_ptr_array_new();

    w->disks(w->call, disks);
    return disks;
}

static bool has_all(const GPtrArray *have, const GPtrArray *wanted)
{
    for (guint i = 0; i < wanted->len; i++)
        if (!g_ptr_array_find((GPtrArray *)have, wanted->pdata[i], NULL))
            return false;
    return true;
}

static void wait_free(struct wait *w)
{
    g_ptr_array_unref(w->asked);
    g_free(w);
}

/* While the command waited, the view that it names may have been deleted, and another disk may have
 * got a view of that name. */
static void begin(void *opaque, struct turn *turn, const GError *error)
{
    struct wait *w = opaque;
    g_autoptr(GPtrArray) disks = error ? NULL : disks_now(w);
    struct qmp_call *call = w->call;
    void (*run)(struct qmp_call *, struct turn *) = w->run;

    if (!error && !has_all(w->asked, disks)) {
        turn_end(turn);
        g_ptr_array_unref(w->asked);
        w->asked = g_steal_pointer(&disks);
        server_take_turn(call_server(call), w->asked, begin, w);
        return;
    }
    wait_free(w);
    if (error)
        qmp_call_fail(call, error);
    else
        run(call, turn);
}

void control_run_in_turn(struct qmp_call *call,
                         void (*disks)(struct qmp_call *call, GPtrArray *disks),
                         void (*run)(struct qmp_call *call, struct turn *turn))
{
    struct wait *w = g_new(struct wait, 1);

    *w = (struct wait){.call = call, .disks = disks, .run = run};
    w->asked = disks_now(w);
    server_take_turn(call_server(call), w->asked, begin, w);
}
