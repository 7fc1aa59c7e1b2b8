/* SPDX-License-Identifier: BSD-3-Clause */
/* The map: extents become cells, and cells become text or an HTML page. */
#include "client/map/map-figures.h"
#include "client/map/map-html.h"
#include "client/map/map-text.h"
#include "client/map/map-totals.h"
#include "client/map/nbd-uri.h"
#include "common/base/extents.h"

#include <string.h>

#define KiB (UINT64_C(1) << 10)
#define MiB (UINT64_C(1) << 20)
#define GiB (UINT64_C(1) << 30)
#define TiB (UINT64_C(1) << 40)

static const struct terminal plain = {.utf8 = true, .width = 80};
static const struct terminal ascii = {.width = 80};
static const struct terminal coloured = {
    .is_terminal = true, .utf8 = true, .bold = true, .colours = COLOURS_256, .width = 80};

static map *dirty_map(uint64_t size)
{
    return map_new("vda", "qemu:dirty-bitmap:b0", size, 64, 20);
}

/* ---- the grid ---- */

/* The cells cover a disk of any size exactly, there are not too many of them, and their span is a
 * whole number of sectors. */
static void test_layout(void)
{
    static const uint64_t sizes[] = {1,       511,        512,       513,        1000000,
                                     MiB,     1000 * MiB, GiB,       10 * GiB,   100 * GiB + 512,
                                     8 * TiB, 3 * TiB,    INT64_MAX, 5 * GiB - 1};

    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        for (unsigned columns = 16; columns <= 256; columns += 16) {
            g_autoptr(map) m = map_new("x", "base:allocation", sizes[i], columns, 20);

            g_assert_cmpuint(m->columns, <=, columns);
            g_assert_cmpuint(m->columns, >=, columns / 2 / 16 * 16);
            g_assert_cmpuint(m->columns, >=, 16);
            g_assert_cmpuint(m->rows, >=, 1);
            g_assert_cmpuint(m->rows, <=, 20);
            g_assert_cmpuint(m->span % 512, ==, 0);
            g_assert_cmpuint(m->n_cells, >, (size_t)(m->rows - 1) * m->columns);
            g_assert_cmpuint(m->n_cells, <=, (size_t)m->rows * m->columns);
            g_assert_cmpuint((m->n_cells - 1) * m->span + map_cell_size(m, m->n_cells - 1), ==,
                             sizes[i]);
            if (sizes[i] >= 10 * MiB)
                g_assert_cmpuint(m->rows, >=, 12);
        }
    }
}

/* Rows begin at offsets that people can read. */
static void test_round_rows(void)
{
    static const struct {
        uint64_t size, row;
        unsigned max_columns;
    } cases[] = {
        {GiB, 64 * MiB, 64},     {GiB, 64 * MiB, 80},      {10 * GiB, 512 * MiB, 64},
        {60 * GiB, 3 * GiB, 80}, {100 * GiB, 6 * GiB, 96}, {8 * TiB, 512 * GiB, 64},
        {20 * MiB, 1 * MiB, 16},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(map) m = map_new("x", "base:allocation", cases[i].size, cases[i].max_columns, 20);

        g_assert_cmpuint(m->span * m->columns, ==, cases[i].row);
    }
}

static void test_empty_disk(void)
{
    g_autoptr(map) m = dirty_map(0);
    g_autoptr(GString) out = g_string_new(NULL);

    g_assert_cmpuint(m->n_cells, ==, 0);
    map_print_picture(m, &plain, false, out);
    g_assert_cmpstr(out->str, ==, "");
    map_print_totals(m, out);
    map_print_html(m, out);
    g_assert_null(strstr(out->str, "<svg"));
}

static void test_levels(void)
{
    g_autoptr(map) m = map_new("x", "base:allocation", GiB, 64, 20);
    static const struct {
        uint64_t length;
        uint32_t flags;
    } extents[] = {
        {MiB, 0},           /* cell 0 is data */
        {1, 0},             /* cell 1: one byte of it */
        {MiB - 1, 3},       /* */
        {MiB - 1, 0},       /* cell 2: all but one byte */
        {1, 3},             /* */
        {MiB / 2, 0},       /* cell 3: half */
        {MiB / 2, 2},       /* */
        {MiB - 1, 3},       /* cell 4: a byte of zeroes */
        {1, 2},             /* */
        {GiB - 5 * MiB, 3}, /* the rest is hole */
    };
    uint64_t offset = 0;

    g_assert_cmpuint(m->span, ==, MiB);
    for (gsize i = 0; i < G_N_ELEMENTS(extents); i++) {
        map_add(m, offset, extents[i].length, extents[i].flags);
        offset += extents[i].length;
    }
    g_assert_cmpuint(offset, ==, GiB);
    g_assert_cmpint(map_level(m, 0), ==, MAP_FULL);
    g_assert_cmpint(map_level(m, 1), ==, MAP_LOW);
    g_assert_cmpint(map_level(m, 2), ==, MAP_HIGH);
    g_assert_cmpint(map_level(m, 3), ==, MAP_MIDDLE);
    g_assert_cmpint(map_level(m, 4), ==, MAP_ZEROES);
    g_assert_cmpint(map_level(m, 5), ==, MAP_EMPTY);
    g_assert_cmpint(map_level(m, m->n_cells - 1), ==, MAP_EMPTY);
}

