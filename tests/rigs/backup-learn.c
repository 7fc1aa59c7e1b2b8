/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/backup-model.h"

#include <string.h>

/* ---- sessions ---- */

/* What the server says of a session; NULL: nothing. */
static const struct session_info *find(const GArray *list, uint32_t serial)
{
    g_autofree char *id = g_strdup_printf("s%u", serial);

    for (unsigned i = 0; i < list->len; i++)
        if (g_str_equal(g_array_index(list, struct session_info, i).id, id))
            return &g_array_index(list, struct session_info, i);
    return NULL;
}

static void learn_begin(struct life *l, const GArray *list)
{
    struct pending *p = &l->m->pending;
    struct model_session *n = &l->m->sessions[p->slot];
    const struct session_info *info = find(list, n->serial);
    struct model_checkpoint *c = p->checkpoint ? &l->m->checkpoints[p->checkpoint - 1] : NULL;

    if (!info)
        return;
    model_check(l->m, p->flipped, "s%u is there, and its instant has not been", n->serial);
    n->used = true;
    if (c) {
        c->used = true;
    }
}

static void learn_session(struct life *l, const GArray *list, struct model_session *n)
{
    const struct pending *p = &l->m->pending;
    const struct session_info *info = find(list, n->serial);
    bool ending = p->kind == PENDING_END && &l->m->sessions[p->slot] == n;

    model_check(l->m, info, "s%u is forgotten", n->serial);
    if (info->state == SESSION_COMMITTED)
        model_check(l->m, ending && p->commit, "s%u is committed", n->serial);
    else if (info->state == SESSION_ABORTED)
        model_check(l->m, info->reason, "s%u was aborted without a reason", n->serial);
    else
        model_check(l->m, info->resumed, "s%u is active and not resumed", n->serial);
    if (info->state == SESSION_ACTIVE)
        l->m->count.resumed++;
    else
        model_ended(l->m, n, info->state == SESSION_COMMITTED, false);
}

/* What was decided before holds. */
static void check_ended(struct life *l, const GArray *list)
{
    for (unsigned i = 0; i < ENDED; i++) {
        uint32_t serial = l->m->ended[i].serial;
        const struct session_info *info = serial ? find(list, serial) : NULL;

        if (!serial)
            continue;
        model_check(l->m, info, "s%u, which has ended, is forgotten", serial);
        model_check(l->m,
                    info->state == (l->m->ended[i].committed ? SESSION_COMMITTED : SESSION_ABORTED),
                    "s%u has ended in another way", serial);
        model_check(l->m,
                    l->m->ended[i].committed || !l->m->ended[i].wanted ||
                        g_strcmp0(info->reason, MODEL_REASON) == 0,
                    "s%u was aborted, because %s", serial, info->reason);
    }
}

static void learn_sessions(struct life *l)
{
    g_autoptr(GArray) list = sessions_list(l->backup->sessions);

    if (l->m->pending.kind == PENDING_BEGIN)
        learn_begin(l, list);
    for (unsigned i = 0; i < SESSIONS; i++)
        if (l->m->sessions[i].used)
            learn_session(l, list, &l->m->sessions[i]);
    check_ended(l, list);
}

/* ---- checkpoints, bitmaps, sizes ---- */

static bool is_listed(struct life *l, uint32_t serial)
{
    g_autofree char *name = g_strdup_printf("c%u", serial);
    g_autoptr(GArray) list = checkpoints_list(l->backup->checkpoints);

    for (unsigned i = 0; i < list->len; i++)
        if (g_str_equal(g_array_index(list, struct checkpoint_info, i).name, name))
            return true;
    return false;
}

static void learn_checkpoint(struct life *l)
{
    const struct pending *p = &l->m->pending;
    struct model_checkpoint *c = &l->m->checkpoints[p->slot];
    bool listed = is_listed(l, c->serial);

    if (p->kind == PENDING_DELETE && !c->pending && !listed)
        c->used = false;
    if (p->kind != PENDING_CREATE || !listed)
        return;
    model_check(l->m, p->flipped, "c%u is there, and its instant has not been", c->serial);
    c->used = true;
}

