/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checking and mending state folders: none that is damaged is taken for good.
 *
 * Each damage is done to a copy of a folder. Afterwards either the damage was found (an error, or a
 * finding), and then no bitmap is good that has fewer bits than before; or all bitmaps are what they
 * were.
 */
#include "common/state/state-check.h"
#include "common/base/bitmap.h"
#include "common/state/bits-read.h"
#include "common/state/folder.h"
#include "common/state/journal-format.h"
#include "common/state/memory.h"
#include "common/state/note.h"
#include "tests/rigs/folder-image.h"
#include "tests/rigs/made-state.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static char *top; /* a temporary folder */

/* ---- a check ---- */

typedef struct result {
    char *error; /* the folder was refused, and why */
    enum recovery_kind recovery;
    GPtrArray *findings, *notes, *damaged;
    GArray *disks, *bitmaps;
    GPtrArray *bits; /* of struct bitmap *; NULL: inconsistent */
} result;

static void bits_unref(gpointer bits)
{
    bitmap_unref(bits);
}

static void result_free(result *r)
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
G_DEFINE_AUTOPTR_CLEANUP_FUNC(result, result_free)

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

static int check(result *r, struct storage *s, GError **err)
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

static result *check_folder(const char *path)
{
    g_autoptr(GError) error = NULL;
    struct storage *s = state_folder_open(path, false, &error);
    result *r = g_new0(result, 1);

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

static result *check_image(const folder_image *i)
{
    g_autofree char *path = g_build_filename(top, "copy", NULL);
    result *r;

    folder_image_write(i, path);
    r = check_folder(path);
    folder_remove(path);
    return r;
}

/* ---- the oracle ---- */

static struct catalogue_bitmap *find_bitmap(const result *r, const struct made_bitmap *m, guint *at)
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

/* How much of the folder was found to be good. */
struct verdict {
    bool found;      /* something is wrong */
    unsigned good;   /* bitmaps that are as they were made */
    unsigned wide;   /* have more bits */
    unsigned wrong;  /* have fewer, and are not inconsistent; or recording was lost */
    unsigned absent; /* not there, or inconsistent and should not be */
};

static struct verdict judge(const result *r)
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

static void print(const result *r)
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

/* ---- the folders ---- */

static folder_image *make(enum made_kind kind)
{
    g_autofree char *path = g_build_filename(top, "made", NULL);
    folder_image *i;

    region_counts = false;
    made_state(path, kind);
    i = folder_image_read(path);
    folder_remove(path);
    return i;
}

/* A folder that was left in order is good, and a check changes none of its files. */
static void test_clean(void)
{
    g_autoptr(folder_image) i = make(MADE_CLEAN);
    g_autoptr(result) r = check_image(i);
    struct verdict v = judge(r);

    print(r);
    g_assert_null(r->error);
    g_assert_false(v.found);
    g_assert_cmpuint(v.good, ==, n_made_bitmaps);
    g_assert_cmpint(r->recovery, ==, RECOVERY_NONE);
    g_assert_cmpuint(r->notes->len, ==, 0);
}

static void test_killed(void)
{
    g_autofree char *path = g_build_filename(top, "killed", NULL);
    g_autoptr(result) r = NULL;
    struct verdict v;

    made_state(path, MADE_KILLED);
    r = check_folder(path);
    print(r);
    v = judge(r);
    g_assert_false(v.found);
    g_assert_cmpuint(v.good, ==, n_made_bitmaps);
    g_assert_cmpint(r->recovery, ==, RECOVERY_PROCESS);
    made_state_forget(path);
    folder_remove(path);
}

static void test_power(void)
{
    g_autoptr(folder_image) i = make(MADE_POWER);
    g_autoptr(result) r = check_image(i);
    struct verdict v = judge(r);
    struct made_bitmap a = made_bitmaps[0];
    guint at;
    uint64_t few, many;

    print(r);
    g_assert_false(v.found);
    g_assert_cmpint(r->recovery, ==, RECOVERY_POWER_LOSS);
    g_assert_cmpuint(v.good, ==, n_made_bitmaps - 2); /* a and b of vda are wider */
    g_assert_cmpuint(v.wide, ==, 2);
    find_bitmap(r, &a, &at);
    compare(&a, r->bits->pdata[at], &few, &many);
    g_assert_cmpuint(many, ==, 1 << JOURNAL_REGION_SHIFT);
}

/* The bits of a folder that failed are not trusted. */
static void test_failed(void)
{
    g_autoptr(folder_image) i = make(MADE_FAILED);
    g_autoptr(result) r = check_image(i);
    struct verdict v = judge(r);

    print(r);
    g_assert_null(r->error);
    g_assert_cmpuint(v.absent, ==, n_made_bitmaps - 1);
    g_assert_cmpuint(v.good, ==, 1); /* the one that was inconsistent before */
}

/* What a check has mended, another one does not find again. */
static void check_twice(const folder_image *i, unsigned at_least)
{
    g_autofree char *path = g_build_filename(top, "twice", NULL);
    g_autoptr(result) first = NULL, second = NULL;

    folder_image_write(i, path);
    first = check_folder(path);
    print(first);
    g_assert_null(first->error);
    g_assert_cmpuint(first->findings->len, >=, at_least);
    for (guint f = 0; f < first->findings->len; f++)
        g_assert_true(((struct state_finding *)first->findings->pdata[f])->mended);
    second = check_folder(path);
    print(second);
    g_assert_null(second->error);
    g_assert_cmpuint(second->findings->len, ==, 0);
    g_assert_cmpuint(second->damaged->len, ==, 0);
    folder_remove(path);
}

static void test_repair(void)
{
    g_autoptr(folder_image) i = make(MADE_CLEAN);

    for (guint f = 0; f < i->names->len; f++) {
        GByteArray *bytes = i->bytes->pdata[f];

        if (g_str_has_prefix(i->names->pdata[f], STATE_BITS))
            bytes->data[bytes->len / 2 + 1]++;
    }
    g_ptr_array_add(i->names, g_strdup("bits/0f8fad5b-d9cb-469f-a165-70867728950e"));
    g_ptr_array_add(i->bytes, g_byte_array_new());
    g_ptr_array_add(i->names, g_strdup(STATE_LIVE));
    g_ptr_array_add(i->bytes, g_byte_array_new_take((guint8 *)g_strdup("x"), 1));
    check_twice(i, n_made_bitmaps - 1 + 2);
}

/* A file that somebody has put there. */
static void test_stranger_in_bits(void)
{
    g_autoptr(folder_image) i = make(MADE_CLEAN);
    g_autoptr(result) r = NULL;

    g_ptr_array_add(i->names, g_strdup("bits/0f8fad5b-d9cb-469f-a165-70867728950e.bak"));
    g_ptr_array_add(i->bytes, g_byte_array_new());
    r = check_image(i);
    g_assert_cmpuint(r->findings->len, ==, 0);
    g_assert_cmpuint(r->notes->len, ==, 1);
    g_assert_true(g_str_has_prefix(r->notes->pdata[0], "bits/0f8fad5b-"));
}

/* ---- damage ---- */

static folder_image *make_to_damage(enum made_kind kind)
{
    folder_image *i = make(kind);
    g_autoptr(result) r = check_image(i);
    struct verdict undamaged;

    region_counts = kind == MADE_POWER;
    undamaged = judge(r);
    g_assert_false(undamaged.found);
    g_assert_cmpuint(undamaged.good, ==, n_made_bitmaps);
    return i;
}

static unsigned damaged; /* files, since the last report */

static void report_damaged(unsigned least)
{
    g_test_message("damaged files: %u (at least %u), wrong 0", damaged, least);
    g_assert_cmpuint(damaged, >=, least);
    damaged = 0;
}

static void judge_damage(const folder_image *i, const char *name, const char *what, uint64_t where,
                         bool may_be_unseen)
{
    g_autoptr(result) r = check_image(i);
    struct verdict v = judge(r);

    damaged++;
    if (v.wrong == 0 && (v.found || v.good == n_made_bitmaps))
        return;
    if (may_be_unseen && !v.found)
        return;
    print(r);
    g_error("%s: %s at %" G_GUINT64_FORMAT ": found %d, good %u, wide %u, wrong %u, absent %u",
            name, what, where, v.found, v.good, v.wide, v.wrong, v.absent);
}

static void flip(const folder_image *i, const char *name, uint64_t byte, unsigned bit,
                 bool may_be_unseen)
{
    GByteArray *bytes = folder_image_file(i, name);

    bytes->data[byte] ^= (guint8)(1u << bit);
    judge_damage(i, name, "flipped bit", byte * 8 + bit, may_be_unseen);
    bytes->data[byte] ^= (guint8)(1u << bit);
}

static void cut(const folder_image *i, const char *name, unsigned length)
{
    GByteArray *bytes = folder_image_file(i, name);
    g_autofree guint8 *all = g_memdup2(bytes->data, bytes->len);
    guint was = bytes->len;

    g_byte_array_set_size(bytes, length);
    judge_damage(i, name, "cut short", length, false);
    g_byte_array_set_size(bytes, 0);
    g_byte_array_append(bytes, all, was);
}

static bool is_bits(const char *name)
{
    return g_str_has_prefix(name, STATE_BITS "/");
}

/* The files that are needed, from the catalogue to the bits. */
static bool matters(const char *name)
{
    return is_bits(name) || strcmp(name, STATE_CATALOGUE) == 0 || strcmp(name, STATE_INTENT) == 0;
}

static unsigned rounds(unsigned n)
{
    return g_getenv("FLEECE_LONG") ? 50 * n : n;
}

static void flip_some(const folder_image *i, bool in_use)
{
    for (guint f = 0; f < i->names->len; f++) {
        const char *name = i->names->pdata[f];
        guint length = ((GByteArray *)i->bytes->pdata[f])->len;

        /* What is written of the journal is its first sector. */
        if (strcmp(name, STATE_INTENT) == 0)
            length = JOURNAL_SECTOR;
        for (unsigned n = rounds(20); n > 0 && matters(name) && length > 0; n--) {
            uint64_t byte = (uint64_t)g_test_rand_int_range(0, (int)length);

            /* Bits of a bitmap that is in use have no checksum. */
            flip(i, name, byte, (unsigned)g_test_rand_int_range(0, 8),
                 in_use && is_bits(name) && byte >= 4096);
        }
    }
}

static void test_flips(void)
{
    g_autoptr(folder_image) i = make_to_damage(MADE_CLEAN);

    flip_some(i, false);
    report_damaged(rounds(60));
}

static void test_flips_in_use(void)
{
    g_autoptr(folder_image) i = make_to_damage(MADE_POWER);

    flip_some(i, true);
    report_damaged(rounds(60));
}

/* At each 512 bytes. */
static void test_cut(void)
{
    enum made_kind kinds[] = {MADE_CLEAN, MADE_POWER};

    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
        g_autoptr(folder_image) i = make_to_damage(kinds[k]);

        for (guint f = 0; f < i->names->len; f++) {
            guint length = ((GByteArray *)i->bytes->pdata[f])->len;

            /* After a power loss the journal matters, too; its first sectors are in use. */
            if (!matters(i->names->pdata[f]) ||
                (kinds[k] == MADE_POWER && strcmp(i->names->pdata[f], STATE_INTENT) != 0))
                continue;
            for (guint at = 0; at < MIN(length, kinds[k] == MADE_POWER ? 4096 : 1 << 17); at += 512)
                cut(i, i->names->pdata[f], at);
            if (length > 0)
                cut(i, i->names->pdata[f], length - 1);
        }
    }
    report_damaged(100);
}