/* The last cell is smaller than the others: it is full when its own bytes are. */
static void test_short_last_cell(void)
{
    g_autoptr(map) m = dirty_map(GiB + 1);

    map_add(m, 0, GiB, 0);
    map_add(m, GiB, 1, 1);
    g_assert_cmpuint(map_cell_size(m, m->n_cells - 1), ==, 1);
    g_assert_cmpint(map_level(m, m->n_cells - 1), ==, MAP_FULL);
    g_assert_cmpint(map_level(m, m->n_cells - 2), ==, MAP_EMPTY);
}

/* No byte is lost or counted twice, in whatever pieces the extents come. */
static void test_random_extents(void)
{
    guint32 seed = g_test_rand_int();
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_autoptr(map) m = map_new("x", "base:allocation", 6 * TiB + 4321, 96, 20);
    uint64_t offset = 0, sums[4] = {0}, roles[MAP_ROLES] = {0};
    unsigned n = 0;

    g_test_message("seed %u", seed);
    while (offset < m->size) {
        uint64_t wish = 1 + ((uint64_t)g_rand_int(rand) >> g_rand_int_range(rand, 0, 12)) * 9;
        uint64_t length = MIN(wish, m->size - offset);
        uint32_t flags = (uint32_t)g_rand_int_range(rand, 0, 4);

        if (++n > 100000)
            length = m->size - offset;
        map_add(m, offset, length, flags);
        sums[flags] += length;
        offset += length;
    }
    for (size_t i = 0; i < m->n_cells; i++) {
        uint64_t all = 0;

        for (unsigned role = 0; role < MAP_ROLES; role++) {
            all += m->cells[i].bytes[role];
            roles[role] += m->cells[i].bytes[role];
        }
        g_assert_cmpuint(all, ==, map_cell_size(m, i));
    }
    g_assert_cmpuint(m->extents, ==, n);
    g_assert_cmpuint(roles[MAP_SET], ==, sums[0]);
    g_assert_cmpuint(roles[MAP_ZERO], ==, sums[2]);
    g_assert_cmpuint(roles[MAP_CLEAR], ==, sums[1] + sums[3]);
    g_assert_cmpuint(m->n_states, ==, 4);
    for (unsigned i = 0; i < 4; i++) {
        g_assert_cmpuint(m->states[i].flags, ==, i);
        g_assert_cmpuint(m->states[i].bytes, ==, sums[i]);
    }
}

/* An unknown context may have any flags, and many different ones. */
static void test_many_states(void)
{
    g_autoptr(map) m = map_new("x", "acme:colour", 100 * KiB, 64, 20);
    g_autoptr(GArray) totals = NULL;
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < 100; i++)
        map_add(m, i * KiB, KiB, UINT32_MAX - i);
    g_assert_cmpuint(m->n_states, ==, MAP_STATES);
    g_assert_cmpuint(m->others.extents, ==, 100 - MAP_STATES);
    totals = map_totals(m);
    g_assert_cmpuint(totals->len, ==, MAP_STATES + 2);
    for (guint i = 0; i + 1 < totals->len; i++)
        bytes += g_array_index(totals, struct map_total, i).n_bytes;
    g_assert_cmpuint(bytes, ==, 100 * KiB);
}