static void learn_bitmap(struct life *l)
{
    const struct pending *p = &l->m->pending;
    struct model_bitmap *b = &l->m->bitmaps[p->disk][p->slot];
    g_autofree char *name = g_strdup_printf("b%u", p->after.serial);
    struct dirty_bitmap *db = disk_find_bitmap(l->disks[p->disk], name);

    if (!db) {
        model_check(l->m, !b->used || (p->flipped && !p->after.used), "%s is gone", name);
        b->used = false;
        return;
    }
    if (!b->used || !check_bitmap(l, p->disk, db, b)) {
        model_check(l->m, p->flipped && p->after.used && p->after.persistent,
                    "%s has changed, and the instant has not been", name);
        *b = p->after;
    }
    dirty_bitmap_unref(db);
}

/* A bitmap that does not record: what has grown is dirty in it, too, if the kill came before the
 * commit. */
static void learn_growth(struct life *l, unsigned disk, struct model_bitmap *b, uint32_t old)
{
    g_autofree char *name = g_strdup_printf("b%u", b->serial);
    struct dirty_bitmap *db = disk_find_bitmap(l->disks[disk], name);

    if (db && !check_bitmap(l, disk, db, b))
        model_mark(b, old, l->m->now[disk].sectors - old);
    dirty_bitmap_unref(db);
}

static void learn_size(struct life *l)
{
    const struct pending *p = &l->m->pending;
    uint32_t old = l->m->now[p->disk].sectors;

    if (l->m->image_sectors[p->disk] != old) {
        model_check(l->m, l->m->image_sectors[p->disk] == p->sectors, "size of disk%u", p->disk);
        l->m->may_have_orphans = true;
        model_resized(l->m, p->disk, p->sectors);
        for (unsigned i = 0; p->sectors > old && i < BITMAPS; i++)
            if (l->m->bitmaps[p->disk][i].used && !l->m->bitmaps[p->disk][i].recording)
                learn_growth(l, p->disk, &l->m->bitmaps[p->disk][i], old);
    } else if (p->sectors > old) { /* the last granule may be dirty already */
        l->maybe[p->disk].first = old - 1;
        l->maybe[p->disk].n = 1;
    }
}

static void forget_transient(struct model *m)
{
    for (unsigned d = 0; d < DISKS; d++)
        for (unsigned i = 0; i < BITMAPS; i++)
            m->bitmaps[d][i].used = m->bitmaps[d][i].used && m->bitmaps[d][i].persistent;
}

/* Write anew what a kill has left unsure. */
static void make_sure(struct life *l, unsigned disk)
{
    uint32_t per = COARSEST / SECTOR, first = l->maybe[disk].first, n = l->maybe[disk].n;
    uint32_t end = MIN((first + n + per - 1) / per * per, l->m->now[disk].sectors);

    if (n == 0)
        return;
    l->maybe[disk].n = 0;
    guest_overwrite(l, disk, first / per * per, end - first / per * per);
}

void learn(struct life *l)
{
    struct model *m = l->m;

    if (m->change.n > 0) {
        l->maybe[m->change.disk].first = m->change.first;
        l->maybe[m->change.disk].n = m->change.n;
    }
    m->count.cut_changes += m->change.n > 0;
    m->count.cut[m->pending.kind]++;
    forget_transient(m);
    if (m->pending.kind == PENDING_RESIZE)
        learn_size(l);
    learn_sessions(l);
    if (m->pending.kind == PENDING_CREATE || m->pending.kind == PENDING_DELETE)
        learn_checkpoint(l);
    if (m->pending.kind == PENDING_BITMAP)
        learn_bitmap(l);
    m->pending.kind = PENDING_NOTHING;
    m->change.n = 0;
    check_all(l);
    for (unsigned d = 0; d < DISKS; d++)
        make_sure(l, d);
    check_all(l);
}
