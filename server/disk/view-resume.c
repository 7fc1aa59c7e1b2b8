/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/view-resume.h"

#include "common/util/bitmap-glib.h"
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/disk/disk-scratch.h"
#include "server/disk/node-stats.h"
#include "server/disk/view-chain.h"
#include "server/disk/view-map.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* ---- their files ---- */

static int by_sequence(const void *a, const void *b)
{
    const struct lasting *const *f = a, *const *g = b;
    uint64_t x = atomic_load(&(*f)->head->view.sequence);
    uint64_t y = atomic_load(&(*g)->head->view.sequence);

    return x < y ? -1 : x > y;
}

static bool is_text(const char *text, size_t size)
{
    return memchr(text, '\0', size) != NULL;
}

/* Is it a view of this disk as it is? */
static bool is_sound(const struct disk *d, const struct lasting *f)
{
    const struct lasting_view *h = &f->head->view;
    uint64_t blocks = (h->size >> d->unit_shift) + ((h->size & (d->unit - 1)) != 0);

    return h->unit == d->unit && h->size <= atomic_load(&d->size) &&
           (f->mapped - LASTING_PAGE) / sizeof(futex_word) >= blocks &&
           is_text(h->name, sizeof h->name) && is_text(h->scratch, sizeof h->scratch) &&
           is_text(h->reason, sizeof h->reason) && is_text(h->bitmap, sizeof h->bitmap) &&
           h->name[0] != '\0';
}

static void close_file(gpointer file)
{
    lasting_close(file, false);
}

/* One that is not needed. If this start is killed before it is removed, it does not spoil the next one. */
static void pass_over(const struct disk *d, struct lasting *f)
{
    lasting_take_over(f, d->state.lasting);
}

/* Open the files of views that were in the chain, oldest first. NULL and *err: one of them cannot be
 * read, so it is not known what the chain was. */
static GPtrArray *open_views(struct disk *d, const GPtrArray *ids, GError **err)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(close_file);

    for (unsigned i = 0; i < ids->len; i++) {
        struct lasting *f = NULL;

        if (!lasting_is_of(ids->pdata[i], d->state.id))
            continue;
        f = lasting_open(&d->state, ids->pdata[i], err);
        if (!f)
            return NULL;
        if (f->head->kind != LASTING_VIEW || atomic_load(&f->head->view.linked) == 0) {
            pass_over(d, f);
            lasting_close(f, false);
            continue;
        }
        g_ptr_array_add(files, f);
        if (!is_sound(d, f)) {
            fail(err, "what is left of a view in memory is damaged, or of another image");
            return NULL;
        }
    }
    g_ptr_array_sort(files, by_sequence);
    return g_steal_pointer(&files);
}

/* The same for one that is not whole without newer ones, which may be removed before it. */
static void give_up(const struct disk *d, struct lasting *f)
{
    atomic_store(&f->head->view.incomplete, 1);
    pass_over(d, f);
}

/* Views that cannot be had back, and those that are older. */
static void drop_incomplete(struct disk *d, GPtrArray *files)
{
    for (unsigned k = files->len; k > 0; k--) {
        const struct lasting *f = files->pdata[k - 1];

        if (atomic_load(&f->head->view.incomplete) == 0)
            continue;
        d->lost_views = g_strdup_printf("not all that view %s and older ones had kept was where it "
                                        "survives the server",
                                        f->head->view.name);
        log_error("disk %s: views of the last server cannot go on: %s", d->node.name,
                  d->lost_views);
        for (unsigned n = 0; n < k; n++)
            give_up(d, files->pdata[n]);
        g_ptr_array_remove_range(files, 0, k);
        return;
    }
}

/* ---- the views ---- */

/* One that is not had back; its file stays for the next start, if this one comes to nothing. */
static void free_view(gpointer view)
{
    struct view *v = view;

    lasting_close(v->file, false);
    v->file = NULL;
    v->map = NULL;
    view_free(v);
}

/* Pages of the file [from, to) have entries. */
static void touch(struct view *v, off_t from, off_t to)
{
    unsigned shift = v->disk->unit_shift;
    uint64_t first =
        (uint64_t)(from - LASTING_PAGE) / LASTING_PAGE * (LASTING_PAGE / sizeof *v->map);
    uint64_t last = ((uint64_t)(to - LASTING_PAGE) + sizeof *v->map - 1) / sizeof *v->map;

    bitmap_set(v->touched, first << shift, (last - first) << shift);
}