static void test_contexts(void)
{
    g_assert_cmpint(map_kind("base:allocation"), ==, MAP_ALLOCATION);
    g_assert_cmpint(map_kind("qemu:dirty-bitmap:"), ==, MAP_DIRTY);
    g_assert_cmpint(map_kind("qemu:dirty-bitmap:x"), ==, MAP_DIRTY);
    g_assert_cmpint(map_kind("qemu:allocation-depth"), ==, MAP_DEPTH);
    g_assert_cmpint(map_kind(MAP_CONTEXT_CHANGED), ==, MAP_CHANGED);
    g_assert_cmpint(map_kind("base:allocations"), ==, MAP_OTHER);
    g_assert_cmpstr(map_word(MAP_ALLOCATION, 0), ==, "data");
    g_assert_cmpstr(map_word(MAP_ALLOCATION, EXTENT_HOLE), ==, "hole");
    g_assert_cmpstr(map_word(MAP_ALLOCATION, EXTENT_ZERO), ==, "zero");
    g_assert_cmpstr(map_word(MAP_ALLOCATION, 3), ==, "hole,zero");
    g_assert_null(map_word(MAP_ALLOCATION, 4));
    g_assert_cmpstr(map_word(MAP_DIRTY, 1), ==, "dirty");
    g_assert_cmpstr(map_word(MAP_CHANGED, 0), ==, "unchanged");
    g_assert_cmpstr(map_word(MAP_CHANGED, 1), ==, "changed");
    g_assert_cmpint(map_role(MAP_ALLOCATION, 0), ==, MAP_SET);
    g_assert_cmpint(map_role(MAP_ALLOCATION, 1), ==, MAP_CLEAR);
    g_assert_cmpint(map_role(MAP_ALLOCATION, 2), ==, MAP_ZERO);
    g_assert_cmpint(map_role(MAP_ALLOCATION, 3), ==, MAP_CLEAR);
    g_assert_cmpint(map_role(MAP_DEPTH, 2), ==, MAP_SET);
}

/* ---- texts ---- */

static void test_texts(void)
{
    static const struct {
        uint64_t offset;
        const char *text;
    } offsets[] = {
        {0, "0"},
        {512, "512"},
        {1024, "1 KiB"},
        {1536, "1.5 KiB"},
        {1280, "1.25 KiB"},
        {1792, "1.75 KiB"},
        {1600, "1600"},
        {64 * MiB, "64 MiB"},
        {2304 * MiB, "2.25 GiB"},
        {1100 * MiB, "1100 MiB"},
        {GiB + 512, "1048576.5 KiB"},
        {UINT64_C(1) << 62, "4 EiB"},
        {UINT64_MAX, "18446744073709551615"},
    };
    static const struct {
        uint64_t part, whole;
        const char *text;
    } percents[] = {
        {0, 100, "0 %"},        {100, 100, "100 %"},          {1, 100, "1.0 %"},
        {1, 1000000, "<0.1 %"}, {999999, 1000000, ">99.9 %"}, {125, 1000, "12.5 %"},
        {0, 0, "0 %"},          {4096, 8 * TiB, "<0.1 %"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(offsets); i++) {
        g_autofree char *text = map_offset_text(offsets[i].offset);

        g_assert_cmpstr(text, ==, offsets[i].text);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(percents); i++) {
        g_autofree char *text = map_percent_text(percents[i].part, percents[i].whole);

        g_assert_cmpstr(text, ==, percents[i].text);
    }
}

static void test_picture(void)
{
    g_autoptr(map) m = map_new("vda", "qemu:dirty-bitmap:b0", 20 * MiB, 16, 20);
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GString) again = g_string_new(NULL);
    g_auto(GStrv) lines = NULL;

    g_assert_cmpuint(m->span, ==, 64 * KiB);
    map_add(m, 0, MiB + 4096, 1);
    map_add(m, MiB + 4096, 19 * MiB - 4096, 0);
    map_print_picture(m, &plain, false, out);
    lines = g_strsplit(out->str, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, 24); /* ruler, 20 rows, blank, legend, end */
    g_assert_cmpstr(lines[0], ==, "             +0");
    g_assert_cmpstr(lines[1], ==, "          0  ████████████████");
    g_assert_cmpstr(lines[2], ==, "      1 MiB  ░···············");
    g_assert_cmpstr(lines[20], ==, "     19 MiB  ················");
    g_assert_cmpstr(lines[22], ==, "             █ dirty  ▓▒░ partly  · clean   a cell is 64 KiB");

    map_print_picture(m, &ascii, false, again);
    g_assert_true(g_str_is_ascii(again->str));
    g_assert_nonnull(strstr(again->str, "          0  ################\n"));
    g_string_truncate(again, 0);
    map_print_picture(m, &plain, true, again);
    g_assert_true(g_str_is_ascii(again->str));
}

/* A coloured picture is the plain one with escape sequences, each of them ended on its line. */
static void test_coloured_picture(void)
{
    g_autoptr(map) m = dirty_map(GiB);
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GString) bare = g_string_new(NULL);
    g_autoptr(GRegex) escapes = g_regex_new("\033\\[[0-9;]*m", 0, 0, NULL);
    g_autofree char *stripped = NULL;
    g_auto(GStrv) lines = NULL;

    map_add(m, 0, 100 * MiB + 512, 1);
    map_add(m, 100 * MiB + 512, GiB - 100 * MiB - 512, 0);
    map_print_picture(m, &plain, false, bare);
    map_print_picture(m, &coloured, false, out);
    g_assert_null(strchr(bare->str, '\033'));
    g_assert_nonnull(strchr(out->str, '\033'));
    stripped = g_regex_replace(escapes, out->str, -1, 0, "", 0, NULL);
    g_assert_cmpstr(stripped, ==, bare->str);
    lines = g_strsplit(out->str, "\n", -1);
    for (char **line = lines; *line; line++) {
        const char *last = g_strrstr(*line, "\033[");

        g_assert_true(!last || g_str_has_prefix(last, "\033[0m"));
    }
}

