/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The freeze hook of an instant. An instant that begins several sessions runs it once, for the disks
 * of all of them: a guest that stands still already cannot be frozen once more.
 */
#include "common/base/deadline.h"
#include "common/util/log.h"
#include "server/backup/quiesce.h"
#include "server/backup/session-private.h"

#include <string.h>

/* How often, in milliseconds, the end of the server looks whether it still has to wait. An instant whose
 * hook has ended wakes it, too. */
#define WAIT_MS 100

struct quiescing {
    struct sessions *all;
    struct instant *instant; /* to be compared only */
    struct quiesce *hook;
    GPtrArray *disks;    /* their names; borrowed from the disks */
    GPtrArray *sessions; /* struct session, references */
    bool strict;         /* one of them is */
    GError *error;       /* of `freeze`; NULL: the guests stood still */
};

/* A thread of the instant. */
static int freeze(void *opaque, GError **err)
{
    struct quiescing *q = opaque;

    if (quiesce_freeze(q->hook, &q->error) == 0)
        return 0;
    if (!q->strict && !quiesce_is_cut(q->hook))
        return 0;
    g_propagate_error(err, g_error_copy(q->error));
    return -1;
}

/* Before its text is asked for. */
static void note_thaw(struct session *n, const char *why)
{
    g_autofree char *before = g_steal_pointer(&n->record.quiesce_error);

    n->record.quiesce_error = before ? g_strdup_printf("%s; %s", before, why) : g_strdup(why);
}

/* Likewise. */
static void thaw(void *opaque)
{
    struct quiescing *q = opaque;
    g_autoptr(GError) why = NULL;

    if (quiesce_thaw(q->hook, &why) == 0)
        return;
    for (unsigned i = 0; i < q->sessions->len; i++)
        note_thaw(q->sessions->pdata[i], why->message);
}

static void done(void *opaque)
{
    struct quiescing *q = opaque;

    g_ptr_array_remove(q->all->quiescing, q);
    for (unsigned i = 0; i < q->sessions->len; i++)
        session_unref(q->sessions->pdata[i]);
    g_ptr_array_unref(q->sessions);
    g_ptr_array_unref(q->disks);
    quiesce_free(q->hook);
    g_clear_error(&q->error);
    g_free(q);
}

/* At the flip: put the result of `freeze` into the sessions' records, whose text is asked for after the
 * flip. */
static void note(void *opaque)
{
    struct quiescing *q = opaque;

    for (unsigned i = 0; i < q->sessions->len; i++) {
        struct session *n = q->sessions->pdata[i];

        n->record.quiesced = !q->error;
        n->record.quiesce_error = q->error ? g_strdup(q->error->message) : NULL;
    }
}

static struct quiescing *find(struct sessions *all, struct instant *i)
{
    for (unsigned k = 0; k < all->quiescing->len; k++) {
        struct quiescing *q = all->quiescing->pdata[k];

        if (q->instant == i)
            return q;
    }
    return NULL;
}

static struct quiescing *begin(struct sessions *all, struct instant *i)
{
    struct quiescing *q = g_new0(struct quiescing, 1);

    *q = (struct quiescing){.all = all, .instant = i};
    q->disks = g_ptr_array_new();
    q->sessions = g_ptr_array_new();
    g_ptr_array_add(all->quiescing, q);
    instant_quiesce(i, freeze, thaw, q);
    instant_on_end(i, done, q);
    return q;
}

void sessions_cut_hooks(struct sessions *all)
{
    for (unsigned k = 0; k < all->quiescing->len; k++) {
        struct quiescing *q = all->quiescing->pdata[k];

        quiesce_cut(q->hook);
    }
}

static bool any_is_active(const struct sessions *all)
{
    for (unsigned k = 0; k < all->quiescing->len; k++) {
        struct quiescing *q = all->quiescing->pdata[k];

        if (quiesce_is_active(q->hook))
            return true;
    }
    return false;
}

static gboolean wake_up(void *opaque)
{
    return G_SOURCE_CONTINUE;
}

void sessions_wait_for_hooks(struct sessions *all)
{
    unsigned seconds = quiesce_end_seconds(all->options.freeze_timeout);
    int64_t deadline = deadline_in(seconds * G_TIME_SPAN_SECOND);
    guint timer;

    if (!any_is_active(all))
        return;
    log_info("the end of the server waits until guests are thawed");
    timer = g_timeout_add(WAIT_MS, wake_up, NULL);
    while (any_is_active(all) && deadline_in(0) < deadline)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(timer);
}

int session_stage_quiesce(struct session *n, struct instant *i, bool strict, GError **err)
{
    struct sessions *all = n->all;
    struct quiescing *q = all->options.freeze_hook ? find(all, i) : NULL;

    if (!all->options.freeze_hook)
        return 0;
    if (!q)
        q = begin(all, i);
    n->record.hooked = true;
    q->strict |= strict;
    for (unsigned k = 0; k < n->record.disks->len; k++) {
        const char *name = disk_name(n->disks[k].disk);

        if (!g_ptr_array_find_with_equal_func(q->disks, name, g_str_equal, NULL))
            g_ptr_array_add(q->disks, (gpointer)name);
    }
    quiesce_free(q->hook);
    q->hook = quiesce_new(all->options.freeze_hook, all->options.freeze_timeout, q->disks);
    if (all->stopped)
        quiesce_cut(q->hook);
    g_ptr_array_add(q->sessions, session_ref(n));
    return q->sessions->len > 1 ? 0 : instant_at_flip(i, n->disks[0].disk, note, q, err);
}
