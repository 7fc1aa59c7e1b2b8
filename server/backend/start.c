/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backend/start.h"

#include "server/backend/plugin-private.h"

static int configure(struct backend *b, const struct backend_spec *spec, GError **err)
{
    for (size_t i = 0; i < spec->n_words; i++) {
        const struct backend_word *w = &spec->words[i];
        int r =
            w->key ? plugin_config(b, w->key, w->value, err) : plugin_config_bare(b, w->value, err);

        if (r < 0)
            return -1;
    }
    return plugin_config_complete(b, err);
}

struct backend *backend_start(const struct backend_spec *spec, GError **err)
{
    struct backend *b = plugin_load(spec->plugin, spec->disk, err);

    if (!b)
        return NULL;
    plugin_of(b)->late = true;
    /* There is no fork between the last two: it was long ago. */
    if (configure(b, spec, err) == 0 && plugin_get_ready(b, err) == 0 &&
        plugin_after_fork(b, err) == 0)
        return b;
    b->ops->free(b);
    return NULL;
}
