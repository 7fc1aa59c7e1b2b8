/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/state-check.h"
#include "common/state/bit-file.h"
#include "common/state/bits-read.h"
#include "common/state/folder.h"
#include "common/state/journal-scan.h"
#include "common/state/live-file.h"
#include "common/util/error.h"

#include <errno.h>
#include <string.h>

/* A check under way. */
struct check {
    struct storage *s;
    struct catalogue *c;
    GPtrArray *findings, *notes;
    GArray *disks, *bitmaps; /* rows as they are now */
};

void state_finding_free(struct state_finding *f)
{
    g_free(f->what);
    g_free(f->remedy);
    g_free(f->why_not);
    g_free(f);
}

/* Takes over `what`. remedy NULL: there is none. */
static struct state_finding *found(struct check *k, char *what, const char *remedy)
{
    struct state_finding *f = g_new0(struct state_finding, 1);

    f->what = what;
    f->remedy = g_strdup(remedy);
    g_ptr_array_add(k->findings, f);
    return f;
}

/* The remedy has worked, or `error` (taken over) says why not. */
static void tried(struct state_finding *f, GError *error)
{
    f->mended = !error;
    if (error)
        f->why_not = g_strdup(error->message);
    g_clear_error(&error);
}

static const struct catalogue_disk *disk_of(const struct check *k, int64_t id)
{
    for (guint i = 0; i < k->disks->len; i++) {
        const struct catalogue_disk *d = &g_array_index(k->disks, struct catalogue_disk, i);

        if (d->id == id)
            return d;
    }
    return NULL;
}

/* "disk vda: bitmap b". */
static char *bitmap_title(const struct check *k, const struct catalogue_bitmap *b)
{
    const struct catalogue_disk *d = disk_of(k, b->disk);

    return d ? g_strdup_printf("disk %s: bitmap %s", d->name, b->name)
             : g_strdup_printf("disk number %" G_GINT64_FORMAT ": bitmap %s", b->disk, b->name);
}

static struct catalogue_bitmap *bitmap_by_id(GArray *bitmaps, int64_t id)
{
    for (guint i = 0; i < bitmaps->len; i++) {
        struct catalogue_bitmap *b = &g_array_index(bitmaps, struct catalogue_bitmap, i);

        if (b->id == id)
            return b;
    }
    return NULL;
}

static bool has_text(GPtrArray *texts, const char *text)
{
    return g_ptr_array_find_with_equal_func(texts, text, g_str_equal, NULL);
}

/* ---- the catalogue ---- */

static int read_rows(struct check *k, GPtrArray *damaged, GError **err)
{
    g_clear_pointer(&k->disks, g_array_unref);
    g_clear_pointer(&k->bitmaps, g_array_unref);
    k->disks = catalogue_disks(k->c, damaged, err);
    if (k->disks)
        k->bitmaps = catalogue_bitmaps(k->c, damaged, err);
    return k->bitmaps ? 0 : -1;
}

/* The first transaction after the catalogue was opened writes what is damaged anew. */
static int heal(struct check *k, GError **err)
{
    if (catalogue_begin(k->c, err) < 0)
        return -1;
    if (catalogue_remove_strays(k->c, err) < 0) {
        catalogue_rollback(k->c);
        return -1;
    }
    return catalogue_commit(k->c, NULL, err);
}

/* What is said of damaged rows now: of disks and bitmaps, and of records. */
typedef struct damages {
    GPtrArray *rows, *records;
} damages;

static void damages_init(struct damages *d)
{
    d->rows = g_ptr_array_new_with_free_func(g_free);
    d->records = g_ptr_array_new_with_free_func(g_free);
}

static void damages_clear(struct damages *d)
{
    g_ptr_array_unref(d->rows);
    g_ptr_array_unref(d->records);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(damages, damages_clear)

static int read_damaged(struct check *k, struct damages *d, GError **err)
{
    g_autoptr(GArray) records = NULL;

    if (read_rows(k, d->rows, err) < 0)
        return -1;
    records = catalogue_records(k->c, d->records, err);
    return records ? 0 : -1;
}

/* What is not said a second time is mended. `error`: the healing has failed. */
static void report_rows(struct check *k, GPtrArray *damaged, GPtrArray *still, const char *remedy,
                        const GError *error)
{
    for (guint i = 0; i < damaged->len; i++) {
        const char *what = damaged->pdata[i];
        struct state_finding *f = found(k, g_strdup(what), remedy);

        f->mended = !error && !has_text(still, what);
        f->why_not = error ? g_strdup(error->message) : NULL;
    }
}

static int check_rows(struct check *k, GError **err)
{
    g_auto(damages) before, after;
    g_autoptr(GError) error = NULL;

    damages_init(&before);
    damages_init(&after);
    if (read_damaged(k, &before, err) < 0)
        return -1;
    if (before.rows->len == 0 && before.records->len == 0)
        return 0;
    if (heal(k, &error) == 0 && read_damaged(k, &after, err) < 0)
        return -1;
    report_rows(k, before.rows, after.rows,
                "its bitmaps become inconsistent, and the row is written anew; a row without "
                "a disk is removed",
                error);
    report_rows(k, before.records, after.records,
                "a record that is damaged is removed; if rows are missing, bitmaps become "
                "inconsistent",
                error);
    return 0;
}

static int check_catalogue(struct check *k, GError **err)
{
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) still = g_ptr_array_new_with_free_func(g_free);

    if (catalogue_verify(k->c, damaged, err) < 0 || check_rows(k, err) < 0 ||
        catalogue_verify(k->c, still, err) < 0)
        return -1;
    for (guint i = 0; i < damaged->len; i++) {
        const char *what = damaged->pdata[i];
        bool mended = !has_text(still, what);

        found(k, g_strdup_printf("%s: %s", STATE_CATALOGUE, what),
              mended ? "rows without a disk are removed" : NULL)
            ->mended = mended;
    }
    return 0;
}

