/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Several guests use an image at once, each its own quarter of every cluster, and then power is lost, at any moment
 * of that. What each has flushed is there; nothing else than what it had written or found comes to light; and the image
 * is not corrupt.
 *
 * Moments are places in the storage's log. What may be in a sector is a list of versions: those from the last one
 * that was promised by then (by a flush that began after its write had ended, and had ended itself) up to the last one that had
 * begun by then.
 */
#include "tests/rigs/live-guest.h"
#include "tests/rigs/live-images.h"
#include "common/live/live-commit.h"

#include <string.h>

#define SECTOR  512u
#define THREADS 4u
#define GROUP   4096u /* at least so many bytes are shared out to the guests at once */
#define MOMENTS 40u

struct version {
    uint8_t bytes[SECTOR];
    uint64_t begun, ended; /* by the clock of all steps */
    unsigned begun_at,
        fua_at; /* places in the log; fua_at: promised from there on, UINT_MAX: not by itself */
};

struct flush {
    uint64_t begun;
    unsigned ended_at;
};

struct crowd {
    struct live_images images;
    struct live_image *image;
    uint64_t size;
    unsigned cluster, steps;
    GArray **sectors; /* of struct version; each is one guest's */
    GArray *flushes;
    GMutex lock; /* of flushes */
    _Atomic uint64_t clock;
};

struct guest {
    struct crowd *c;
    unsigned number;
    GRand *random;
};

/* ---- what a guest knows ---- */

static GArray *sector_at(const struct crowd *c, uint64_t offset)
{
    return c->sectors[offset / SECTOR];
}

static struct version *last_version(const struct crowd *c, uint64_t offset)
{
    GArray *versions = sector_at(c, offset);

    return &g_array_index(versions, struct version, versions->len - 1);
}

static void begin_versions(struct crowd *c, const uint8_t *bytes, uint64_t offset, size_t length)
{
    unsigned at = live_storage_length();
    uint64_t begun = ++c->clock;

    for (size_t i = 0; i < length; i += SECTOR) {
        struct version v = {
            .begun = begun, .ended = UINT64_MAX, .begun_at = at, .fua_at = UINT_MAX};

        if (bytes)
            memcpy(v.bytes, bytes + i, SECTOR);
        g_array_append_val(sector_at(c, offset + i), v);
    }
}

static void end_versions(struct crowd *c, uint64_t offset, size_t length, bool fua)
{
    unsigned at = live_storage_length();
    uint64_t ended = ++c->clock;

    for (size_t i = 0; i < length; i += SECTOR) {
        last_version(c, offset + i)->ended = ended;
        if (fua)
            last_version(c, offset + i)->fua_at = at;
    }
}

/* ---- steps ---- */

static void look(struct guest *g, uint64_t offset, size_t length)
{
    g_autofree uint8_t *bytes = g_malloc(length);

    g_assert_cmpint(live_pread(g->c->image, bytes, length, offset), ==, 0);
    for (size_t i = 0; i < length; i += SECTOR)
        if (memcmp(bytes + i, last_version(g->c, offset + i)->bytes, SECTOR) != 0)
            g_error("guest %u: sector %d is not what was written last: %02x, not %02x", g->number,
                    (int)((offset + i) / SECTOR), bytes[i],
                    last_version(g->c, offset + i)->bytes[0]);
}

static void do_write(struct guest *g, uint64_t offset, size_t length, bool fua)
{
    g_autofree uint8_t *bytes = g_malloc(length);
    uint32_t word = g_rand_int(g->random);

    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(word >> i % 4 * 8) ^ (uint8_t)(i / 512 * 31);
    begin_versions(g->c, bytes, offset, length);
    g_assert_cmpint(live_pwrite(g->c->image, bytes, length, offset, fua ? LIVE_FUA : 0), ==, 0);
    end_versions(g->c, offset, length, fua);
}

static void do_zero(struct guest *g, uint64_t offset, size_t length, unsigned flags)
{
    begin_versions(g->c, NULL, offset, length);
    g_assert_cmpint(live_zero(g->c->image, length, offset, flags), ==, 0);
    end_versions(g->c, offset, length, flags & LIVE_FUA);
}

