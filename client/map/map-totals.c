/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/map/map-totals.h"
#include "client/map/map-figures.h"

#include <inttypes.h>

static char *extents_text(uint64_t n)
{
    return g_strdup_printf("%" PRIu64 " extent%s", n, n == 1 ? "" : "s");
}

static void add_total(const map *m, GArray *totals, char *word, enum map_role role, uint64_t bytes,
                      uint64_t extents)
{
    struct map_total t = {
        .word = word,
        .bytes = map_size_text(bytes),
        .percent = map_percent_text(bytes, m->size),
        .extents = extents_text(extents),
        .role = role,
        .n_bytes = bytes,
    };

    g_array_append_val(totals, t);
}

static void clear_total(void *data)
{
    struct map_total *t = data;

    g_free(t->word);
    g_free(t->bytes);
    g_free(t->percent);
    g_free(t->extents);
}

GArray *map_totals(const map *m)
{
    GArray *totals = g_array_new(FALSE, FALSE, sizeof(struct map_total));

    g_array_set_clear_func(totals, clear_total);
    for (enum map_role role = 0; role < MAP_ROLES; role++) {
        for (unsigned i = 0; i < m->n_states; i++) {
            const struct map_state *s = &m->states[i];

            if (map_role(m->kind, s->flags) == role)
                add_total(m, totals, map_state_text(m->kind, s->flags), role, s->bytes, s->extents);
        }
    }
    if (m->others.extents > 0)
        add_total(m, totals, g_strdup("others"), MAP_SET, m->others.bytes, m->others.extents);
    add_total(m, totals, g_strdup("total"), MAP_CLEAR, m->size, m->extents);
    return totals;
}
