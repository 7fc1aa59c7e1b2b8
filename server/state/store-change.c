/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-change.h"

#include "common/util/error.h"
#include "server/state/store-break.h"
#include "server/state/stored-bits.h"

static void clear_change(void *opaque)
{
    struct change *c = opaque;

    g_free((char *)c->c.bitmap);
    g_free((char *)c->c.inconsistent);
    bitmap_unref(c->c.bits);
    stored_bits_unref(c->sb);
}

GArray *changes_new(const struct state_change *changes, unsigned n)
{
    GArray *all = g_array_new(FALSE, TRUE, sizeof(struct change));

    g_array_set_clear_func(all, clear_change);
    for (unsigned i = 0; i < n; i++) {
        struct change c = {.c = changes[i]};

        c.c.bitmap = g_strdup(changes[i].bitmap);
        c.c.inconsistent = g_strdup(changes[i].inconsistent);
        if (c.c.bits)
            bitmap_ref(c.c.bits);
        if (c.c.bits && c.c.persistent)
            c.sb = stored_bits_of(c.c.disk, c.c.bits);
        g_array_append_val(all, c);
    }
    return all;
}

bool change_is_new(struct stored_bits *sb)
{
    bool new;

    if (!sb)
        return false;
    pthread_mutex_lock(&sb->disk->store->lock);
    new = !sb->catalogued;
    pthread_mutex_unlock(&sb->disk->store->lock);
    return new;
}

static int fail_broken(const struct change *c, const char *reason, GError **err)
{
    return fail(err, "bitmap '%s' of disk %s cannot be kept: %s", c->c.bitmap, c->c.disk->row.name,
                reason);
}

int change_check_new(const struct change *c, GError **err)
{
    g_autofree char *reason = NULL;

    if (!c->sb)
        return fail_broken(c, "its bits are not the store's", err);
    reason = store_broken(c->sb);
    if (reason)
        return fail_broken(c, reason, err);
    return c->sb->file ? 0 : fail_broken(c, "its bits have no file", err);
}

bool change_has_no_use(const struct change *c)
{
    g_autofree char *broken = c->sb ? store_broken(c->sb) : NULL;

    return c->c.inconsistent && (!c->sb || broken);
}

bool change_has_size(const struct change *c)
{
    return c->c.bits && (c->c.size != c->c.disk->row.size ||
                         (c->c.disk->row.resize_to != 0 && c->c.disk->row.resize_to == c->c.size));
}