static void test_swap(void)
{
    g_autoptr(folder_image) i = make_to_damage(MADE_CLEAN);

    for (guint a = 0; a < i->names->len; a++) {
        for (guint b = 0; b < a; b++) {
            gpointer bytes = i->bytes->pdata[a];

            if (!is_bits(i->names->pdata[a]) || !is_bits(i->names->pdata[b]))
                continue;
            i->bytes->pdata[a] = i->bytes->pdata[b];
            i->bytes->pdata[b] = bytes;
            judge_damage(i, i->names->pdata[a], "swapped with number", b, false);
            i->bytes->pdata[b] = i->bytes->pdata[a];
            i->bytes->pdata[a] = bytes;
        }
    }
    report_damaged(3);
}

static void check_missing(enum made_kind kind)
{
    g_autoptr(folder_image) i = make_to_damage(kind);

    for (guint f = 0; f < i->names->len; f++) {
        char *name = i->names->pdata[f];

        if (!matters(name))
            continue;
        i->names->pdata[f] = (char *)"not-there";
        judge_damage(i, name, "renamed", 0, false);
        i->names->pdata[f] = name;
    }
}

static void test_missing(void)
{
    check_missing(MADE_CLEAN);
    check_missing(MADE_POWER);
    report_damaged(6);
}

