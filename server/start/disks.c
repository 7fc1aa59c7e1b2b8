/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/disks.h"

#include "common/util/log.h"

static void set_debug_flags(struct backend *b, const struct options *o, bool *matched)
{
    for (unsigned i = 0; i < o->debugs->len; i++) {
        const struct option_debug *debug = o->debugs->pdata[i];

        matched[i] |= plugin_debug_flag(b, debug->name, debug->flag, debug->value);
    }
}

/* One step for all disks before the next step, as nbdkit does for a plugin and its filters. */
static int step_all(GPtrArray *backends, int (*step)(struct backend *b, GError **err), GError **err)
{
    for (unsigned i = 0; i < backends->len; i++) {
        if (step(backends->pdata[i], err) < 0)
            return -1;
    }
    return 0;
}

static int load_all(GPtrArray *backends, const struct options *o, GError **err)
{
    g_autofree bool *matched = g_new0(bool, o->debugs->len);

    for (unsigned i = 0; i < o->disks->len; i++) {
        const struct option_disk *disk = o->disks->pdata[i];
        struct backend *b = plugin_load(disk->plugin, disk->name, err);

        if (!b)
            return -1;
        g_ptr_array_add(backends, b);
        set_debug_flags(b, o, matched);
    }
    for (unsigned i = 0; i < o->debugs->len; i++) {
        const struct option_debug *debug = o->debugs->pdata[i];

        if (!matched[i])
            log_info("warning: debug flag %s.%s belongs to no plugin that was loaded", debug->name,
                     debug->flag);
    }
    return 0;
}

static int configure_all(GPtrArray *backends, const struct options *o, GError **err)
{
    for (unsigned i = 0; i < o->disks->len; i++) {
        const struct option_disk *disk = o->disks->pdata[i];

        if (plugin_config_words(backends->pdata[i], (const struct backend_word *)disk->words->data,
                                disk->words->len, err) < 0)
            return -1;
    }
    return 0;
}

GPtrArray *disks_load(const struct options *o, enum disks_until until, GError **err)
{
    g_autoptr(GPtrArray) backends = g_ptr_array_new();

    if (o->single)
        plugin_set_stdio_taken();
    if (load_all(backends, o, err) < 0)
        goto error;
    if (until >= DISKS_CONFIGURE && configure_all(backends, o, err) < 0)
        goto error;
    if (until == DISKS_GET_READY) {
        if (step_all(backends, plugin_config_complete, err) < 0 ||
            step_all(backends, plugin_get_ready, err) < 0)
            goto error;
    }
    return g_steal_pointer(&backends);

error:
    disks_free(backends);
    return NULL;
}

int disks_open_ahead(GPtrArray *backends, bool readonly, GError **err)
{
    for (unsigned i = 0; i < backends->len; i++) {
        if (plugin_open_ahead(backends->pdata[i], readonly, err) < 0)
            return -1;
    }
    return 0;
}

void disks_free(GPtrArray *backends)
{
    for (unsigned i = 0; i < backends->len; i++) {
        struct backend *b = backends->pdata[i];

        if (b)
            b->ops->free(b);
        backends->pdata[i] = NULL;
    }
}