static void test_totals(void)
{
    g_autoptr(map) m = dirty_map(GiB);
    g_autoptr(GString) out = g_string_new(NULL);

    map_add(m, 0, 256 * MiB, 0);
    map_add(m, 256 * MiB, 4096, 1);
    map_add(m, 256 * MiB + 4096, 768 * MiB - 4096, 0);
    map_print_totals(m, out);
    g_assert_cmpstr(out->str, ==,
                    "      dirty         4 KiB    <0.1 %  1 extent\n"
                    "      clean   1023.99 MiB   >99.9 %  2 extents\n"
                    "      total         1 GiB     100 %  3 extents\n");
}

static void test_width(void)
{
    g_assert_cmpuint(map_columns_for(0), ==, 16);
    g_assert_cmpuint(map_columns_for(20), ==, 16);
    g_assert_cmpuint(map_columns_for(80), ==, 64);
    g_assert_cmpuint(map_columns_for(100000), ==, 256);
    for (unsigned width = 30; width < 270; width++)
        g_assert_cmpuint(map_columns_for(width) + 13, <, width);
}

/* A page shows names as text: they never become markup or control characters. */
static void test_html(void)
{
    g_autoptr(map) m = map_new("<script>&\"'\033[31m", "qemu:dirty-bitmap:</p>", GiB, 128, 64);
    g_autoptr(GString) out = g_string_new(NULL);

    map_add(m, 0, 512 * MiB, 1);
    map_add(m, 512 * MiB, 512 * MiB, 0);
    map_print_html(m, out);
    g_assert_true(g_str_has_prefix(out->str, "<!DOCTYPE html>\n"));
    g_assert_true(g_str_has_suffix(out->str, "</html>\n"));
    g_assert_null(strstr(out->str, "<script"));
    g_assert_nonnull(strstr(out->str, "&lt;script&gt;&amp;"));
    g_assert_nonnull(strstr(out->str, "&lt;/p&gt;"));
    g_assert_null(strchr(out->str, '\033'));
    g_assert_null(strstr(out->str, "http"));
    g_assert_nonnull(strstr(out->str, "<rect class=\"f\""));
    g_assert_nonnull(strstr(out->str, "536870912 bytes"));
}

/* ---- nbd-uri.h ---- */

static void test_uri(void)
{
    static const struct {
        const char *base, *name, *uri;
    } cases[] = {
        {"nbd+unix:///?socket=/run/s", "vda", "nbd+unix:///vda?socket=/run/s"},
        {"nbd+unix://?socket=/run/s", "vda", "nbd+unix:///vda?socket=/run/s"},
        {"nbd://localhost", "vda", "nbd://localhost/vda"},
        {"nbd://localhost:10809/", "vda", "nbd://localhost:10809/vda"},
        {"nbd://[::1]:10809", "a b/c?d#e%", "nbd://[::1]:10809/a%20b%2Fc%3Fd%23e%25"},
        {"nbd+unix:///old?socket=/a/b", "new", "nbd+unix:///new?socket=/a/b"},
        {"nbd://h", "", "nbd://h/"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *uri = nbd_uri_with_export(cases[i].base, cases[i].name);

        g_assert_cmpstr(uri, ==, cases[i].uri);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/client/map/layout", test_layout);
    g_test_add_func("/client/map/round-rows", test_round_rows);
    g_test_add_func("/client/map/empty-disk", test_empty_disk);
    g_test_add_func("/client/map/levels", test_levels);
    g_test_add_func("/client/map/short-last-cell", test_short_last_cell);
    g_test_add_func("/client/map/random-extents", test_random_extents);
    g_test_add_func("/client/map/many-states", test_many_states);
    g_test_add_func("/client/map/contexts", test_contexts);
    g_test_add_func("/client/map/texts", test_texts);
    g_test_add_func("/client/map/picture", test_picture);
    g_test_add_func("/client/map/coloured-picture", test_coloured_picture);
    g_test_add_func("/client/map/totals", test_totals);
    g_test_add_func("/client/map/width", test_width);
    g_test_add_func("/client/map/html", test_html);
    g_test_add_func("/client/nbd-uri/with-export", test_uri);
    return g_test_run();
}
