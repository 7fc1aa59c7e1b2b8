/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/checked-state.h"

#include "common/base/bitmap.h"
#include "common/state/bits-read.h"
#include "common/state/folder.h"
#include "common/state/journal-format.h"
#include "common/state/memory.h"
#include "common/state/note.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static char *top; /* a temporary folder */

void checked_begin(void)
{
    /* In memory: thousands of folders are synced. */
    top = g_mkdtemp(g_strdup(g_access("/dev/shm", W_OK) == 0 ? "/dev/shm/test-state-check-XXXXXX"
                                                             : "/var/tmp/test-state-check-XXXXXX"));
    g_assert_nonnull(top);
    memory_set_folder(top);
    lasting_note_set_folder(top);
}

void checked_end(void)
{
    folder_remove(top);
    g_clear_pointer(&top, g_free);
}

char *checked_path(const char *name)
{
    return g_build_filename(top, name, NULL);
}

/* ---- a check ---- */

static void bits_unref(gpointer bits)
{
    bitmap_unref(bits);
}

void checked_free(checked *r)
{
    g_free(r->error);
    g_ptr_array_unref(r->findings);
    g_ptr_array_unref(r->notes);
    g_ptr_array_unref(r->damaged);
    g_ptr_array_unref(r->bits);
    g_clear_pointer(&r->disks, g_array_unref);
    g_clear_pointer(&r->bitmaps, g_array_unref);
    g_free(r);
}

/* The bits, copied, so that they outlive the storage. */
static struct bitmap *copy_bits(struct storage *s, const struct catalogue_bitmap *b)
{
    struct bitmap *read = b->inconsistent ? NULL : bits_read(s, b, NULL), *copy = NULL;

    if (read) {
        copy = bitmap_alloc(b->size, b->granularity);
        bitmap_merge(copy, read);
        bitmap_unref(read);
    }
    return copy;
}

static int check(checked *r, struct storage *s, GError **err)
{
    struct catalogue *c = catalogue_open(s, err);
    struct recovery *recovery;

    if (!c)
        return -1;
    recovery = state_check(s, c, r->findings, r->notes, err);
    if (recovery) {
        r->recovery = recovery->kind;
        r->disks = catalogue_disks(c, r->damaged, NULL);
        r->bitmaps = catalogue_bitmaps(c, r->damaged, NULL);
        for (guint i = 0; r->bitmaps && i < r->bitmaps->len; i++)
            g_ptr_array_add(r->bits,
                            copy_bits(s, &g_array_index(r->bitmaps, struct catalogue_bitmap, i)));
    }
    recovery_free(recovery);
    catalogue_close(c);
    return recovery ? 0 : -1;
}

checked *checked_folder(const char *path)
{
    g_autoptr(GError) error = NULL;
    struct storage *s = state_folder_open(path, false, &error);
    checked *r = g_new0(checked, 1);

    g_assert_no_error(error);
    r->findings = g_ptr_array_new_with_free_func((GDestroyNotify)state_finding_free);
    r->notes = g_ptr_array_new_with_free_func(g_free);
    r->damaged = g_ptr_array_new_with_free_func(g_free);
    r->bits = g_ptr_array_new_with_free_func(bits_unref);
    if (check(r, s, &error) < 0)
        r->error = g_strdup(error->message);
    s->ops->free(s);
    return r;
}

checked *checked_image(const folder_image *i)
{
    g_autofree char *path = checked_path("copy");
    checked *r;

    folder_image_write(i, path);
    r = checked_folder(path);
    folder_remove(path);
    return r;
}

/* ---- the oracle ---- */

static struct catalogue_bitmap *find_bitmap(const checked *r, const struct made_bitmap *m,
                                            guint *at)
{
    for (guint d = 0; r->disks && d < r->disks->len; d++) {
        const struct catalogue_disk *disk = &g_array_index(r->disks, struct catalogue_disk, d);

        for (guint i = 0; i < r->bitmaps->len; i++) {
            struct catalogue_bitmap *b = &g_array_index(r->bitmaps, struct catalogue_bitmap, i);

            if (b->disk == disk->id && strcmp(disk->name, m->disk) == 0 &&
                strcmp(b->name, m->name) == 0) {
                *at = i;
                return b;
            }
        }
    }
    return NULL;
}

