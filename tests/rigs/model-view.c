/* SPDX-License-Identifier: BSD-3-Clause */
/* Views against their models: what they hold, what they say of holes, what they keep. */
#include "tests/rigs/model.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define PIECE (128u << 10)

struct model_view *model_view_new(struct model_disk *d, struct view *view, unsigned number,
                                  const struct view_options *options, bool discard, unsigned faults)
{
    struct model_view *v = g_new0(struct model_view, 1);
    uint64_t blocks = (d->room >> d->disk->unit_shift) + 1;

    v->disk = d;
    v->view = view;
    v->number = number;
    v->instant = d->model->instants;
    v->options = *options;
    v->discard = discard;
    v->image = image_copy(d->now);
    v->touched = g_new0(bool, blocks);
    v->dropped = g_new0(bool, blocks);
    v->faults = faults;
    return v;
}

void model_view_free(struct model_view *v)
{
    image_free(v->image);
    g_free(v->touched);
    g_free(v->dropped);
    g_free(v);
}

static bool is_broken(struct model_view *v)
{
    struct view_info info;

    view_info(v->view, &info);
    return info.broken;
}

/* A read gave an error: was that right? */
static void check_broken(struct model_view *v, int error)
{
    struct model *m = v->disk->model;
    struct view_info info;

    view_info(v->view, &info);
    if (error != -EIO || !info.broken)
        model_fail(m, v->disk, 0, "view %u of disk %u: %s, and it is %s", v->number, v->disk->index,
                   g_strerror(-error), info.broken ? "broken" : "not broken");
    if (info.reason[0] == '\0' ||
        (atomic_load(&m->faults) == v->faults && v->options.scratch_limit == 0))
        model_fail(m, v->disk, 0, "view %u of disk %u broke for no reason: %s", v->number,
                   v->disk->index, info.reason);
}

/* ---- bytes ---- */

static char expected_byte(const struct model_view *v, uint64_t offset)
{
    return v->dropped[offset >> v->disk->disk->unit_shift] ? 0 : v->image->data[offset];
}

static void compare(struct model_view *v, const char *buf, uint64_t offset, uint64_t length)
{
    if (!v->was_trimmed && memcmp(buf, v->image->data + offset, length) == 0)
        return;
    for (uint64_t i = 0; i < length; i++) {
        const char want = expected_byte(v, offset + i);

        if (buf[i] != want)
            model_fail(v->disk->model, v->disk, offset + i,
                       "view %u of instant %u of disk %u has %02x at %" PRIu64 ", not %02x",
                       v->number, v->instant, v->disk->index, (unsigned char)buf[i], offset + i,
                       (unsigned char)want);
    }
}

/* Read and compare. False: it is broken. */
static bool check_bytes(struct model_view *v, struct node_io *io, char *buf, uint64_t offset,
                        uint64_t length)
{
    bool broken = is_broken(v);
    int error = node_read(io, buf, (uint32_t)length, offset, 0);

    if (error == 0 && broken)
        model_fail(v->disk->model, v->disk, offset, "view %u of disk %u is broken and was read",
                   v->number, v->disk->index);
    if (error == 0)
        compare(v, buf, offset, length);
    else
        check_broken(v, error);
    atomic_fetch_add(&v->disk->model->checks, 1);
    return error == 0;
}

/* ---- base:allocation ---- */

static bool is_hole(const struct model_view *v, uint64_t sector)
{
    return !v->image->written[sector] ||
           v->dropped[sector * FAKE_SECTOR >> v->disk->disk->unit_shift];
}

static bool is_zero(const struct model_view *v, uint64_t sector)
{
    return v->dropped[sector * FAKE_SECTOR >> v->disk->disk->unit_shift] ||
           image_is_zero(v->image, sector * FAKE_SECTOR, FAKE_SECTOR);
}

/* What must be said of a sector: all of `must`, nothing outside `may`. In a block that the disk
 * still has, what it said; in one that was kept, HOLE where all of it is a hole, and never ZERO or
 * HOLE where it is not. `exact`: nobody has written to the block since. */
