/* SPDX-License-Identifier: BSD-3-Clause */
/* What a change does before and after it (cover.h), without a journal. */
#include "server/state/cover.h"

#include <errno.h>
#include <glib.h>

#define REGION (UINT64_C(1) << JOURNAL_REGION_SHIFT)

struct fake {
    struct cover cover;
    struct live_line line;
    _Atomic uint8_t bytes[16];
    uint64_t first, last; /* of the last call of `open` */
    unsigned calls;
    int result;
};

static int fake_open(struct cover *c, uint64_t first, uint64_t last)
{
    struct fake *f = c->opaque;

    f->first = first;
    f->last = last;
    f->calls++;
    if (f->result == 0)
        for (uint64_t r = first; r <= last && r < G_N_ELEMENTS(f->bytes); r++)
            f->bytes[r] |= REGION_OPEN;
    return f->result;
}

static void fake_init(struct fake *f)
{
    *f = (struct fake){.cover = {.open = fake_open}};
    f->cover.regions = f->bytes;
    f->cover.opaque = f;
}

static void test_regions(void)
{
    struct fake f;
    unsigned phase;

    fake_init(&f);
    g_assert_cmpint(cover_enter(&f.cover, &f.line, 2 * REGION - 1, 2, &phase), ==, 0);
    g_assert_cmpuint(f.first, ==, 1);
    g_assert_cmpuint(f.last, ==, 2);
    cover_leave(&f.line, phase);
    /* A region that ends there is not touched. */
    g_assert_cmpint(cover_enter(&f.cover, &f.line, REGION, 2 * REGION, &phase), ==, 0);
    g_assert_cmpuint(f.calls, ==, 1);
    cover_leave(&f.line, phase);
    g_assert_cmphex(f.bytes[1], ==, REGION_OPEN | REGION_USED);
    g_assert_cmphex(f.bytes[0], ==, 0);
    g_assert_cmphex(f.bytes[3], ==, 0);
}

/* All that is behind the last byte is one region. */
static void test_largest(void)
{
    struct fake f;
    unsigned phase;

    fake_init(&f);
    g_assert_cmpuint(cover_region(INT64_MAX), ==, COVER_REGIONS - 1);
    g_assert_cmpuint(cover_region(COVER_REGIONS * REGION), ==, COVER_REGIONS - 1);
    g_assert_cmpuint(cover_region((COVER_REGIONS - 1) * REGION - 1), ==, COVER_REGIONS - 2);
    f.result = -EIO;
    g_assert_cmpint(cover_enter(&f.cover, &f.line, 3 * REGION, INT64_MAX - 3 * REGION, &phase), ==,
                    -EIO);
    g_assert_cmpuint(f.first, ==, 3);
    g_assert_cmpuint(f.last, ==, COVER_REGIONS - 1);
}

static void test_counts(void)
{
    struct fake f;
    unsigned phase, later;
    int64_t before = cover_clock();

    fake_init(&f);
    g_assert_cmpint(cover_enter(&f.cover, &f.line, 0, 1, &phase), ==, 0);
    g_assert_cmpuint(f.line.inside[0], ==, 1);
    g_assert_cmpint(f.line.changed, >=, before);
    atomic_fetch_add(&f.cover.phase, 1);
    g_assert_cmpint(cover_enter(&f.cover, &f.line, 0, 1, &later), ==, 0);
    g_assert_cmpuint(later, ==, 1);
    cover_leave(&f.line, phase);
    g_assert_cmpuint(f.line.inside[0], ==, 0);
    g_assert_cmpuint(f.line.inside[1], ==, 1);
    cover_leave(&f.line, later);
    /* A change that must not happen is not counted. */
    f.result = -EIO;
    g_assert_cmpint(cover_enter(&f.cover, &f.line, 9 * REGION, 1, &phase), ==, -EIO);
    g_assert_cmpuint(f.line.inside[0] + f.line.inside[1], ==, 0);
}

/* Without a journal nothing is asked for, but times and counts are there. */
static void test_process(void)
{
    struct fake f;
    unsigned phase;

    fake_init(&f);
    f.cover.regions = NULL;
    g_assert_cmpint(cover_enter(&f.cover, &f.line, 0, REGION * 16, &phase), ==, 0);
    g_assert_cmpuint(f.calls, ==, 0);
    g_assert_cmpuint(f.line.inside[phase], ==, 1);
    cover_leave(&f.line, phase);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cover/regions", test_regions);
    g_test_add_func("/cover/largest", test_largest);
    g_test_add_func("/cover/counts", test_counts);
    g_test_add_func("/cover/process", test_process);
    return g_test_run();
}
