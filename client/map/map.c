/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/map/map.h"

#include <string.h>

/* The least bytes that a cell stands for: a sector. */
#define SPAN_MIN 512

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* A candidate for the grid. */
struct layout {
    unsigned columns;
    uint64_t span;
    uint64_t score; /* the more the better */
};

/* The smallest span that is quarters / 4 times a power of two and needs at most `cells` cells. */
static uint64_t choose_span(uint64_t size, uint64_t cells, unsigned quarters)
{
    uint64_t need = MAX(divide_up(size, cells), 1), power = 1;

    while (power / 4 * quarters < need || power / 4 * quarters % SPAN_MIN != 0)
        power *= 2;
    return power / 4 * quarters;
}

/* What a grid is worth, in percent of its detail, if its rows are `factor` times a power of two
 * long: the rounder the offsets of the rows, the more. */
static unsigned roundness(unsigned factor)
{
    while (factor % 2 == 0)
        factor /= 2;
    return factor == 1 ? 100 : factor == 3 ? 90 : factor < 10 ? 60 : 50;
}

/* Weigh detail against round offsets: of all widths down to half of max_columns, and of spans that
 * are 1, 1.25 and 1.5 times a power of two, the best; the wider one where it is equal. */
static struct layout choose_layout(uint64_t size, unsigned max_columns, unsigned max_rows)
{
    struct layout best = {0};
    unsigned widest = MAX(max_columns / 16, 1);

    for (unsigned w = widest; w > 0 && w >= widest / 2; w--) {
        for (unsigned quarters = 4; quarters <= 6; quarters++) {
            struct layout l = {.columns = w * 16};

            l.span = choose_span(size, (uint64_t)l.columns * max_rows, quarters);
            l.score = divide_up(size, l.span) * roundness(w * quarters) + 1;
            if (l.score > best.score)
                best = l;
        }
    }
    return best;
}

map *map_new(const char *title, const char *context, uint64_t size, unsigned max_columns,
             unsigned max_rows)
{
    struct layout layout = choose_layout(size, max_columns, max_rows);
    map *m = g_new0(map, 1);

    m->title = g_strdup(title);
    m->context = g_strdup(context);
    m->kind = map_kind(context);
    m->size = size;
    m->columns = layout.columns;
    m->span = layout.span;
    m->n_cells = (size_t)divide_up(size, m->span);
    m->rows = (unsigned)divide_up(m->n_cells, m->columns);
    m->cells = g_new0(struct map_cell, m->n_cells);
    return m;
}

void map_free(map *m)
{
    g_free(m->title);
    g_free(m->context);
    g_free(m->cells);
    g_free(m);
}

/* The state with these flags, made if there is none yet. States are in the order of their flags. */
static struct map_state *find_state(map *m, uint32_t flags)
{
    unsigned i = 0;

    while (i < m->n_states && m->states[i].flags < flags)
        i++;
    if (i < m->n_states && m->states[i].flags == flags)
        return &m->states[i];
    if (m->n_states == MAP_STATES)
        return &m->others;
    memmove(&m->states[i + 1], &m->states[i], (m->n_states - i) * sizeof m->states[0]);
    m->n_states++;
    m->states[i] = (struct map_state){.flags = flags};
    return &m->states[i];
}

void map_add(map *m, uint64_t offset, uint64_t length, uint32_t flags)
{
    struct map_state *state = find_state(m, flags);
    enum map_role role = map_role(m->kind, flags);

    state->bytes += length;
    state->extents++;
    m->extents++;
    while (length > 0) {
        size_t cell = (size_t)(offset / m->span);
        uint64_t part = MIN(length, m->span - offset % m->span);

        m->cells[cell].bytes[role] += part;
        offset += part;
        length -= part;
    }
}

uint64_t map_cell_size(const map *m, size_t cell)
{
    return MIN(m->span, m->size - cell * m->span);
}

enum map_level map_level(const map *m, size_t cell)
{
    uint64_t size = map_cell_size(m, cell), set = m->cells[cell].bytes[MAP_SET];

    if (set == 0)
        return m->cells[cell].bytes[MAP_ZERO] > 0 ? MAP_ZEROES : MAP_EMPTY;
    if (set >= size)
        return MAP_FULL;
    return set < size / 3 ? MAP_LOW : set < size - size / 3 ? MAP_MIDDLE : MAP_HIGH;
}

bool map_has_level(const map *m, enum map_level level)
{
    for (size_t i = 0; i < m->n_cells; i++) {
        if (map_level(m, i) == level)
            return true;
    }
    return false;
}
