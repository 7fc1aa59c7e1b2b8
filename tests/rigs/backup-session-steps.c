/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands about sessions. */
#include "tests/rigs/backup-model.h"

#include <string.h>

static char *id_of(const struct model_session *n)
{
    return g_strdup_printf("s%u", n->serial);
}

/* ---- those that end by themselves ---- */

static bool has_nodes(struct life *l, const struct model_session *n)
{
    for (unsigned d = 0; d < DISKS; d++) {
        g_autofree char *name = g_strdup_printf("s%u/disk%u", n->serial, d);

        if (server_find_node(l->server, name))
            return true;
    }
    return false;
}

static void has_ended(struct life *l, struct model_session *n, const char *why)
{
    model_check(l->m, (n->leased && strstr(why, "lease")) || (n->limited && strstr(why, "scratch")),
                "s%u has ended: %s", n->serial, why);
    l->unsure = has_nodes(l, n);
    model_ended(l->m, n, false, false);
    l->m->count.ended++;
}

void sessions_look(struct life *l)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct model_session *n = &l->m->sessions[i];
        g_autofree char *id = id_of(n);
        g_autoptr(GError) error = NULL;

        if (n->used && (n->leased || n->limited) && !session_find(l->backup->sessions, id, &error))
            has_ended(l, n, error->message);
    }
}

struct settling {
    struct life *life;
    bool done;
};

static bool is_expected_node(const struct model *m, const char *name)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        g_autofree char *id = g_strdup_printf("s%u/", m->sessions[i].serial);

        if (m->sessions[i].used && g_str_has_prefix(name, id))
            return true;
    }
    return false;
}

static gboolean look(gpointer opaque)
{
    struct settling *s = opaque;
    g_autoptr(GPtrArray) views = server_views(s->life->server);

    model_lock();
    s->done = true;
    for (unsigned i = 0; i < views->len; i++)
        s->done = s->done && is_expected_node(s->life->m, view_name(views->pdata[i]));
    model_unlock();
    return !s->done;
}

void sessions_settle(struct life *l)
{
    struct settling s = {.life = l};
    guint source;

    sessions_look(l);
    while (look(&s)) {
        source = g_timeout_add(1, look, &s);
        life_wait(l, &s.done);
        g_assert_null(g_main_context_find_source_by_id(NULL, source));
        sessions_look(l);
    }
    l->unsure = false;
}

/* ---- begin ---- */

static void flip(void *life)
{
    model_flip(((struct life *)life)->m);
}

struct begin {
    struct model_session *n;
    struct model_checkpoint *checkpoint; /* NULL: none */
    uint32_t common, own[DISKS];         /* bases that are asked for: serials; 0: none */
    uint32_t limit;                      /* of scratch */
};

static bool is_base(struct model *m, uint32_t serial, unsigned disk)
{
    const struct model_checkpoint *c = model_checkpoint(m, serial);

    return c && !c->pending && c->on[disk];
}

/* What each disk will be given. False: the session is strict, and one cannot have its base. */
static bool foresee(struct model *m, struct begin *b)
{
    bool all = true;

    for (unsigned d = 0; d < DISKS; d++) {
        struct model_session_disk *disk = &b->n->disks[d];

        if (!disk->used)
            continue;
        uint32_t since = b->own[d] ? b->own[d] : b->common;

        disk->asked = since != 0;
        disk->base = is_base(m, since, d) ? since : 0;
        all = all && (!disk->asked || disk->base);
    }
    return all || !b->n->strict;
}

/* NULL: none is asked for. */
static char *base_name(uint32_t serial)
{
    return serial ? g_strdup_printf("c%u", serial) : NULL;
}

