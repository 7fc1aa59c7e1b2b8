/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/control/transaction.h"
#include "server/control/control-private.h"
#include "server/registry/commit.h"
#include "server/registry/turn.h"

struct part {
    const struct action *type;
    JsonObject *data;
    void *state;
};

struct transaction {
    struct qmp_call *call;
    struct server *server;
    struct turn *turn;
    struct instant *instant;
    struct part *parts;
    unsigned n, prepared;
    GHashTable *removed; /* bitmaps that it removes, a set of removed_key() */
};

struct control *transaction_control(struct transaction *t)
{
    return call_control(t->call);
}

struct server *transaction_server(struct transaction *t)
{
    return t->server;
}

struct backup *transaction_backup(struct transaction *t)
{
    return call_backup(t->call);
}

struct instant *transaction_instant(struct transaction *t)
{
    return t->instant;
}

static char *removed_key(struct disk *d, const char *name)
{
    return g_strdup_printf("%p/%s", (void *)d, name);
}

void transaction_removes_bitmap(struct transaction *t, struct disk *d, const char *name)
{
    g_hash_table_add(t->removed, removed_key(d, name));
}

bool transaction_has_removed_bitmap(struct transaction *t, struct disk *d, const char *name)
{
    g_autofree char *key = removed_key(d, name);

    return g_hash_table_contains(t->removed, key);
}

/* Where the client has gone, the control socket may be gone, too: an instant that the server's end gave
 * up waiting for comes here at last. */
static JsonNode *result(struct transaction *t, GError **err)
{
    const struct action *type = t->call->command->action; /* NULL: it is a transaction */
    JsonNode *value = NULL;

    if (type && type->result && t->call->client)
        type->result(t, t->parts[0].state, &value, err);
    return value;
}

/* The instant has been (`error` is NULL), or there will be none. */
static void end(void *opaque, const GError *error)
{
    g_autoptr(GError) wrong = NULL;
    struct transaction *t = opaque;
    struct qmp_call *call = t->call;
    JsonNode *value;

    for (unsigned i = 0; i < t->prepared && !error; i++)
        if (t->parts[i].type->commit)
            t->parts[i].type->commit(t, t->parts[i].state);
    for (unsigned i = t->prepared; i-- > 0 && error;)
        if (t->parts[i].type->abort)
            t->parts[i].type->abort(t, t->parts[i].state);
    value = error ? NULL : result(t, &wrong);
    for (unsigned i = 0; i < t->prepared; i++)
        if (t->parts[i].type->clean)
            t->parts[i].type->clean(t, t->parts[i].state);
    if (t->turn)
        turn_end(t->turn);
    g_hash_table_unref(t->removed);
    g_free(t->parts);
    g_free(t);
    if (error || wrong)
        qmp_call_fail(call, error ? error : wrong);
    else
        qmp_call_return(call, value);
}

static int prepare(struct transaction *t, GError **err)
{
    for (; t->prepared < t->n; t->prepared++) {
        struct part *p = &t->parts[t->prepared];

        if (p->type->prepare(t, p->data, &p->state, err) < 0)
            return -1;
    }
    return 0;
}

static void begin(void *opaque, struct turn *turn, const GError *no_turn)
{
    g_autoptr(GError) error = NULL;
    struct transaction *t = opaque;

    if (no_turn) {
        end(t, no_turn);
        return;
    }
    t->turn = turn;
    t->instant = instant_new();
    if (prepare(t, &error) < 0) {
        instant_abort(t->instant);
        end(t, error);
        return;
    }
    server_commit(t->server, t->instant, end, t);
}

void transaction_run(struct qmp_call *call, const struct action *const *types,
                     JsonObject *const *data, unsigned n)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    struct transaction *t = g_new0(struct transaction, 1);

    t->call = call;
    t->server = call_server(call);
    t->parts = g_new0(struct part, n);
    t->n = n;
    t->removed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (unsigned i = 0; i < n; i++) {
        t->parts[i] = (struct part){.type = types[i], .data = data[i]};
        if (types[i]->disks)
            types[i]->disks(t->server, data[i], disks);
    }
    server_take_turn(t->server, disks, begin, t);
}

void transaction_of_one(struct qmp_call *call, JsonObject *args)
{
    transaction_run(call, &call->command->action, &args, 1);
}