/* Which parts of the map have pages. An entry that is not found would be a block that is not kept. */
static int find_touched(struct view *v, GError **err)
{
    off_t end = (off_t)(LASTING_PAGE + v->blocks * sizeof *v->map), at = LASTING_PAGE;

    while (at < end) {
        off_t data = lseek(v->file->fd, at, SEEK_DATA), hole;

        if (data < 0 && errno == ENXIO)
            return 0;
        hole = data < 0 ? -1 : lseek(v->file->fd, data, SEEK_HOLE);
        if (hole < 0)
            return fail_errno(err, errno, "the map of view %s", v->node.name);
        if (data < end)
            touch(v, data, MIN(hole, end));
        at = hole;
    }
    return 0;
}

static struct view *make_view(struct disk *d, struct lasting *f, GError **err)
{
    const struct lasting_view *head = &f->head->view;
    struct view *v = g_new0(struct view, 1);

    v->node.kind = NODE_VIEW;
    v->node.name = g_strdup(head->name);
    node_ios_init(&v->node.ios);
    v->disk = d;
    v->size = head->size;
    v->blocks = (v->size >> d->unit_shift) + ((v->size & (d->unit - 1)) != 0);
    v->options = (struct view_options){
        .on_error = head->on_error ? CBW_BREAK_GUEST_WRITE : CBW_BREAK_SNAPSHOT,
        .scratch_limit = head->scratch_limit,
    };
    v->instant_usec = head->instant_usec;
    v->claimed = true;
    pthread_mutex_init(&v->lock, NULL);
    if (view_map_open(v, f, err) == 0 && find_touched(v, err) == 0)
        return v;
    free_view(v);
    return NULL;
}

/* One that was being deleted is not whole: it can only be deleted. */
static void set_state(struct view *v)
{
    struct lasting_view *head = &v->file->head->view;
    enum view_state state = atomic_load(&head->state);

    if (state == VIEW_LIVE)
        return;
    if (state != VIEW_BROKEN)
        g_strlcpy(head->reason, "it was being deleted", sizeof head->reason);
    g_strlcpy(v->reason, head->reason, sizeof v->reason);
    view_set_state(v, VIEW_BROKEN);
}

/* ---- their maps ---- */

/* Taken slots are a bitmap with a slot a granule. How many bytes that is says nothing. */
#define SLOT_BYTES ((uint64_t)BITMAP_MIN_GRANULARITY)

static bool older_has(const struct view *v, uint64_t block, uint32_t entry)
{
    for (const struct view *u = atomic_load(&v->older); u; u = atomic_load(&u->older))
        if (block < u->blocks && view_entry(u, block) == entry)
            return true;
    return false;
}

/* What the process was in the middle of comes to an end. */
static int mend_entry(struct view *v, uint64_t block, struct bitmap *slots, GError **err)
{
    uint32_t entry = atomic_load(&v->map[block]);
    uint64_t at = (entry - BLOCK_KEPT_SLOT) * SLOT_BYTES;

    if (entry == BLOCK_COPYING || entry == BLOCK_CONTENDED) {
        atomic_store(&v->map[block], BLOCK_NEEDED);
    } else if ((entry > BLOCK_KEPT_HOLE && entry < BLOCK_KEPT_SLOT) ||
               (entry >= BLOCK_KEPT_SLOT && entry - BLOCK_KEPT_SLOT >= SCRATCH_MAX_SLOTS)) {
        return fail(err, "the map of view %s is damaged", v->node.name);
    } else if (entry >= BLOCK_KEPT_SLOT && bitmap_test(slots, at)) {
        if (!older_has(v, block, entry))
            return fail(err, "the maps of views are damaged");
        atomic_store(&v->map[block], BLOCK_DROPPED);
    } else if (entry >= BLOCK_KEPT_SLOT) {
        bitmap_set(slots, at, 1);
        atomic_fetch_add(&v->kept, 1);
    }
    return 0;
}

static int mend_map(struct view *v, struct bitmap *slots, GError **err)
{
    unsigned shift = v->disk->unit_shift;
    uint64_t start, length;

    for (uint64_t at = 0; bitmap_next_dirty(v->touched, at, v->size, &start, &length);
         at = start + length)
        for (uint64_t b = start >> shift; b <= (start + length - 1) >> shift; b++)
            if (mend_entry(v, b, slots, err) < 0)
                return -1;
    return lasting_is_lost(v->file) ? fail(err, "the map of view %s is gone", v->node.name) : 0;
}

static GArray *runs_of(const struct bitmap *slots)
{
    GArray *runs = g_array_new(FALSE, FALSE, sizeof(struct scratch_run));
    uint64_t start, length, end = bitmap_size(slots);

    for (uint64_t at = 0; bitmap_next_dirty(slots, at, end, &start, &length); at = start + length) {
        struct scratch_run run = {.slot = (uint32_t)(start / SLOT_BYTES),
                                  .n = (uint32_t)(length / SLOT_BYTES)};

        g_array_append_val(runs, run);
    }
    return runs;
}

