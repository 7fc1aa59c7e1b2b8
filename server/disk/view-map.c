/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/view-map.h"

#include "common/util/bitmap-glib.h"
#include "common/util/error.h"
#include "common/util/log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

/* Entries in a page of the map. */
#define PAGE_BLOCKS (LASTING_PAGE / sizeof(futex_word))

static size_t map_bytes(const struct view *v)
{
    return MAX(v->blocks, 1) * sizeof *v->map;
}

static int make_touched(struct view *v, GError **err)
{
    v->touched = bitmap_new(v->size, VIEW_TOUCHED_UNIT, err);
    if (v->touched)
        return 0;
    g_prefix_error(err, "disk %s: view %s: ", v->disk->node.name, v->node.name);
    return -1;
}

/* ---- in memory of the process ---- */

static int map_memory(struct view *v, GError **err)
{
    v->map = mmap(NULL, map_bytes(v), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (v->map == MAP_FAILED) {
        v->map = NULL;
        return fail_errno(err, errno, "disk %s: view %s: a map of %" PRIu64 " blocks",
                          v->disk->node.name, v->node.name, v->blocks);
    }
    (void)madvise(v->map, map_bytes(v), MADV_NOHUGEPAGE);
    return 0;
}

/* ---- in a file ---- */

/* Older views may need what the view had kept. One that is not in the list yet is newer than all that are.
 * Under disk->lock. */
static void break_with_older(struct view *v)
{
    static const char reason[] = "the map of a view was cut short in memory";
    const GPtrArray *views = v->disk->views;

    for (unsigned k = 0; k < views->len && views->pdata[k] != v; k++)
        view_break(views->pdata[k], reason);
    view_break(v, reason);
}

/* Somebody has cut a file short: what the map said is gone. A view that has left the chain meanwhile has broken
 * those that needed it (view_unlink). */
static void lost(void *opaque)
{
    struct view *v = opaque;
    struct disk *d = v->disk;

    disk_at(d, POINT_MAP_LOST, 0);
    pthread_mutex_lock(&d->lock);
    if (!v->gone)
        break_with_older(v);
    pthread_mutex_unlock(&d->lock);
}

static void use_file(struct view *v, struct lasting *file)
{
    v->file = file;
    v->map = lasting_rest(file);
    (void)madvise(v->map, map_bytes(v), MADV_NOHUGEPAGE);
}

/* False: there is no file. The view is made without one. */
static bool make_file(struct view *v)
{
    const struct disk *d = v->disk;
    g_autoptr(GError) error = NULL;
    struct lasting *file;
    struct lasting_view *head;

    if (!d->state.lasting || strlen(v->node.name) >= sizeof head->name)
        return false;
    file = lasting_new(&d->state, LASTING_VIEW, map_bytes(v), lost, v, &error);
    if (!file) {
        log_error("view %s: it ends if the server dies: %s", v->node.name, error->message);
        return false;
    }
    head = &file->head->view;
    head->size = v->size;
    head->unit = d->unit;
    head->scratch_limit = v->options.scratch_limit;
    head->on_error = v->options.on_error;
    g_strlcpy(head->name, v->node.name, sizeof head->name);
    use_file(v, file);
    return true;
}

int view_map_make(struct view *v, GError **err)
{
    pthread_mutex_init(&v->touch_lock, NULL);
    if (!make_file(v) && map_memory(v, err) < 0)
        return -1;
    return make_touched(v, err);
}

int view_map_open(struct view *v, struct lasting *file, GError **err)
{
    pthread_mutex_init(&v->touch_lock, NULL);
    use_file(v, file);
    if (lasting_tell_lost(file, lost, v, err) < 0)
        return -1;
    return make_touched(v, err);
}

void view_map_free(struct view *v, bool remove)
{
    if (v->file)
        lasting_close(v->file, remove);
    else if (v->map)
        munmap(v->map, map_bytes(v));
    bitmap_unref(v->touched);
    pthread_mutex_destroy(&v->touch_lock);
}

/* ---- touching ---- */

static bool is_touched(const struct view *v, uint64_t block, uint64_t end)
{
    unsigned shift = v->disk->unit_shift;

    for (uint64_t at = block << shift; at < end << shift; at = (at | (VIEW_TOUCHED_UNIT - 1)) + 1)
        if (!bitmap_test(v->touched, at))
            return false;
    return true;
}

/* Has any entry of the page, which begins with `first`, been touched? */
static bool has_page(const struct view *v, uint64_t first)
{
    unsigned shift = v->disk->unit_shift;
    uint64_t start, length;

    return bitmap_next_dirty(v->touched, first << shift,
                             MIN(v->size, (first + PAGE_BLOCKS) << shift), &start, &length);
}

static bool put_memory(void *page)
{
    return mmap(page, LASTING_PAGE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

/* Locked; nobody has read the page yet. */
static void make_page(struct view *v, uint64_t first)
{
    if (lasting_reserve(v->file, first * sizeof *v->map, LASTING_PAGE) == 0)
        return;
    view_map_incomplete(v);
    /* If even this fails, the first touch finds the file cut short, and the view breaks. */
    (void)put_memory(v->map + first);
}

void view_touch(struct view *v, uint64_t block, uint64_t n)
{
    unsigned shift = v->disk->unit_shift;

    n = MIN(n, v->blocks - block); /* the disk may have grown since */
    if (!v->file) {
        bitmap_set(v->touched, block << shift, n << shift);
        return;
    }
    if (is_touched(v, block, block + n))
        return;
    pthread_mutex_lock(&v->touch_lock);
    for (uint64_t at = block & ~(uint64_t)(PAGE_BLOCKS - 1); at < block + n; at += PAGE_BLOCKS)
        if (!has_page(v, at))
            make_page(v, at);
    bitmap_set(v->touched, block << shift, n << shift);
    pthread_mutex_unlock(&v->touch_lock);
}
