/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/session-rig.h"

#include "server/registry/registry-private.h"

#include <string.h>

/* ---- the house ---- */

void start(struct house *h)
{
    house_start(h, "vda vdb");
    house_start_sessions(h);
}

void house_begin(struct house *h)
{
    house_build(h, true);
    start(h);
}

void house_end(struct house *h)
{
    house_stop(h);
    house_clear(h);
}

void restart(struct house *h)
{
    house_stop(h);
    start(h);
}

/* ---- beginnings ---- */

char *begin(struct house *h, const struct wish *w)
{
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(struct session_request_disk));
    const struct session_request_disk vda = {.disk = h->vda};
    const struct session_request_disk vdb = {.disk = h->vdb, .export = w->export};
    const struct session_request r = {
        .id = w->id,
        .since = w->since,
        .checkpoint = w->checkpoint,
        .disks = disks,
        .strict = w->strict,
        .alone = !w->together,
        .lease = -1,
    };
    struct instant *i = instant_new();
    struct session *n;
    GError *error = NULL;
    int staged;

    g_array_append_val(disks, vda);
    g_array_append_val(disks, vdb);
    staged = session_stage_begin(h->sessions, i, &r, &n, &error);
    if (staged == 0 && w->spoil)
        w->spoil(h, i);
    return finish(i, staged, error);
}

int stage_one(struct house *h, struct instant *i, const char *id, struct disk *d, GError **err)
{
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(struct session_request_disk));
    const struct session_request_disk disk = {.disk = d};
    const struct session_request r = {.id = id, .disks = disks, .alone = true, .lease = -1};
    struct session *n;

    g_array_append_val(disks, disk);
    return session_stage_begin(h->sessions, i, &r, &n, err);
}

void begin_one(struct house *h, const char *id, struct disk *d)
{
    struct instant *i = instant_new();
    GError *error = NULL;
    int staged = stage_one(h, i, id, d, &error);

    expect(finish(i, staged, error), NULL);
}

void make_old(struct house *h)
{
    const struct wish first = {.id = "first", .checkpoint = "old"};

    expect(begin(h, &first), NULL);
    expect(end(h, "first", true, NULL), NULL);
}

/* ---- ends ---- */

void answered(void *opaque, const GError *error)
{
    struct answer *a = opaque;

    a->done = true;
    a->why = error ? g_strdup(error->message) : NULL;
}

char *wait_for_answer(struct answer *a)
{
    while (!a->done)
        g_main_context_iteration(NULL, TRUE);
    run_main_loop();
    return a->why;
}

char *end(struct house *h, const char *id, bool commit, const char *reason)
{
    struct answer a = {.done = false};
    GError *error = NULL;
    struct session *n = session_find(h->sessions, id, &error);

    g_assert_no_error(error);
    session_end(n, commit, reason, answered, &a);
    return wait_for_answer(&a);
}

/* ---- what there is ---- */

const char *state_of(struct house *h, const char *id)
{
    static const char *const states[] = {[SESSION_ACTIVE] = "active",
                                         [SESSION_COMMITTED] = "committed",
                                         [SESSION_ABORTED] = "aborted"};
    g_autoptr(GArray) list = sessions_list(h->sessions);

    for (unsigned i = 0; i < list->len; i++)
        if (strcmp(g_array_index(list, struct session_info, i).id, id) == 0)
            return states[g_array_index(list, struct session_info, i).state];
    return NULL;
}

char *why_gone(struct house *h, const char *id)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(session_find(h->sessions, id, &error));
    return g_strdup(error->message);
}

unsigned count_views(struct house *h)
{
    g_autoptr(GPtrArray) views = server_views(h->server);

    return views->len;
}

unsigned count_exports(struct house *h)
{
    g_autoptr(GArray) exports = server_exports(h->server);

    return exports->len;
}

void expect_bitmaps_of_both(struct house *h, const char *expected)
{
    expect_bitmaps(h->vda, expected);
    expect_bitmaps(h->vdb, expected);
}

void expect_nothing_left(struct house *h)
{
    const struct wish good = {.id = "good", .since = "old", .checkpoint = "new", .export = "e"};

    run_main_loop();
    g_assert_cmpstr(state_of(h, "b"), !=, "active");
    g_assert_cmpuint(count_views(h) + count_exports(h), ==, 0);
    g_assert_cmpuint(g_hash_table_size(h->server->reserved), ==, 0);
    expect_bitmaps_of_both(h, "(old)");
    expect(begin(h, &good), NULL);
    g_assert_cmpuint(count_views(h) + count_exports(h), ==, 4);
    expect_bitmaps_of_both(h, "(old)! (new)");
    expect(end(h, "good", false, NULL), NULL);
    g_assert_cmpuint(count_views(h) + count_exports(h), ==, 0);
    expect_bitmaps_of_both(h, "(old)");
}
