/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the store of an instant's disks does for it (server/state/state.h tells the order), and what
 * else must be done before the gates are shut for the flip because it can fail or takes long.
 */
#include "common/util/error.h"
#include "server/disk/stage.h"

static struct stage *stage_at(const struct instant *i, unsigned k)
{
    return i->stages->pdata[k];
}

/* May writes that were acknowledged be lost with the process? Those that went by a descriptor are the
 * kernel's. A plugin that offers a map may have in its own memory which bytes lie where. */
static bool holds_writes(const struct disk *d)
{
    return d->state.ops && d->handle->map && d->handle->can_flush && !d->readonly;
}

/* Is there anything that must be durable? Views, unless writes before them have to be flushed, and bitmaps
 * that do not survive, do not wait for the store. */
static bool concerns_store(const struct stage *st)
{
    bool concerns = st->instant->resizes;

    if (st->views->len > 0 && holds_writes(st->disk))
        return true;
    for (unsigned k = 0; k < st->removed->len && !concerns; k++)
        concerns = ((const struct dirty_bitmap *)st->removed->pdata[k])->persistent;
    for (unsigned k = 0; k < st->bitmaps->len && !concerns; k++) {
        const struct staged_bitmap *s = st->bitmaps->pdata[k];

        concerns = stage_replaces(s) && (s->persistent || s->db->persistent);
    }
    return concerns;
}

void stage_begin_store(struct instant *i)
{
    bool concerns = i->records->len > 0;

    for (unsigned k = 0; k < i->stages->len; k++)
        concerns |= concerns_store(stage_at(i, k));
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct disk *d = stage_at(i, k)->disk;

        if (!concerns || !d->state.ops)
            continue;
        g_assert(!i->state || i->state->store == d->state.store);
        i->state = &d->state;
        disk_watch_breaks(d, true);
    }
}

/* ---- files for new bits ---- */

static bool wants_file(const struct staged_bitmap *s)
{
    return s->fresh && s->persistent;
}

static bool has_new_bits(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        const struct stage *st = stage_at(i, k);

        for (unsigned n = 0; n < st->bitmaps->len; n++)
            if (wants_file(st->bitmaps->pdata[n]))
                return true;
    }
    return false;
}

static int attach(const struct stage *st, const struct staged_bitmap *s, GError **err)
{
    const struct disk_state *state = &st->disk->state;

    if (state->ops->bits_attach(state->disk, s->bits, err) == 0)
        return 0;
    g_prefix_error(err, "disk %s: bitmap %s: ", st->disk->node.name, s->db->name);
    return -1;
}

static int attach_all(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        const struct stage *st = stage_at(i, k);

        for (unsigned n = 0; n < st->bitmaps->len; n++)
            if (wants_file(st->bitmaps->pdata[n]) && attach(st, st->bitmaps->pdata[n], err) < 0)
                return -1;
    }
    return 0;
}

const struct phase phase_attach = {
    .working = "files for its bitmaps are being made",
    .prepare = has_new_bits,
    .work = attach_all,
};

/* ---- before the flip ---- */

static bool has_work(struct instant *i)
{
    return i->state || i->on_prepare->len > 0;
}

static void add_removed(const struct stage *st, GArray *changes)
{
    for (unsigned k = 0; k < st->removed->len; k++) {
        const struct dirty_bitmap *db = st->removed->pdata[k];
        const struct state_change change = {
            .disk = st->disk->state.disk,
            .bitmap = db->name,
            .granularity = db->granularity,
            .persistent = db->persistent,
        };

        g_array_append_val(changes, change);
    }
}

/* A bitmap without bits was inconsistent when it was found, and is not changed: the store keeps what it
 * has of it. */
static void add_changes(const struct stage *st, GArray *changes)
{
    add_removed(st, changes);
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        struct staged_bitmap *s = st->bitmaps->pdata[k];
        struct state_change change = {
            .disk = st->disk->state.disk,
            .bitmap = s->db->name,
            .bits = s->bits,
            .granularity = s->db->granularity,
            .recording = s->recording,
            .persistent = s->persistent,
        };

        s->reason = stage_reason(st, s);
        if (!s->bits)
            continue;
        change.size = bitmap_size(s->bits);
        change.inconsistent = s->reason;
        g_array_append_val(changes, change);
    }
}

static void tell_records(const struct instant *i)
{
    for (unsigned k = 0; k < i->records->len; k++)
        i->state->ops->record(i->transaction, &g_array_index(i->records, struct state_record, k));
}

static int prepare_store(struct instant *i, GError **err)
{
    const struct disk_state *state = i->state;
    g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(struct state_change));

    for (unsigned k = 0; k < i->stages->len; k++)
        if (stage_at(i, k)->disk->state.ops)
            add_changes(stage_at(i, k), changes);
    if (state->ops->prepare(state->store, (void *)changes->data, changes->len, &i->transaction,
                            err) < 0)
        return -1;
    i->prepared = true;
    tell_records(i);
    return 0;
}

/* The store comes last, because what it has written is the most work to take back. */
static int prepare_all(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->on_prepare->len; k++) {
        struct prepare_hook h = g_array_index(i->on_prepare, struct prepare_hook, k);

        if (h.fn(h.opaque, err) < 0)
            return -1;
    }
    return i->state ? prepare_store(i, err) : 0;
}

const struct phase phase_prepare = {
    .working = "what it changes is being written",
    .prepare = has_work,
    .work = prepare_all,
};

/* ---- after the flip ---- */

static bool is_durable(struct instant *i)
{
    return i->state != NULL;
}

static void at_all(const struct instant *i, enum disk_point point)
{
    for (unsigned k = 0; k < i->stages->len; k++)
        disk_at(stage_at(i, k)->disk, point, 0);
}

/* The store was told that new bits would be good. They are not, if a bitmap has broken meanwhile from
 * which some of them were copied. (If they have broken themselves, the store knows.) */
static int check_origins(const struct stage *st, GError **err)
{
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        const struct staged_bitmap *s = st->bitmaps->pdata[k];
        g_autofree char *own = disk_break_of(st->disk, s->bits);
        g_autofree char *reason = stage_reason(st, s);

        if (s->fresh && s->persistent && reason && !s->reason && !own)
            return fail(err, "Bitmap '%s' has bits of one that has become inconsistent: %s",
                        s->db->name, reason);
    }
    return 0;
}

/* New bits say nothing of what guests wrote before the instant, and a view has it. So it must not be
 * lost, if the process dies when these count. */
static int flush_held_writes(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct disk *d = stage_at(i, k)->disk;
        int r = holds_writes(d) ? d->backend->ops->flush(d->handle) : 0;

        if (r < 0)
            return fail_errno(err, -r, "disk %s: flush", d->node.name);
    }
    return 0;
}

static int try_commit(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->stages->len; k++)
        if (check_origins(stage_at(i, k), err) < 0)
            return -1;
    if (stage_flush_size(i, err) < 0)
        return -1;
    if (flush_held_writes(i, err) < 0)
        return -1;
    return i->state->ops->commit(i->state->store, i->transaction, err);
}

static int commit(struct instant *i, GError **err)
{
    at_all(i, POINT_FLIPPED);
    i->committed = try_commit(i, err) == 0;
    if (i->committed)
        at_all(i, POINT_COMMITTED);
    return i->committed ? 0 : -1;
}

const struct phase phase_commit = {
    .working = "what it changes is being made durable",
    .prepare = is_durable,
    .work = commit,
};

void stage_end_store(struct instant *i)
{
    if (i->prepared)
        i->state->ops->end(i->state->store, i->transaction, i->committed);
}
