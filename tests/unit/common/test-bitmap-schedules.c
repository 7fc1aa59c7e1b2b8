/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writers and a scan at one bitmap, in all schedules (sched.h): each access to one of its words is
 * a step. bitmap.h promises that a writer's bits are set when bitmap_set returns, whoever else
 * wrote to the same word, and that a scan from the summaries finds them.
 */
#include "common/base/bitmap.h"
#include "tests/rigs/sched.h"

#define GRANULE UINT64_C(512)
#define WORD    (64 * GRANULE)
#define BLOCK   (64 * WORD) /* a word of the first summary */
#define SIZE    (3 * BLOCK)

/* In the second word of each summary, where nothing is set. */
#define HERE (BLOCK + WORD + 7 * GRANULE)

struct scene {
    struct bitmap *bits, *merged;
};

static void *scene_new(void)
{
    struct scene *s = g_new0(struct scene, 1);

    s->bits = bitmap_alloc(SIZE, GRANULE);
    s->merged = bitmap_alloc(SIZE, GRANULE);
    return s;
}

static void scene_free(struct scene *s)
{
    bitmap_unref(s->bits);
    bitmap_unref(s->merged);
    g_free(s);
}

/* A scan from the summaries finds all of [offset, offset + length), and each granule is dirty. */
static void expect_dirty(const struct bitmap *b, uint64_t offset, uint64_t length)
{
    uint64_t start = 0, found = 0;

    do /* there may be bits of others before it */
        if (!bitmap_next_dirty(b, start + found, offset + length, &start, &found))
            sched_fail("a scan does not find granule %u", (unsigned)(offset / GRANULE));
    while (start + found <= offset);
    if (start > offset || start + found != offset + length)
        sched_fail("a scan finds %u bytes at %u, not %u at %u", (unsigned)found, (unsigned)start,
                   (unsigned)length, (unsigned)offset);
    for (uint64_t at = offset; at < offset + length; at += GRANULE)
        if (!bitmap_test(b, at))
            sched_fail("granule %u is clean", (unsigned)(at / GRANULE));
}

/* A guest's write, and an instant right after it, which must find it. */
static void set(struct scene *s, uint64_t offset, uint64_t length)
{
    bitmap_set(s->bits, offset, length);
    expect_dirty(s->bits, offset, length);
}

static void set_here(void *scene)
{
    set(scene, HERE, GRANULE);
}

static void set_two_on(void *scene)
{
    set(scene, HERE + 2 * GRANULE, GRANULE);
}

static void set_next_word(void *scene)
{
    set(scene, HERE + WORD, GRANULE);
}

static void set_next_block(void *scene)
{
    set(scene, HERE + BLOCK, GRANULE);
}

/* A write from the word before to the one behind. */
static void set_across(void *scene)
{
    set(scene, BLOCK, 3 * WORD);
}

static void merge(void *scene)
{
    struct scene *s = scene;

    bitmap_merge(s->merged, s->bits);
}

static void expect_granules(void *scene, uint64_t granules)
{
    struct scene *s = scene;

    if (bitmap_count(s->bits) != granules * GRANULE)
        sched_fail("%u granules are dirty, not %u", (unsigned)(bitmap_count(s->bits) / GRANULE),
                   (unsigned)granules);
    scene_free(s);
}

static void one_granule(void *scene)
{
    expect_granules(scene, 1);
}

static void two_granules(void *scene)
{
    expect_granules(scene, 2);
}

static void three_granules(void *scene)
{
    expect_granules(scene, 3);
}

static void three_words(void *scene)
{
    expect_granules(scene, 3 * 64);
}

/* A merge during the writes sets no bit that was not written, and a merge after them sets all. */
static void merged(void *scene)
{
    struct scene *s = scene;
    uint64_t start, length;

    for (uint64_t at = 0; bitmap_next_dirty(s->merged, at, SIZE, &start, &length);
         at = start + length)
        expect_dirty(s->bits, start, length);
    bitmap_merge(s->merged, s->bits);
    if (bitmap_count(s->merged) != 2 * GRANULE)
        sched_fail("a merge lacks something");
    two_granules(s);
}

static const struct scenario scenarios[] = {
    {
        .name = "two writers of one granule",
        .preemptions = 3,
        .preemptions_long = 5,
        .setup = scene_new,
        .bodies = {set_here, set_here},
        .finish = one_granule,
    },
    {
        .name = "two writers in one word",
        .preemptions = 3,
        .preemptions_long = 5,
        .setup = scene_new,
        .bodies = {set_here, set_two_on},
        .finish = two_granules,
    },
    {
        .name = "two writers of one granule and one in the same word",
        .preemptions = 2,
        .preemptions_long = 4,
        .setup = scene_new,
        .bodies = {set_here, set_here, set_two_on},
        .finish = two_granules,
    },
    {
        .name = "three writers in two words and two blocks",
        .preemptions = 2,
        .preemptions_long = 4,
        .setup = scene_new,
        .bodies = {set_here, set_next_word, set_next_block},
        .finish = three_granules,
    },
    {
        .name = "a long write over a short one",
        .preemptions = 2,
        .preemptions_long = 3,
        .setup = scene_new,
        .bodies = {set_across, set_here},
        .finish = three_words,
    },
    {
        .name = "two writers and a merge",
        .preemptions = 2,
        .preemptions_long = 3,
        .setup = scene_new,
        .bodies = {set_here, set_two_on, merge},
        .finish = merged,
    },
};

static void test_scenario(gconstpointer scenario)
{
    sched_explore(scenario);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(scenarios); i++) {
        g_autofree char *path = g_strdup_printf("/bitmap-schedules/%s", scenarios[i].name);

        g_test_add_data_func(path, &scenarios[i], test_scenario);
    }
    return g_test_run();
}
