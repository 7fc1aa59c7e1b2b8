/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backend/start.h"

#include "server/backend/plugin-private.h"

struct backend *backend_start(const struct backend_spec *spec, GError **err)
{
    struct backend *b = plugin_load(spec->plugin, spec->disk, err);

    if (!b)
        return NULL;
    plugin_of(b)->late = true;
    /* There is no fork between the last two: it was long ago. */
    if (plugin_config_words(b, spec->words, spec->n_words, err) == 0 &&
        plugin_config_complete(b, err) == 0 && plugin_get_ready(b, err) == 0 &&
        plugin_after_fork(b, err) == 0)
        return b;
    b->ops->free(b);
    return NULL;
}