static void check_sector(struct model_view *v, uint64_t sector, uint32_t flags, bool exact)
{
    unsigned shift = v->disk->disk->unit_shift;
    uint64_t block = sector * FAKE_SECTOR >> shift << shift;
    uint32_t may = (is_hole(v, sector) ? EXTENT_HOLE : 0) | (is_zero(v, sector) ? EXTENT_ZERO : 0);
    uint32_t must = 0;

    if (v->dropped[block >> shift] || image_is_hole(v->image, block, UINT64_C(1) << shift))
        must = EXTENT_HOLE | EXTENT_ZERO;
    else if (exact)
        must = may = is_hole(v, sector) ? EXTENT_HOLE | EXTENT_ZERO : 0;
    if ((flags & must) != must || (flags & ~may) != 0)
        model_fail(v->disk->model, v->disk, sector * FAKE_SECTOR,
                   "view %u of instant %u of disk %u: base:allocation of sector %" PRIu64
                   " is %u, must have %u, may have %u%s",
                   v->number, v->instant, v->disk->index, sector, flags, must, may,
                   exact ? ", exactly" : "");
}

/* The whole of [offset, end), sectors, in as many calls as it takes. `clean` (may be NULL): blocks
 * that nobody has written to. */
static bool check_extents(struct model_view *v, struct node_io *io, uint64_t offset, uint64_t end,
                          const bool *clean)
{
    unsigned shift = v->disk->disk->unit_shift;
    struct extents e = EXTENTS_INIT;

    g_assert(offset % FAKE_SECTOR == 0);
    while (offset < end) {
        int error = node_extents(io, end - offset, offset, 0, &e);

        if (error == 0 && (e.total == 0 || e.total > end - offset))
            model_fail(v->disk->model, v->disk, offset, "base:allocation of %" PRIu64 " bytes",
                       e.total);
        for (size_t i = 0; error == 0 && i < e.count; i++) {
            uint64_t last = offset + e.list[i].length;

            for (uint64_t s = offset / FAKE_SECTOR; s * FAKE_SECTOR < last; s++)
                check_sector(v, s, e.list[i].flags, clean && clean[s * FAKE_SECTOR >> shift]);
            offset = last;
        }
        if (error < 0) {
            check_broken(v, error);
            extents_free(&e);
            return false;
        }
        extents_clear(&e);
    }
    extents_free(&e);
    atomic_fetch_add(&v->disk->model->checks, 1);
    return true;
}

static struct node_io *open_view(struct model_view *v)
{
    g_autoptr(GError) error = NULL;
    struct node_io *io;

    if (node_io_open(view_node(v->view), false, v->discard, NULL, &io, &error) < 0)
        model_fail(v->disk->model, v->disk, 0, "node_io_open: %s", error->message);
    if (node_io_info(io)->size != v->image->size)
        model_fail(v->disk->model, v->disk, 0, "view %u has %" PRIu64 " bytes, not %" PRIu64,
                   v->number, node_io_info(io)->size, v->image->size);
    return io;
}

void model_view_check(struct model_view *v)
{
    g_autofree char *buf = g_malloc(v->image->size);
    struct node_io *io = open_view(v);

    if (check_bytes(v, io, buf, 0, v->image->size))
        check_extents(v, io, 0, v->image->size, NULL);
    node_io_close(io);
}

/* ---- readers ---- */

/* A range to read, in units that the disk takes, or not. */
static void random_piece(struct noise *n, struct model_view *v, uint64_t *offset, uint64_t *length)
{
    uint64_t unit = noise_once_in(n, 2) ? 1 : v->disk->min_block, size = v->image->size;

    *offset = noise_below(n, (size + unit - 1) / unit) * unit;
    *length = (1 + noise_below(n, PIECE / unit)) * unit;
    *length = MIN(*length, size - *offset);
}

/* The only reader of a view that takes TRIM: read, trim, read. */
static bool read_and_trim(struct noise *n, struct model_view *v, struct node_io *io, char *buf)
{
    unsigned shift = v->disk->disk->unit_shift;
    uint64_t unit = UINT64_C(1) << shift, offset, length, end;
    int error;

    random_piece(n, v, &offset, &length);
    if (!check_bytes(v, io, buf, offset, length))
        return false;
    error = node_trim(io, length, offset, 0);
    if (error < 0) {
        check_broken(v, error);
        return false;
    }
    v->was_trimmed = true;
    end = offset + length == v->image->size ? (v->image->size + unit - 1) >> shift
                                            : (offset + length) >> shift;
    for (uint64_t b = (offset + unit - 1) >> shift; b < end; b++)
        v->dropped[b] = true;
    return check_bytes(v, io, buf, offset, length);
}