/* Catalogue and bits of different folders. */
static void test_mixed(void)
{
    g_autoptr(folder_image) i = make_to_damage(MADE_CLEAN), other = make(MADE_CLEAN);
    guint f;

    for (f = 0; strcmp(i->names->pdata[f], STATE_CATALOGUE) != 0; f++)
        continue;
    g_byte_array_unref(i->bytes->pdata[f]);
    i->bytes->pdata[f] = g_byte_array_ref(folder_image_file(other, STATE_CATALOGUE));
    judge_damage(i, STATE_CATALOGUE, "another folder's", 0, false);
}

int main(int argc, char **argv)
{
    int code;

    g_test_init(&argc, &argv, NULL);
    /* In memory: thousands of folders are synced. */
    top = g_mkdtemp(g_strdup(g_access("/dev/shm", W_OK) == 0 ? "/dev/shm/test-state-check-XXXXXX"
                                                             : "/var/tmp/test-state-check-XXXXXX"));
    g_assert_nonnull(top);
    memory_set_folder(top);
    lasting_note_set_folder(top);
    g_test_add_func("/state-check/clean", test_clean);
    g_test_add_func("/state-check/killed", test_killed);
    g_test_add_func("/state-check/power", test_power);
    g_test_add_func("/state-check/failed", test_failed);
    g_test_add_func("/state-check/repair", test_repair);
    g_test_add_func("/state-check/stranger-in-bits", test_stranger_in_bits);
    g_test_add_func("/state-check/damage/flips", test_flips);
    g_test_add_func("/state-check/damage/flips-in-use", test_flips_in_use);
    g_test_add_func("/state-check/damage/cut", test_cut);
    g_test_add_func("/state-check/damage/swap", test_swap);
    g_test_add_func("/state-check/damage/missing", test_missing);
    g_test_add_func("/state-check/damage/mixed", test_mixed);
    code = g_test_run();
    folder_remove(top);
    g_free(top);
    return code;
}