/* Bits have to have the journal's region, too. */
static bool region_counts;

/* What must be dirty. */
static struct bitmap *made_bits(const struct made_bitmap *m)
{
    uint64_t size = strcmp(m->disk, "vda") == 0 ? MADE_SIZE : (10 << 20) + 1;
    struct bitmap *bits = bitmap_alloc(size, m->granularity);

    for (unsigned i = 0; i < G_N_ELEMENTS(m->dirty) && m->dirty[i].length > 0; i++)
        bitmap_set(bits, m->dirty[i].offset, m->dirty[i].length);
    if (region_counts && m->recording && strcmp(m->disk, "vda") == 0)
        bitmap_set(bits, (uint64_t)MADE_REGION << JOURNAL_REGION_SHIFT, 1 << JOURNAL_REGION_SHIFT);
    return bits;
}

/* The bits that `m` has too few, and too many. */
static void compare(const struct made_bitmap *m, const struct bitmap *bits, uint64_t *few,
                    uint64_t *many)
{
    struct bitmap *made = made_bits(m), *both = made_bits(m);

    g_assert_cmpuint(bitmap_size(bits), ==, bitmap_size(made));
    g_assert_cmpuint(bitmap_granularity(bits), ==, bitmap_granularity(made));
    bitmap_merge(both, bits);
    *few = bitmap_count(both) - bitmap_count(bits);
    *many = bitmap_count(both) - bitmap_count(made);
    bitmap_unref(made);
    bitmap_unref(both);
}

struct verdict checked_judge(const checked *r)
{
    struct verdict v = {.found = r->error || r->findings->len > 0 || r->damaged->len > 0};

    for (unsigned i = 0; i < n_made_bitmaps; i++) {
        const struct made_bitmap *m = &made_bitmaps[i];
        guint at;
        struct catalogue_bitmap *b = find_bitmap(r, m, &at);
        uint64_t few = 0, many = 0;

        if (!b || !r->bits->pdata[at]) {
            v.absent += !b || !m->inconsistent;
            v.good += b && m->inconsistent;
            continue;
        }
        if (m->inconsistent || b->recording != m->recording) {
            v.wrong++;
            continue;
        }
        compare(m, r->bits->pdata[at], &few, &many);
        v.wrong += few > 0;
        v.wide += few == 0 && many > 0;
        v.good += few == 0 && many == 0;
    }
    return v;
}

void checked_print(const checked *r)
{
    g_test_message("error: %s", r->error ? r->error : "none");
    for (guint i = 0; i < r->findings->len; i++) {
        const struct state_finding *f = r->findings->pdata[i];

        g_test_message("%s [%s] %s", f->what, f->mended ? "mended" : "not mended",
                       f->why_not ? f->why_not : "");
    }
    for (guint i = 0; i < r->damaged->len; i++)
        g_test_message("damaged: %s", (char *)r->damaged->pdata[i]);
}

uint64_t checked_excess(const checked *r, const struct made_bitmap *m)
{
    guint at;
    uint64_t few, many;

    g_assert_nonnull(find_bitmap(r, m, &at));
    compare(m, r->bits->pdata[at], &few, &many);
    return many;
}

/* ---- the folders ---- */

folder_image *checked_make(enum made_kind kind)
{
    g_autofree char *path = checked_path("made");
    folder_image *i;

    region_counts = false;
    made_state(path, kind);
    i = folder_image_read(path);
    folder_remove(path);
    return i;
}

folder_image *checked_make_to_damage(enum made_kind kind)
{
    folder_image *i = checked_make(kind);
    g_autoptr(checked) r = checked_image(i);
    struct verdict undamaged;

    region_counts = kind == MADE_POWER;
    undamaged = checked_judge(r);
    g_assert_false(undamaged.found);
    g_assert_cmpuint(undamaged.good, ==, n_made_bitmaps);
    return i;
}