/* ---- recovery ---- */

/* A server that keeps a journal has made it before anything else. */
static int check_journal_is_there(struct storage *s, GError **err)
{
    struct storage_file *f;
    uint64_t size = 0;
    int failed = s->ops->open(s, STATE_INTENT, false, &f);

    if (failed == -ENOENT)
        return fail(err, STATE_INTENT ": it is missing");
    if (failed == 0) {
        failed = s->ops->size(f, &size);
        s->ops->close(f);
    }
    if (failed == 0 && size == 0)
        return fail(err, STATE_INTENT ": it is empty");
    return failed < 0 ? storage_fail(s, STATE_INTENT, "open", failed, err) : 0;
}

/* The journal counts only when the folder was not left in order. */
static struct state_finding *check_journal(struct check *k, const struct catalogue_folder *f)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) open = NULL;

    if (!f->open || !f->journal)
        return NULL;
    if (check_journal_is_there(k->s, &error) == 0)
        open = journal_scan(k->s, state_folder_number(f->uuid), &error);
    if (open)
        return NULL;
    return found(k, g_strdup(error->message), "bitmaps that need it become inconsistent");
}

/* Bitmaps that were good before the recovery and are not any more. */
static void report_recovered(struct check *k, GArray *before)
{
    for (guint i = 0; i < before->len; i++) {
        const struct catalogue_bitmap *was = &g_array_index(before, struct catalogue_bitmap, i);
        const struct catalogue_bitmap *is = bitmap_by_id(k->bitmaps, was->id);

        if (!was->inconsistent && is && is->inconsistent) {
            g_autofree char *title = bitmap_title(k, is);

            found(k, g_strdup_printf("%s: %s", title, is->inconsistent),
                  "the bitmap becomes inconsistent")
                ->mended = true;
        }
    }
}

static struct recovery *recover(struct check *k, GError **err)
{
    struct catalogue_folder f;
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free); /* told already */
    g_autoptr(GArray) before = NULL;
    struct state_finding *journal;
    struct recovery *r;

    if (catalogue_folder(k->c, &f, err) < 0)
        return NULL;
    journal = check_journal(k, &f);
    before = g_array_ref(k->bitmaps);
    r = state_recover(k->s, k->c, err);
    if (!r || read_rows(k, damaged, err) < 0) {
        recovery_free(r);
        return NULL;
    }
    if (journal)
        journal->mended = true;
    report_recovered(k, before);
    return r;
}

/* ---- bits ---- */

static int make_inconsistent(struct check *k, struct catalogue_bitmap *b, const char *reason,
                             GError **err)
{
    g_free(b->inconsistent);
    b->inconsistent = g_utf8_make_valid(reason, -1); /* it may name a file */
    b->sealed = false;
    if (catalogue_begin(k->c, err) < 0)
        return -1;
    if (catalogue_put_bitmap(k->c, b, err) < 0) {
        catalogue_rollback(k->c);
        return -1;
    }
    return catalogue_commit(k->c, NULL, err);
}

static void bitmap_is_bad(struct check *k, struct catalogue_bitmap *b, const char *reason)
{
    g_autofree char *title = bitmap_title(k, b);
    struct state_finding *f =
        found(k, g_strdup_printf("%s: %s", title, reason), "the bitmap becomes inconsistent");
    GError *error = NULL;

    make_inconsistent(k, b, reason, &error);
    tried(f, error);
}