/* Each sector is as before, or zero. */
static void do_trim(struct guest *g, uint64_t offset, size_t length)
{
    g_autofree uint8_t *before = g_malloc(length), *after = g_malloc(length);

    for (size_t i = 0; i < length; i += SECTOR)
        memcpy(before + i, last_version(g->c, offset + i)->bytes, SECTOR);
    begin_versions(g->c, NULL, offset, length);
    g_assert_cmpint(live_trim(g->c->image, length, offset, 0), ==, 0);
    g_assert_cmpint(live_pread(g->c->image, after, length, offset), ==, 0);
    for (size_t i = 0; i < length; i += SECTOR)
        if (memcmp(after + i, before + i, SECTOR) == 0)
            begin_versions(g->c, before + i, offset + i, SECTOR);
    end_versions(g->c, offset, length, false);
}

static void do_flush(struct guest *g)
{
    struct flush f = {.begun = ++g->c->clock};

    g_assert_cmpint(live_flush(g->c->image), ==, 0);
    f.ended_at = live_storage_length();
    g_mutex_lock(&g->c->lock);
    g_array_append_val(g->c->flushes, f);
    g_mutex_unlock(&g->c->lock);
}

static void step(struct guest *g)
{
    struct crowd *c = g->c;
    unsigned group = MAX(c->cluster, GROUP), quarter = group / THREADS, sectors = quarter / SECTOR;
    uint64_t number = (uint64_t)g_rand_int_range(g->random, 0, (gint32)(c->size / group));
    unsigned first = (unsigned)g_rand_int_range(g->random, 0, (gint32)sectors);
    unsigned n = (unsigned)g_rand_int_range(g->random, 1, (gint32)(sectors - first) + 1);
    uint64_t offset = number * group + g->number * quarter + first * SECTOR;
    size_t length = n * SECTOR;

    switch (g_rand_int_range(g->random, 0, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        do_write(g, offset, length, false);
        break;
    case 4:
        do_write(g, offset, length, true);
        break;
    case 5:
        do_zero(g, offset, length, (unsigned)g_rand_int_range(g->random, 0, 4));
        break;
    case 6:
        do_trim(g, offset, length);
        break;
    case 7:
        do_flush(g);
        break;
    case 8:
        g_assert_cmpint(live_write_back(c->image), ==, 0);
        break;
    default:
        break;
    }
    look(g, offset, length);
}

static void *run_guest(void *opaque)
{
    struct guest *g = opaque;

    for (unsigned i = 0; i < g->c->steps; i++)
        step(g);
    return NULL;
}

/* ---- the crowd ---- */

static struct live_image *open_image(const struct crowd *c, const struct live_file_ops *ops)
{
    struct live_options options = LIVE_OPTIONS_INIT;
    struct q2_error err = {0};
    struct live_image *image;

    options.writable = true;
    options.locking = false;
    options.table_memory = 1;
    options.ops = ops;
    image = live_open(live_images_path(&c->images, LIVE_FOLDER_WORK, 0), &options, &err);
    if (!image)
        g_error("%s", err.text);
    return image;
}

static void close_image(struct live_image *image)
{
    struct q2_error err = {0};

    if (live_close(image, &err) < 0)
        g_error("%s", err.text);
}

static bool begin(struct crowd *c, const char *kind, uint64_t size)
{
    memset(c, 0, sizeof(*c));
    if (!live_images_begin(&c->images, live_kind_named(kind)))
        return false;
    c->cluster = c->images.kind->cluster;
    c->size = MAX(size, c->images.size);
    live_images_restart(&c->images);
    live_storage_forget();
    c->image = open_image(c, NULL);
    g_assert_cmpint(live_resize(c->image, c->size), ==, 0);
    close_image(c->image);
    for (unsigned i = 0; i < c->images.n_files; i++)
        live_storage_add(live_images_path(&c->images, LIVE_FOLDER_WORK, i));
    c->flushes = g_array_new(FALSE, FALSE, sizeof(struct flush));
    c->sectors = g_new(GArray *, c->size / SECTOR);
    for (uint64_t i = 0; i < c->size / SECTOR; i++) {
        struct version v = {.fua_at = 0};

        c->sectors[i] = g_array_new(FALSE, FALSE, sizeof(struct version));
        if ((i + 1) * SECTOR <= c->images.size)
            memcpy(v.bytes, c->images.disk + i * SECTOR, SECTOR);
        g_array_append_val(c->sectors[i], v);
    }
    return true;
}

static void end(struct crowd *c)
{
    for (uint64_t i = 0; i < c->size / SECTOR; i++)
        g_array_free(c->sectors[i], TRUE);
    g_free(c->sectors);
    g_array_free(c->flushes, TRUE);
    live_images_end(&c->images);
}

static void run(struct crowd *c)
{
    struct guest guests[THREADS];
    GThread *threads[THREADS];
    struct q2_error err = {0};

    c->image = open_image(c, &live_storage_ops);
    g_assert_cmpint(live_start(c->image, &err), ==, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        guests[i] = (struct guest){c, i, g_rand_new_with_seed((guint32)g_test_rand_int())};
        threads[i] = g_thread_new("guest", run_guest, &guests[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        g_thread_join(threads[i]);
        g_rand_free(guests[i].random);
    }
}

/* ---- after power was lost ---- */

static bool is_promised(const struct crowd *c, const struct version *v, unsigned at)
{
    if (v->fua_at <= at)
        return true;
    for (unsigned i = 0; i < c->flushes->len; i++) {
        const struct flush *f = &g_array_index(c->flushes, struct flush, i);

        if (f->ended_at <= at && f->begun > v->ended)
            return true;
    }
    return false;
}

static bool may_be(const struct crowd *c, uint64_t sector, const uint8_t *bytes, unsigned at)
{
    GArray *versions = c->sectors[sector];

    for (unsigned i = versions->len; i-- > 0;) {
        const struct version *v = &g_array_index(versions, struct version, i);

        if (v->begun_at <= at && memcmp(v->bytes, bytes, SECTOR) == 0)
            return true;
        if (is_promised(c, v, at))
            return false;
    }
    return false;
}

static void judge(const struct crowd *c, unsigned at, enum live_folder folder)
{
    struct q2_error err = {0};
    struct q2_image *image =
        q2_image_open(live_images_path(&c->images, folder, 0), Q2_REFERENCES_FOLDER, &err);
    struct q2_reader *reader = image ? q2_reader_new(image, &err) : NULL;
    g_autofree uint8_t *disk = g_malloc(c->size);
    uint64_t leaks, corruptions;

    if (!reader || q2_image_check(image, &leaks, &corruptions, &err) < 0 || corruptions ||
        q2_image_pread(reader, disk, c->size, 0, &err) < 0)
        g_error("%s, after %u events: %s", c->images.kind->name, at, err.text);
    for (uint64_t i = 0; i < c->size / SECTOR; i++)
        if (!may_be(c, i, disk + i * SECTOR, at))
            g_error("%s, after %u events: sector %d begins with %02x", c->images.kind->name, at,
                    (int)i, disk[i * SECTOR]);
    q2_reader_free(reader);
    q2_image_close(image);
}

static void lose_power(struct crowd *c, unsigned at, unsigned *crashes)
{
    const char *paths[LIVE_STORAGE_FILES];
    uint8_t fates[LIVE_UNCERTAIN_MAX];
    unsigned n = live_crash_at(at);

    for (unsigned i = 0; i < c->images.n_files; i++)
        paths[i] = live_images_path(&c->images, LIVE_FOLDER_CRASH, i);
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < n; i++)
            fates[i] =
                round < 2 ? (uint8_t)round
                          : (uint8_t)g_test_rand_int_range(0, round < 4 ? 2 : LIVE_SECOND_HALF + 1);
        live_crash_make(fates, (uint64_t)g_test_rand_int());
        live_crash_put(paths);
        judge(c, at, LIVE_FOLDER_CRASH);
        ++*crashes;
    }
}

static void run_crowd(const char *kind, uint64_t size, unsigned steps)
{
    struct crowd c;
    unsigned at = 0, length, crashes = 0;

    if (!begin(&c, kind, size))
        return;
    c.steps = steps;
    run(&c);
    close_image(c.image);
    length = live_storage_length();
    for (unsigned i = 1; i <= MOMENTS; i++) {
        unsigned to = length * i / MOMENTS;

        at = i == MOMENTS ? length
             : to > at    ? (unsigned)g_test_rand_int_range((gint32)at, (gint32)to)
                          : at;
        lose_power(&c, at, &crashes);
    }
    judge(&c, length, LIVE_FOLDER_WORK);
    g_test_message("%s: %u events, %u crashes", kind, length, crashes);
    end(&c);
}

static void test_kind(gconstpointer kind)
{
    run_crowd(kind, 0, 120);
}

/* Many tables, of which a few are in memory. */
static void test_tables(void)
{
    run_crowd("1k", 30 * 128 * 1024, 150);
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {
        "4k",         "backing-4k",          "longer",           "extended", "extended-backing",
        "compressed", "compressed-extended", "data-file-backing"};

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strdup_printf("/crash-threads/%s", kinds[i]);

        g_test_add_data_func(path, kinds[i], test_kind);
    }
    g_test_add_func("/crash-threads/tables", test_tables);
    return g_test_run();
}