static int stage_begin(struct life *l, struct instant *i, void *opaque, GError **err)
{
    struct begin *b = opaque;
    g_autofree char *id = id_of(b->n);
    g_autofree char *checkpoint = b->checkpoint ? base_name(b->checkpoint->serial) : NULL;
    g_autofree char *since = base_name(b->common);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) disks = g_array_new(FALSE, TRUE, sizeof(struct session_request_disk));
    struct session_request r = {.id = id,
                                .since = since,
                                .checkpoint = checkpoint,
                                .disks = disks,
                                .strict = b->n->strict,
                                .discard = b->n->discard,
                                .lease = b->n->leased ? 1 : 0,
                                .scratch_limit = b->limit};
    struct session *session;
    unsigned first = DISKS;

    sessions_look(l);
    expect_done(l, foresee(l->m, b));
    for (unsigned d = DISKS; d-- > 0;) {
        const struct session_request_disk disk = {.disk = l->disks[d],
                                                  .since = base_name(b->own[d])};

        g_ptr_array_add(names, (char *)disk.since);
        if (b->n->disks[d].used) {
            g_array_append_val(disks, disk);
            first = d;
        }
    }
    if (b->checkpoint)
        r.granularity = b->checkpoint->granularity;
    if (session_stage_begin(l->backup->sessions, i, &r, &session, err) < 0)
        return -1;
    return instant_at_flip(i, l->disks[first], flip, l, err);
}

/* Its answer. */
static void check_answer(struct life *l, const struct model_session *n)
{
    g_autofree char *id = id_of(n);
    g_autoptr(GError) error = NULL;
    struct session *session = session_find(l->backup->sessions, id, &error);
    struct session_info info;

    if (!session && (n->limited || n->leased))
        return;
    g_assert_no_error(error);
    session_info(session, &info);
    for (unsigned k = 0; k < info.disks->len; k++) {
        const struct session_disk_info *got =
            &g_array_index(info.disks, struct session_disk_info, k);
        unsigned d = (unsigned)(disk_name(got->disk)[4] - '0');
        const struct model_session_disk *want = &n->disks[d];

        model_check(l->m,
                    want->used && got->incremental == (want->base != 0) &&
                        !got->reason == !(want->asked && !want->base) &&
                        got->size == (uint64_t)want->at.sectors * SECTOR,
                    "s%u: disk%u: incremental %d, reason %s, size %" G_GUINT64_FORMAT, n->serial, d,
                    got->incremental, got->reason, got->size);
    }
    session_info_clear(&info);
}

/* A checkpoint's slot that is free, or NULL. */
static struct model_checkpoint *free_checkpoint(struct model *m)
{
    for (unsigned i = 0; i < CHECKPOINTS; i++)
        if (!m->checkpoints[i].used)
            return &m->checkpoints[i];
    return NULL;
}

static void plan_checkpoint(struct model *m, struct begin *b)
{
    struct model_checkpoint *c = b->checkpoint = model_once_in(m, 3) ? NULL : free_checkpoint(m);

    b->n->checkpoint = 0;
    if (!c)
        return;
    c->serial = b->n->checkpoint = ++m->serials;
    c->pending = true;
    c->granularity = 4096u << model_below(m, 5);
    for (unsigned d = 0; d < DISKS; d++)
        c->on[d] = b->n->disks[d].used;
    m->pending.checkpoint = (uint32_t)(c - m->checkpoints) + 1;
}

/* Perhaps of one that is gone; 0: none. */
static uint32_t choose_base(struct model *m)
{
    return model_once_in(m, 3) ? 0 : m->checkpoints[model_below(m, CHECKPOINTS)].serial;
}

static void plan_disks(struct model *m, struct begin *b)
{
    unsigned must = model_below(m, DISKS);

    b->common = choose_base(m);
    for (unsigned d = 0; d < DISKS; d++) {
        b->n->disks[d].used = d == must || model_once_in(m, 2);
        b->own[d] = model_once_in(m, 2) ? choose_base(m) : 0;
    }
}

