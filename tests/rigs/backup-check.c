/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/backup-model.h"

#include <stdio.h>
#include <string.h>

/* ---- views ---- */

static struct node_io *open_view(struct life *l, const struct model_session *n, unsigned disk,
                                 bool discard)
{
    g_autofree char *name = g_strdup_printf("s%u/disk%u", n->serial, disk);
    struct node *node = server_find_node(l->server, name);
    struct node_io *io;
    g_autoptr(GError) error = NULL;

    model_check(l->m, node, "there is no node %s", name);
    node_io_open(node, false, discard, NULL, &io, &error);
    g_assert_no_error(error);
    return io;
}

static void compare_sector(struct life *l, const struct model_session *n, unsigned disk, uint32_t s,
                           const uint32_t *got)
{
    const struct model_session_disk *d = &n->disks[disk];
    uint32_t want = d->at.version[s];

    for (unsigned i = 0; i < SECTOR / sizeof *got; i++)
        model_check(l->m, got[i] == want || d->dropped[s],
                    "s%u/disk%u: sector %u has %u, not %u, at byte %zu; %sdiscard, %slimited, the "
                    "disk has %u sectors, the view %u",
                    n->serial, disk, s, got[i], want, i * sizeof *got, n->discard ? "" : "not ",
                    n->limited ? "" : "not ", l->m->now[disk].sectors, d->at.sectors);
}

/* False: the view is broken, as it may be. */
static bool compare_view(struct life *l, const struct model_session *n, unsigned disk,
                         struct node_io *io, uint32_t first, uint32_t count)
{
    static uint32_t buf[SECTORS * SECTOR / sizeof(uint32_t)];
    int error = node_read(io, buf, count * SECTOR, (uint64_t)first * SECTOR, 0);

    if (error == -EIO && n->limited)
        return false;
    model_check(l->m, error == 0, "s%u/disk%u: read: %s", n->serial, disk, g_strerror(-error));
    for (uint32_t i = 0; i < count; i++)
        compare_sector(l, n, disk, first + i, buf + i * (SECTOR / sizeof buf[0]));
    l->m->count.compared += count;
    return true;
}

/* What is said to be a hole has zeroes. */
static void check_holes(struct life *l, const struct model_session *n, unsigned disk,
                        struct node_io *io)
{
    const struct model_session_disk *d = &n->disks[disk];
    struct extents e = EXTENTS_INIT;
    uint64_t size = (uint64_t)d->at.sectors * SECTOR, at = 0;

    while (e.total < size) {
        int error = node_extents(io, size - e.total, e.total, 0, &e);

        if (error == -EIO && n->limited) {
            extents_free(&e);
            return;
        }
        model_check(l->m, error == 0, "s%u/disk%u: extents: %s", n->serial, disk,
                    g_strerror(-error));
    }
    for (size_t i = 0; i < e.count; at += e.list[i++].length)
        for (uint64_t s = at / SECTOR; e.list[i].flags && s < (at + e.list[i].length) / SECTOR; s++)
            model_check(l->m, d->at.version[s] == 0 || d->dropped[s],
                        "s%u/disk%u: sector %u is called a hole", n->serial, disk, (unsigned)s);
    extents_free(&e);
}

/* The map of what differs from the base is exact, and what it calls clean is equal to the base. */
static void check_map(struct life *l, const struct model_session *n, unsigned disk,
                      struct dirty_bitmap *db)
{
    const struct model_session_disk *d = &n->disks[disk];
    const struct model_checkpoint *base = model_checkpoint(l->m, d->base);
    uint64_t size = (uint64_t)d->at.sectors * SECTOR, at = 0;
    struct extents e = EXTENTS_INIT;
    int error = dirty_bitmap_extents(db, size, 0, false, &e);

    model_check(l->m, error == 0 && e.total == size, "s%u/disk%u: map: %s", n->serial, disk,
                g_strerror(-error));
    for (size_t i = 0; i < e.count; at += e.list[i++].length)
        for (uint64_t s = at / SECTOR; s < (at + e.list[i].length) / SECTOR; s++) {
            bool want = d->dirty[s * SECTOR / d->granularity], got = e.list[i].flags != 0;

            model_check(l->m, got == want, "s%u/disk%u: sector %u is %s", n->serial, disk,
                        (unsigned)s, got ? "dirty" : "clean");
            model_check(l->m,
                        got || (base && s < base->at[disk].sectors &&
                                base->at[disk].version[s] == d->at.version[s]),
                        "s%u/disk%u: sector %u is clean and differs", n->serial, disk, (unsigned)s);
        }
    extents_free(&e);
}

static void check_export(struct life *l, const struct model_session *n, unsigned disk)
{
    g_autofree char *name = g_strdup_printf("s%u/disk%u", n->serial, disk);
    struct export *e = server_find_export(l->server, EXPORTS_ADDED, name);

    if (!e && (n->limited || n->leased)) /* on its way out */
        return;
    model_check(l->m, e, "there is no export %s", name);
    g_autoptr(GPtrArray) bitmaps = export_bitmaps(e);

    model_check(l->m, bitmaps->len == 1, "export %s has %u bitmaps", name, bitmaps->len);
    check_map(l, n, disk, bitmaps->pdata[0]);
    export_unref(e);
}