static void read_view(struct noise *n, struct model_view *v, char *buf)
{
    struct node_io *io = open_view(v);
    bool good = true;

    if (noise_once_in(n, 40))
        model_view_check(v);
    for (uint64_t i = noise_below(n, 24); good && i > 0; i--) {
        uint64_t offset, length;

        if (v->alone && noise_once_in(n, 3)) {
            good = read_and_trim(n, v, io, buf);
            continue;
        }
        random_piece(n, v, &offset, &length);
        if (noise_once_in(n, 3)) {
            offset -= offset % FAKE_SECTOR;
            good = check_extents(v, io, offset, MIN(offset + length, v->image->size), NULL);
        } else {
            good = check_bytes(v, io, buf, offset, length);
        }
    }
    node_io_close(io);
}

/* A live disk: there is nothing to compare with, but the engine must bear it. */
static void read_disk(struct noise *n, struct model_disk *d, char *buf)
{
    struct extents e = EXTENTS_INIT;
    struct node_io *io;
    int error;

    if (node_io_open(disk_node(d->disk), false, false, NULL, &io, NULL) < 0)
        model_fail(d->model, d, 0, "node_io_open failed");
    error = node_read(io, buf, PIECE, 0, 0);
    if (error == 0)
        error = node_extents(io, PIECE, 0, 0, &e);
    if (error < 0)
        model_fail(d->model, d, 0, "disk %u: read: %s", d->index, g_strerror(-error));
    extents_free(&e);
    node_io_close(io);
}

/* Under model.lock. */
static struct model_view *pick(struct model *m, struct noise *n)
{
    struct model_disk *d = model_random_disk(m, n);
    struct model_view *v;

    if (d->views->len == 0)
        return NULL;
    v = d->views->pdata[noise_below(n, d->views->len)];
    if (v->doomed || v->alone || (v->discard && v->users > 0))
        return NULL;
    if (v->discard)
        v->alone = true;
    v->users++;
    view_use_begin(v->view);
    return v;
}

static void release(struct model *m, struct model_view *v)
{
    view_use_end(v->view);
    pthread_mutex_lock(&m->lock);
    v->users--;
    if (v->discard)
        v->alone = false;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

void *reader_main(void *arg)
{
    struct reader *r = arg;
    struct model *m = r->model;
    g_autofree char *buf = g_malloc(PIECE);

    while (!atomic_load(&m->ending)) {
        struct model_view *v;

        pthread_mutex_lock(&m->lock);
        v = pick(m, &r->noise);
        pthread_mutex_unlock(&m->lock);
        if (v) {
            read_view(&r->noise, v, buf);
            release(m, v);
        } else {
            read_disk(&r->noise, model_random_disk(m, &r->noise), buf);
        }
    }
    return NULL;
}

/* ---- the control thread's ---- */

static void inherit(struct model_view *heir, const struct model_view *v)
{
    for (uint64_t b = 0; b < v->disk->room >> v->disk->disk->unit_shift; b++)
        heir->touched[b] |= v->touched[b];
    heir->inexact |= v->inexact;
}

/* A view that breaks has told the control thread. */
static void check_told(struct model_view *v)
{
    struct model *m = v->disk->model;

    if (!is_broken(v))
        return;
    pthread_mutex_lock(&m->told_lock);
    if (!g_hash_table_contains(m->broken_told, view_name(v->view)))
        model_fail(m, v->disk, 0, "nobody was told that %s is broken", view_name(v->view));
    pthread_mutex_unlock(&m->told_lock);
}

void model_view_delete(struct model_view *v)
{
    struct model_disk *d = v->disk;
    struct model *m = d->model;
    g_autoptr(GError) error = NULL;
    guint at;

    pthread_mutex_lock(&m->lock);
    v->doomed = true;
    while (v->users > 0)
        pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);

    model_plan(m, "delete view %u of disk%u", v->number, d->index);
    model_view_check(v);
    check_told(v);
    if (view_delete(v->view, &error) < 0)
        model_fail(m, d, 0, "view-delete: %s", error->message);

    pthread_mutex_lock(&m->lock);
    g_ptr_array_find(d->views, v, &at);
    if (at > 0)
        inherit(d->views->pdata[at - 1], v);
    g_ptr_array_remove_index(d->views, at);
    pthread_mutex_unlock(&m->lock);
    model_view_free(v);
}