/* ---- the chain ---- */

/* The views of the files, oldest first, each knows its neighbours; takes over the files. */
static GPtrArray *make_views(struct disk *d, GPtrArray *files, GError **err)
{
    g_autoptr(GPtrArray) views = g_ptr_array_new_with_free_func(free_view);
    struct view *last = NULL;

    while (files->len > 0) {
        struct view *v = make_view(d, g_ptr_array_steal_index(files, 0), err);

        if (!v)
            return NULL;
        g_ptr_array_add(views, v);
        set_state(v);
        atomic_store(&v->older, last);
        if (last)
            atomic_store(&last->newer, v);
        last = v;
    }
    return g_steal_pointer(&views);
}

static struct scratch *resume_scratch(struct disk *d, GPtrArray *views, GError **err)
{
    g_autoptr(GArray) used = NULL;
    struct bitmap *slots = bitmap_new(SCRATCH_MAX_SLOTS * SLOT_BYTES, BITMAP_MIN_GRANULARITY, err);
    const struct view *oldest = views->pdata[0];
    const char *id = oldest->file->head->view.scratch;
    int result = slots ? 0 : -1;

    for (unsigned k = 0; k < views->len && result == 0; k++) {
        struct view *v = views->pdata[k];

        result = strcmp(v->file->head->view.scratch, id) == 0
                     ? mend_map(v, slots, err)
                     : fail(err, "views have different scratch files");
    }
    if (result == 0)
        used = runs_of(slots);
    bitmap_unref(slots);
    return used ? scratch_resume(d->pool, d->unit, &d->state, id, used, err) : NULL;
}

/* One that was given up may still be in the chain when another one has got its name. */
static bool has_namesake(const GPtrArray *views, unsigned k)
{
    const struct view *v = views->pdata[k];

    for (unsigned i = k + 1; i < views->len; i++)
        if (strcmp(((struct view *)views->pdata[i])->node.name, v->node.name) == 0)
            return true;
    return false;
}

static void publish_view(struct disk *d, struct view *v, bool stray)
{
    lasting_take_over(v->file, d->state.lasting);
    if (stray)
        view_set_state(v, VIEW_RETIRING);
    g_ptr_array_add(stray ? d->strays : d->views, v);
}

/* Nothing fails any more. */
static void publish(struct disk *d, GPtrArray *views, struct scratch *scratch)
{
    struct view *newest = views->pdata[views->len - 1];

    d->scratch = scratch;
    d->holding.holders = views->len;
    d->sequence = atomic_load(&newest->file->head->view.sequence);
    pthread_mutex_lock(&d->lock);
    for (unsigned k = 0; k < views->len; k++) {
        struct view *v = views->pdata[k];

        v->scratch = scratch;
        publish_view(d, v, has_namesake(views, k));
    }
    pthread_mutex_unlock(&d->lock);
    atomic_store(&d->newest, newest);
    g_ptr_array_set_free_func(views, NULL);
}

static bool has_any(const struct disk *d, const GPtrArray *ids)
{
    for (unsigned k = 0; k < ids->len; k++)
        if (lasting_is_of(ids->pdata[k], d->state.id))
            return true;
    return false;
}

static int resume(struct disk *d, const GPtrArray *ids, GError **err)
{
    g_autoptr(GPtrArray) files = NULL;
    g_autoptr(GPtrArray) views = NULL;
    struct scratch *scratch;

    if (d->state.stale && has_any(d, ids))
        return fail(err, "%s", d->state.stale);
    files = open_views(d, ids, err);
    if (!files)
        return -1;
    drop_incomplete(d, files);
    if (files->len == 0)
        return 0;
    views = make_views(d, files, err);
    scratch = views ? resume_scratch(d, views, err) : NULL;
    if (!scratch)
        return -1;
    publish(d, views, scratch);
    return 0;
}

void disk_resume_views(struct disk *d)
{
    g_autoptr(GPtrArray) ids = NULL;
    g_autoptr(GError) error = NULL;

    if (!d->state.lasting)
        return;
    ids = lasting_list(d->state.lasting, &error);
    if (ids && resume(d, ids, &error) == 0)
        return;
    g_free(d->lost_views);
    d->lost_views = g_strdup(error->message);
    log_error("disk %s: the views of the last server cannot go on: %s", d->node.name,
              error->message);
}

const char *disk_lost_views(const struct disk *d)
{
    return d->lost_views;
}