static void check_bitmap(struct check *k, struct catalogue_bitmap *b)
{
    const struct catalogue_disk *d = disk_of(k, b->disk);
    g_autoptr(GError) error = NULL;
    struct bitmap *bits;

    if (b->inconsistent)
        return;
    if (d && d->size != b->size) {
        g_autofree char *reason = g_strdup_printf("it covers %" G_GUINT64_FORMAT
                                                  " bytes, the disk has %" G_GUINT64_FORMAT,
                                                  b->size, d->size);

        bitmap_is_bad(k, b, reason);
        return;
    }
    bits = bits_read(k->s, b, &error);
    if (!bits)
        bitmap_is_bad(k, b, error->message);
    bitmap_unref(bits);
}

/* ---- other files ---- */

static void remove_file(struct check *k, const char *folder, const char *name, const char *what)
{
    g_autofree char *path = *folder ? g_strconcat(folder, "/", name, NULL) : g_strdup(name);
    struct state_finding *f =
        found(k, g_strdup_printf("%s: %s", path, what), "the file is removed");
    GError *error = NULL;
    int failed = k->s->ops->unlink(k->s, path);

    if (failed == 0)
        failed = k->s->ops->sync_names(k->s, folder);
    if (failed < 0)
        storage_fail(k->s, path, "remove", failed, &error);
    tried(f, error);
}

/* Files of others are left alone: who put them there may want them. */
static void note_stranger(struct check *k, const char *folder, const char *name)
{
    g_ptr_array_add(k->notes,
                    g_strdup_printf("%s%s: no file of a state folder; it stays", folder, name));
}

static bool has_bits(const struct check *k, const char *uuid)
{
    for (guint i = 0; i < k->bitmaps->len; i++) {
        if (strcmp(g_array_index(k->bitmaps, struct catalogue_bitmap, i).uuid, uuid) == 0)
            return true;
    }
    return false;
}

/* Only files whose names are UUIDs are ours. */
static int check_orphans(struct check *k, GError **err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    int failed = k->s->ops->list(k->s, STATE_BITS, names);

    if (failed < 0 && failed != -ENOENT)
        return storage_fail(k->s, STATE_BITS, "list", failed, err);
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];

        if (!g_uuid_string_is_valid(name))
            note_stranger(k, STATE_BITS "/", name);
        else if (!has_bits(k, name))
            remove_file(k, STATE_BITS, name, "no bitmap has it");
    }
    return 0;
}

static bool is_ours(const char *name)
{
    static const char *const ours[] = {"lock",     STATE_INTENT, JOURNAL_NEW_NAME,
                                       STATE_LIVE, STATE_BITS,   NULL};

    return g_strv_contains(ours, name) || g_str_has_prefix(name, STATE_CATALOGUE) ||
           g_str_has_prefix(name, "catalogue.new") || g_str_has_prefix(name, STATE_SCRATCH_PREFIX);
}

static int check_strangers(struct check *k, GError **err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    int failed = k->s->ops->list(k->s, "", names);

    if (failed < 0)
        return storage_fail(k->s, "", "list", failed, err);
    for (guint i = 0; i < names->len; i++) {
        if (!is_ours(names->pdata[i]))
            note_stranger(k, "", names->pdata[i]);
    }
    return 0;
}

/* What is wrong with the file `live`, a static string; NULL: nothing, or it is not there. */
static const char *live_fault(struct storage *s)
{
    struct storage_file *f;
    struct live_head head;
    uint64_t size;
    const char *fault = NULL;
    int failed = s->ops->open(s, STATE_LIVE, false, &f);

    if (failed == -ENOENT)
        return NULL;
    if (failed < 0)
        return "it cannot be opened";
    if (s->ops->size(f, &size) < 0 || size != LIVE_LEASE_LENGTH)
        fault = "it has not the length that it should have";
    else if (s->ops->read(f, &head, sizeof(head), 0) < 0)
        fault = "it cannot be read";
    else if (head.magic != LIVE_MAGIC || !memchr(head.boot_id, '\0', sizeof(head.boot_id)))
        fault = "it is damaged";
    s->ops->close(f);
    return fault;
}

static int check_files(struct check *k, GError **err)
{
    const char *fault = live_fault(k->s);

    if (fault)
        remove_file(k, "", STATE_LIVE, fault);
    for (guint i = 0; i < k->bitmaps->len; i++)
        check_bitmap(k, &g_array_index(k->bitmaps, struct catalogue_bitmap, i));
    if (check_orphans(k, err) < 0)
        return -1;
    return check_strangers(k, err);
}

struct recovery *state_check(struct storage *s, struct catalogue *c, GPtrArray *findings,
                             GPtrArray *notes, GError **err)
{
    struct check k = {.s = s, .c = c, .findings = findings, .notes = notes};
    struct recovery *r = NULL;

    if (check_catalogue(&k, err) == 0)
        r = recover(&k, err);
    if (r && check_files(&k, err) < 0) {
        recovery_free(r);
        r = NULL;
    }
    g_clear_pointer(&k.disks, g_array_unref);
    g_clear_pointer(&k.bitmaps, g_array_unref);
    return r;
}