/* Bytes that `v` must keep: what was data when it was made and has been written since. */
static uint64_t must_keep(const struct model_view *v)
{
    uint64_t unit = v->disk->disk->unit, bytes = 0;

    for (uint64_t at = 0; at < v->image->size; at += unit)
        if (v->touched[at / unit] && !image_is_zero(v->image, at, unit))
            bytes += unit;
    return bytes;
}

/* Each old block is kept once. Where no view of the chain is broken, trimmed or otherwise unlike
 * the others, what each keeps is known exactly. Returns what they keep together. */
static uint64_t check_kept(struct model_disk *d)
{
    uint64_t sum = 0, most = 0;
    bool exact = true;

    for (unsigned i = 0; i < d->views->len; i++) {
        struct model_view *v = d->views->pdata[i];

        exact &= !v->was_trimmed && !v->inexact && !is_broken(v);
    }
    for (unsigned i = 0; i < d->views->len; i++) {
        struct model_view *v = d->views->pdata[i];
        struct view_info info;

        view_info(v->view, &info);
        sum += info.scratch_bytes;
        most += exact ? must_keep(v) : 0;
        for (uint64_t b = 0; !exact && b < d->room >> d->disk->unit_shift; b++)
            most += v->touched[b] ? d->disk->unit : 0;
        if (exact && info.scratch_bytes != must_keep(v))
            model_fail(d->model, d, 0, "view %u of disk %u keeps %" PRIu64 " bytes, not %" PRIu64,
                       v->number, d->index, info.scratch_bytes, must_keep(v));
    }
    if (sum > most)
        model_fail(d->model, d, 0,
                   "the views of disk %u keep %" PRIu64 " bytes, more than %" PRIu64, d->index, sum,
                   most);
    return sum;
}

/* Blocks that nobody has written to since `v` (at `index`). */
static bool *clean_blocks(const struct model_disk *d, unsigned index)
{
    uint64_t blocks = (d->room >> d->disk->unit_shift) + 1;
    bool *clean = g_new(bool, blocks);

    memset(clean, true, blocks);
    for (unsigned i = index; i < d->views->len; i++)
        for (uint64_t b = 0; b < blocks; b++)
            clean[b] &= !((struct model_view *)d->views->pdata[i])->touched[b];
    return clean;
}

static bool anybody_alone(struct model *m)
{
    for (unsigned i = 0; i < m->n_disks; i++)
        for (unsigned k = 0; k < m->disks[i].views->len; k++)
            if (((struct model_view *)m->disks[i].views->pdata[k])->alone)
                return true;
    return false;
}

void model_check_views(struct model *m)
{
    uint64_t kept = 0, used;

    pthread_mutex_lock(&m->lock);
    while (anybody_alone(m)) /* it trims, which changes what is kept */
        pthread_cond_wait(&m->changed, &m->lock);
    for (unsigned i = 0; i < m->n_disks; i++) {
        struct model_disk *d = &m->disks[i];

        kept += check_kept(d);
        for (unsigned k = 0; k < d->views->len; k++) {
            struct model_view *v = d->views->pdata[k];
            g_autofree bool *clean = clean_blocks(d, k);
            struct node_io *io = open_view(v);

            check_extents(v, io, 0, v->image->size, clean);
            node_io_close(io);
        }
    }
    for (unsigned i = 0; i < m->n_disks; i++) /* slots of deleted views may wait for readers */
        grace_wait(&m->disks[i].disk->readers);
    used = scratch_pool_used(m->pool);
    pthread_mutex_unlock(&m->lock);
    if (used != kept)
        model_fail(m, NULL, 0, "scratch has %" PRIu64 " bytes in use, the views say %" PRIu64, used,
                   kept);
}