static void plan_begin(struct model *m, struct begin *b)
{
    struct model_session *n = b->n;

    n->serial = ++m->serials;
    n->strict = model_once_in(m, 4);
    n->discard = model_once_in(m, 2);
    n->leased = model_once_in(m, 100);
    n->limited = model_once_in(m, 16);
    b->limit = n->limited ? 4096 * (1 + model_below(m, 64)) : 0;
    plan_disks(m, b);
    plan_checkpoint(m, b);
}

static void begun(struct life *l, struct begin *b)
{
    if (b->checkpoint) {
        b->checkpoint->used = true;
    }
    b->n->used = true;
    l->m->pending.kind = PENDING_NOTHING;
    l->m->count.begun++;
    check_answer(l, b->n);
    check_session(l, b->n);
}

static void session_begin(struct life *l, unsigned slot)
{
    struct model *m = l->m;
    struct begin b = {.n = &m->sessions[slot]};
    bool on[DISKS];
    g_autoptr(GError) error = NULL;

    m->pending = (struct pending){.slot = slot};
    plan_begin(m, &b);
    for (unsigned d = 0; d < DISKS; d++)
        on[d] = b.n->disks[d].used;
    m->pending.kind = PENDING_BEGIN;
    bool done = life_change(l, on, stage_begin, &b, &error);
    expect_check(l, done, "begin", error);
    m->pending.kind = PENDING_NOTHING;
    if (done)
        begun(l, &b);
}

/* ---- end ---- */

static gboolean set(gpointer done)
{
    *(bool *)done = true;
    return G_SOURCE_REMOVE;
}

struct end {
    bool done;
    GError *error;
};

static void ended(void *opaque, const GError *error)
{
    struct end *e = opaque;

    e->done = true;
    e->error = error ? g_error_copy(error) : NULL;
}

static void session_finish(struct life *l, struct model_session *n, bool commit)
{
    struct model *m = l->m;
    g_autofree char *id = id_of(n);
    g_autoptr(GError) error = NULL;
    struct session *session = session_find(l->backup->sessions, id, &error);
    struct end e = {.done = false};

    if (!session) {
        has_ended(l, n, error->message);
        sessions_settle(l);
        return;
    }
    m->pending = (struct pending){
        .kind = PENDING_END, .slot = (unsigned)(n - m->sessions), .commit = commit};
    model_unlock();
    session_end(session, commit, commit ? NULL : MODEL_REASON, ended, &e);
    model_lock();
    life_wait(l, &e.done);
    if (e.error)
        has_ended(l, n, e.error->message);
    else
        model_ended(m, n, commit, true);
    m->pending.kind = PENDING_NOTHING;
    g_clear_error(&e.error);
    sessions_settle(l);
}

void session_step(struct life *l)
{
    struct model *m = l->m;
    unsigned slot = model_below(m, SESSIONS);
    struct model_session *n = &m->sessions[slot];

    if (!n->used) {
        session_begin(l, slot);
    } else {
        check_session(l, n);
        if (n->used)
            session_finish(l, n, !model_once_in(m, 3));
    }
}

/* Wait until the lease of the session has ended. */
static void wait_for_lease(struct life *l, struct model_session *n)
{
    bool done = false;

    while (n->used) {
        guint source = g_timeout_add(10, set, &done);

        life_wait(l, &done);
        g_assert_null(g_main_context_find_source_by_id(NULL, source));
        done = false;
        sessions_look(l);
    }
    sessions_settle(l);
}

void lease_step(struct life *l)
{
    sessions_look(l);
    for (unsigned i = 0; i < SESSIONS; i++)
        if (l->m->sessions[i].used && l->m->sessions[i].leased) {
            wait_for_lease(l, &l->m->sessions[i]);
            return;
        }
}

void sessions_end_all(struct life *l)
{
    for (unsigned i = 0; i < SESSIONS; i++)
        if (l->m->sessions[i].used)
            session_finish(l, &l->m->sessions[i], model_once_in(l->m, 2));
}