void check_session(struct life *l, struct model_session *n)
{
    sessions_look(l);
    for (unsigned d = 0; n->used && d < DISKS; d++) {
        struct node_io *io;

        if (!n->disks[d].used)
            continue;
        check_export(l, n, d);
        io = open_view(l, n, d, false);
        if (compare_view(l, n, d, io, 0, n->disks[d].at.sectors))
            check_holes(l, n, d, io);
        node_io_close(io);
    }
}

/* A disk of a session, by chance; NULL: there is none. */
static struct model_session *choose_session(struct life *l, unsigned *disk)
{
    struct model_session *n = &l->m->sessions[model_below(l->m, SESSIONS)];

    *disk = model_below(l->m, DISKS);
    sessions_look(l);
    return n->used && n->disks[*disk].used ? n : NULL;
}

void view_step(struct life *l)
{
    unsigned disk;
    const struct model_session *n = choose_session(l, &disk);
    struct node_io *io;
    uint32_t first, count = 1 + model_below(l->m, 64), sectors;

    if (!n)
        return;
    sectors = n->disks[disk].at.sectors;
    first = model_below(l->m, sectors);
    io = open_view(l, n, disk, false);
    compare_view(l, n, disk, io, first, MIN(count, sectors - first));
    node_io_close(io);
}

void trim_step(struct life *l)
{
    unsigned disk;
    struct model_session *n = choose_session(l, &disk);
    struct model_session_disk *d;
    struct node_io *io;
    uint32_t first, count = 1 + model_below(l->m, 512);

    if (!n || !n->discard)
        return;
    d = &n->disks[disk];
    first = model_below(l->m, d->at.sectors);
    count = MIN(count, d->at.sectors - first);
    memset(d->dropped + first, true, count); /* before: this process may be killed */
    io = open_view(l, n, disk, true);
    int error = node_trim(io, (uint64_t)count * SECTOR, (uint64_t)first * SECTOR, 0);
    model_check(l->m, error == 0 || n->limited, "trim of s%u/disk%u: %s", n->serial, disk,
                g_strerror(-error));
    node_io_close(io);
}

/* ---- bitmaps ---- */

static bool may_be_dirty(const struct life *l, unsigned disk, uint32_t granule,
                         uint32_t granularity)
{
    uint32_t per = COARSEST / SECTOR, s = granule * (granularity / SECTOR);
    uint32_t first = l->maybe[disk].first, n = l->maybe[disk].n;

    return n > 0 && s >= first / per * per && s < (first + n + per - 1) / per * per;
}

/* The first granule that is not as it must be; -1: there is none. */
static int wrong_granule(const struct life *l, unsigned disk, struct dirty_bitmap *db,
                         const bool dirty[GRANULES], uint32_t granularity, bool recording)
{
    struct bitmap *bits = dirty_bitmap_bits(db);
    uint32_t n = model_granules(l->m->now[disk].sectors, granularity), g;

    g_assert_nonnull(bits);
    for (g = 0; g < n; g++) {
        bool got = bitmap_test(bits, (uint64_t)g * granularity);

        if (got != dirty[g] && !(got && recording && may_be_dirty(l, disk, g, granularity)))
            break;
    }
    bitmap_unref(bits);
    return g < n ? (int)g : -1;
}

bool check_bitmap(struct life *l, unsigned disk, struct dirty_bitmap *db,
                  const struct model_bitmap *b)
{
    struct dirty_bitmap_info info;

    dirty_bitmap_info(db, &info);
    return !info.inconsistent && info.granularity == b->granularity &&
           info.recording == b->recording && info.persistent == b->persistent && !info.busy &&
           !info.readonly && wrong_granule(l, disk, db, b->dirty, b->granularity, b->recording) < 0;
}

static void fail_bitmap(struct life *l, unsigned disk, struct dirty_bitmap *db,
                        const struct model_bitmap *b)
{
    int wrong = wrong_granule(l, disk, db, b->dirty, b->granularity, b->recording);
    struct dirty_bitmap_info info;

    dirty_bitmap_info(db, &info);
    model_fail(l->m,
               "b%u of disk%u: inconsistent %d, recording %d (%d), persistent %d (%d), busy %d, "
               "granule %d of %u must be %s",
               b->serial, disk, info.inconsistent, info.recording, b->recording, info.persistent,
               b->persistent, info.busy, wrong, b->granularity,
               wrong < 0 || b->dirty[wrong] ? "dirty" : "clean");
}

