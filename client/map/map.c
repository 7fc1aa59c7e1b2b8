/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/map/map.h"
#include "common/base/extents.h"

#include <inttypes.h>
#include <string.h>

/* A cell stands for no less than a sector. */
#define SPAN_MIN 512

/* ---- what the flags of a context mean ---- */

enum map_kind map_kind(const char *context)
{
    if (strcmp(context, "base:allocation") == 0)
        return MAP_ALLOCATION;
    if (g_str_has_prefix(context, "qemu:dirty-bitmap:"))
        return MAP_DIRTY;
    return strcmp(context, "qemu:allocation-depth") == 0 ? MAP_DEPTH : MAP_OTHER;
}

enum map_role map_role(enum map_kind kind, uint32_t flags)
{
    switch (kind) {
    case MAP_ALLOCATION:
        if (flags & EXTENT_HOLE)
            return MAP_CLEAR;
        return flags & EXTENT_ZERO ? MAP_ZERO : MAP_SET;
    case MAP_DIRTY:
        return flags & EXTENT_DIRTY ? MAP_SET : MAP_CLEAR;
    case MAP_DEPTH:
    case MAP_OTHER:
        break;
    }
    return flags != 0 ? MAP_SET : MAP_CLEAR;
}

const char *map_word(enum map_kind kind, uint32_t flags)
{
    static const char *const allocation[] = {"data", "hole", "zero", "hole,zero"};
    static const char *const dirty[] = {"clean", "dirty"};
    static const char *const depth[] = {"unallocated", "local"};

    switch (kind) {
    case MAP_ALLOCATION:
        return flags < G_N_ELEMENTS(allocation) ? allocation[flags] : NULL;
    case MAP_DIRTY:
        return flags < G_N_ELEMENTS(dirty) ? dirty[flags] : NULL;
    case MAP_DEPTH:
        return flags < G_N_ELEMENTS(depth) ? depth[flags] : "backing";
    case MAP_OTHER:
        break;
    }
    return NULL;
}

/* What totals call it. */
static char *human_word(enum map_kind kind, uint32_t flags)
{
    static const char *const allocation[] = {"data", "hole, not zero", "zeroes", "hole"};
    const char *word = map_word(kind, flags);

    if (kind == MAP_ALLOCATION && flags < G_N_ELEMENTS(allocation))
        return g_strdup(allocation[flags]);
    if (kind == MAP_DEPTH && flags > 1)
        return g_strdup_printf("backing %" PRIu32, flags - 1);
    return word ? g_strdup(word) : g_strdup_printf("flags %#" PRIx32, flags);
}

const char *map_legend(enum map_kind kind, enum map_role role)
{
    static const char *const words[][MAP_ROLES] = {
        [MAP_ALLOCATION] = {"data", "zeroes", "hole"},
        [MAP_DIRTY] = {"dirty", "zeroes", "clean"},
        [MAP_DEPTH] = {"allocated", "zeroes", "unallocated"},
        [MAP_OTHER] = {"set", "zeroes", "clear"},
    };

    return words[kind][role];
}

/* ---- the grid ---- */

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* How a grid might be. */
struct layout {
    unsigned columns;
    uint64_t span;
    uint64_t score; /* the more the better */
};

/* The smallest span that is quarters / 4 times a power of two and makes the cells enough. */
static uint64_t choose_span(uint64_t size, uint64_t cells, unsigned quarters)
{
    uint64_t need = MAX(divide_up(size, cells), 1), power = 1;

    while (power / 4 * quarters < need || power / 4 * quarters % SPAN_MIN != 0)
        power *= 2;
    return power / 4 * quarters;
}

/* Percent of its detail that a grid is worth whose rows are `factor` times a power of two long: the
 * offsets of the rows are to be round. */
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

/* The state with these flags, made if there is none yet, in order of flags. */
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

/* ---- texts ---- */

char *map_offset_text(uint64_t offset)
{
    static const char *const units[] = {"", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
    unsigned unit = 0;
    uint64_t scale = 1;

    /* The largest unit in which two digits after the point are exact. */
    for (unsigned u = 1; u < G_N_ELEMENTS(units); u++) {
        uint64_t next = UINT64_C(1) << (10 * u);

        if (offset < next || offset % (next / 4) != 0)
            break;
        unit = u;
        scale = next;
    }
    switch (offset % scale / MAX(scale / 4, 1)) {
    case 0:
        return g_strdup_printf("%" PRIu64 "%s", offset / scale, units[unit]);
    case 2:
        return g_strdup_printf("%" PRIu64 ".5%s", offset / scale, units[unit]);
    default:
        return g_strdup_printf("%" PRIu64 ".%s%s", offset / scale,
                               offset % scale / (scale / 4) == 1 ? "25" : "75", units[unit]);
    }
}

char *map_percent_text(uint64_t part, uint64_t whole)
{
    double percent = whole > 0 ? 100.0 * (double)part / (double)whole : 0;

    if (part == 0 || part >= whole)
        return g_strdup(part == 0 ? "0 %" : "100 %");
    if (percent < 0.1)
        return g_strdup("<0.1 %");
    return percent > 99.9 ? g_strdup(">99.9 %") : g_strdup_printf("%.1f %%", percent);
}

/* With two digits after the point, so that totals add up to the eye. */
static char *size_text(uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;

    while (unit + 1 < G_N_ELEMENTS(units) && bytes >> (10 * (unit + 1)) != 0)
        unit++;
    if ((bytes & ((UINT64_C(1) << (10 * unit)) - 1)) == 0)
        return g_strdup_printf("%" PRIu64 " %s", bytes >> (10 * unit), units[unit]);
    return g_strdup_printf("%.2f %s", (double)bytes / (double)(UINT64_C(1) << (10 * unit)),
                           units[unit]);
}

static char *extents_text(uint64_t n)
{
    return g_strdup_printf("%" PRIu64 " extent%s", n, n == 1 ? "" : "s");
}

static void add_total(const map *m, GArray *totals, char *word, enum map_role role, uint64_t bytes,
                      uint64_t extents)
{
    struct map_total t = {
        .word = word,
        .bytes = size_text(bytes),
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
                add_total(m, totals, human_word(m->kind, s->flags), role, s->bytes, s->extents);
        }
    }
    if (m->others.extents > 0)
        add_total(m, totals, g_strdup("others"), MAP_SET, m->others.bytes, m->others.extents);
    add_total(m, totals, g_strdup("total"), MAP_CLEAR, m->size, m->extents);
    return totals;
}