static void check_own(struct life *l, unsigned disk, struct dirty_bitmap *db,
                      const struct model_checkpoint *c)
{
    struct dirty_bitmap_info info;
    bool dirty[GRANULES], base = model_is_base(l->m, c->serial, disk);
    bool may_go = c->pending; /* its session is perhaps being aborted */
    int wrong;

    dirty_bitmap_info(db, &info);
    model_check(l->m,
                !info.inconsistent && info.granularity == c->granularity && info.recording &&
                    info.persistent && info.readonly && (info.busy == base || may_go),
                "c%u of disk%u: inconsistent %d, granularity %u, recording %d, persistent %d, "
                "readonly %d, busy %d (%d)",
                c->serial, disk, info.inconsistent, info.granularity, info.recording,
                info.persistent, info.readonly, info.busy, base);
    model_expected(c, &l->m->now[disk], disk, dirty);
    wrong = wrong_granule(l, disk, db, dirty, c->granularity, true);
    model_check(l->m, wrong < 0, "c%u of disk%u: granule %d of %u must be %s", c->serial, disk,
                wrong, c->granularity, wrong < 0 || dirty[wrong] ? "dirty" : "clean");
}

static void check_bitmaps(struct life *l, unsigned disk)
{
    g_autoptr(GPtrArray) all = disk_bitmaps(l->disks[disk]);
    unsigned found = 0;

    for (unsigned i = 0; i < CHECKPOINTS; i++) {
        const struct model_checkpoint *c = &l->m->checkpoints[i];
        g_autofree char *name = g_strdup_printf("c%u", c->serial);
        struct dirty_bitmap *db;

        if (!c->used || !c->on[disk])
            continue;
        db = disk_find_bitmap(l->disks[disk], name);
        model_check(l->m, db, "%s of disk%u is gone", name, disk);
        check_own(l, disk, db, c);
        dirty_bitmap_unref(db);
        found++;
    }
    for (unsigned i = 0; i < BITMAPS; i++) {
        const struct model_bitmap *b = &l->m->bitmaps[disk][i];
        g_autofree char *name = g_strdup_printf("b%u", b->serial);
        struct dirty_bitmap *db;

        if (!b->used)
            continue;
        db = disk_find_bitmap(l->disks[disk], name);
        model_check(l->m, db, "%s of disk%u is gone", name, disk);
        if (!check_bitmap(l, disk, db, b))
            fail_bitmap(l, disk, db, b);
        dirty_bitmap_unref(db);
        found++;
    }
    for (unsigned i = 0; found != all->len && i < all->len; i++)
        printf("# bitmap %s\n", dirty_bitmap_name(all->pdata[i]));
    model_check(l->m, found == all->len, "disk%u has %u bitmaps, not %u", disk, all->len, found);
}

/* ---- lists ---- */

static void check_listed(struct life *l, const struct checkpoint_info *info)
{
    const struct model_checkpoint *c =
        model_checkpoint(l->m, (uint32_t)g_ascii_strtoull(info->name + 1, NULL, 10));
    const struct model_checkpoint *before;
    g_autofree char *parent = NULL;
    unsigned n = 0;

    model_check(l->m, c && !c->pending, "checkpoint %s is listed", info->name);
    before = model_parent(l->m, c);
    parent = before ? g_strdup_printf("c%u", before->serial) : NULL;
    model_check(l->m, g_strcmp0(parent, info->parent) == 0, "parent of %s: %s, not %s", info->name,
                info->parent, parent);
    for (unsigned d = 0; d < DISKS; d++)
        n += c->on[d];
    model_check(l->m, n == info->disks->len, "%s has %u disks, not %u", info->name,
                info->disks->len, n);
}

static void check_checkpoints(struct life *l)
{
    g_autoptr(GArray) list = checkpoints_list(l->backup->checkpoints);
    unsigned n = 0;

    for (unsigned i = 0; i < CHECKPOINTS; i++)
        n += l->m->checkpoints[i].used && !l->m->checkpoints[i].pending;
    for (unsigned i = 0; i < list->len; i++)
        check_listed(l, &g_array_index(list, struct checkpoint_info, i));
    model_check(l->m, n == list->len, "there are %u checkpoints, not %u", list->len, n);
}

/* Nothing is there but what belongs to a session. */
static void check_leftovers(struct life *l)
{
    g_autoptr(GPtrArray) views = server_views(l->server);
    g_autoptr(GArray) exports = server_exports(l->server);
    uint64_t scratch = scratch_pool_used(server_scratch_pool(l->server));
    unsigned n = 0;

    for (unsigned i = 0; i < SESSIONS; i++)
        for (unsigned d = 0; l->m->sessions[i].used && d < DISKS; d++)
            n += l->m->sessions[i].disks[d].used;
    model_check(l->m, views->len == n && exports->len == n, "%u views, %u exports, not %u",
                views->len, exports->len, n);
    model_check(l->m, n > 0 || scratch == 0,
                "no view is there, and %" G_GUINT64_FORMAT " bytes of scratch are used", scratch);
}

void check_all(struct life *l)
{
    sessions_settle(l);
    check_checkpoints(l);
    for (unsigned d = 0; d < DISKS; d++)
        check_bitmaps(l, d);
    check_leftovers(l);
}
