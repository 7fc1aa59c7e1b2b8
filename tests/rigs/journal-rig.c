/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/journal-rig.h"

#include "common/state/folder.h"
#include "common/state/journal-scan.h"
#include "server/state/journal-private.h"

static void on_failed(void *opaque, const char *reason)
{
    struct journal_rig *r = opaque;

    g_assert_nonnull(reason);
    atomic_fetch_add(&r->failed, 1);
}

static bool phase_left(void *opaque, unsigned phase)
{
    struct journal_rig *r = opaque;

    for (unsigned i = 0; i < RIG_LINES; i++)
        if (atomic_load(&r->lines[i].inside[phase]) != 0)
            return false;
    return true;
}

/* Regions that are marked while this goes on stay marked. */
static int sync_bits(void *opaque)
{
    struct journal_rig *r = opaque;
    unsigned last;

    atomic_fetch_add(&r->bit_syncs, 1);
    if (atomic_load(&r->sync_result) < 0)
        return -1;
    pthread_mutex_lock(&r->lock);
    last = r->marks;
    pthread_mutex_unlock(&r->lock);
    g_thread_yield();
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < RIG_REGIONS; i++)
        if (r->marked[i] <= last)
            r->marked[i] = 0;
    pthread_mutex_unlock(&r->lock);
    return 0;
}

struct journal_rig *journal_rig_new(unsigned idle_ms, unsigned patience_ms, bool break_guest_write)
{
    struct journal_rig *r = g_new0(struct journal_rig, 1);
    struct journal_options o = {
        .folder = RIG_FOLDER,
        .patience_ms = patience_ms ? patience_ms : 60000,
        .idle_ms = idle_ms ? idle_ms : 3600000,
        .break_guest_write = break_guest_write,
        .failed = on_failed,
        .opaque = r,
    };
    g_autoptr(GError) err = NULL;

    r->disk_options = (struct journal_disk_options){
        .id = RIG_DISK,
        .cover = &r->cover,
        .phase_left = phase_left,
        .sync_bits = sync_bits,
        .opaque = r,
    };
    pthread_mutex_init(&r->lock, NULL);
    r->marked = g_new0(unsigned, RIG_REGIONS);
    r->storage = memory_storage_new();
    r->journal = journal_new(r->storage, &o, &err);
    g_assert_no_error(err);
    r->disk = journal_add_disk(r->journal, &r->disk_options, &err);
    g_assert_no_error(err);
    return r;
}

void rig_set_patience(struct journal_rig *r, unsigned ms)
{
    pthread_mutex_lock(&r->journal->lock);
    r->journal->o.patience_ms = ms;
    pthread_mutex_unlock(&r->journal->lock);
}

void journal_rig_free(struct journal_rig *r)
{
    g_assert_cmpint(journal_remove_disk(r->disk), ==, 0);
    g_assert_cmpint(journal_free(r->journal), ==, 0);
    r->storage->ops->free(r->storage);
    pthread_mutex_destroy(&r->lock);
    g_free(r->marked);
    g_free(r);
}

int rig_enter(struct journal_rig *r, unsigned line, uint64_t region, unsigned *phase)
{
    int error = cover_enter(&r->cover, &r->lines[line], region * REGION, 1, phase);

    if (error < 0)
        return error;
    pthread_mutex_lock(&r->lock);
    r->marked[region] = ++r->marks;
    pthread_mutex_unlock(&r->lock);
    return 0;
}

void rig_leave(struct journal_rig *r, unsigned line, unsigned phase)
{
    cover_leave(&r->lines[line], phase);
}

int rig_write_region(struct journal_rig *r, unsigned line, uint64_t region)
{
    unsigned phase;
    int error = rig_enter(r, line, region, &phase);

    if (error == 0)
        rig_leave(r, line, phase);
    return error;
}

static bool is_open(const GArray *open, uint64_t region)
{
    for (guint i = 0; i < open->len; i++) {
        const struct journal_entry *e = &g_array_index(open, struct journal_entry, i);

        if (e->disk == RIG_DISK && e->first <= region && region < e->first + e->count)
            return true;
    }
    return false;
}

static uint64_t count(const GArray *open)
{
    uint64_t n = 0;

    for (guint i = 0; i < open->len; i++)
        n += g_array_index(open, struct journal_entry, i).count;
    return n;
}

uint64_t rig_check_power_loss(struct journal_rig *r, GRand *rand)
{
    const char *why;
    size_t length;
    uint8_t *bytes;
    unsigned *marked;
    GArray *open;
    uint64_t n;

    /* A mark that is made after this is not looked at; one that is synced later is, and must be
     * open in what was durable at this moment. */
    pthread_mutex_lock(&r->lock);
    marked = g_memdup2(r->marked, RIG_REGIONS * sizeof *marked);
    bytes = memory_crash(r->storage, STATE_INTENT, rand, &length);
    pthread_mutex_unlock(&r->lock);
    g_assert_nonnull(bytes);
    open = journal_scan_bytes(bytes, length, RIG_FOLDER, &why);
    g_assert_cmpstr(why, ==, NULL);
    for (unsigned i = 0; i < RIG_REGIONS; i++)
        g_assert_true(!marked[i] || is_open(open, i));
    n = count(open);
    g_array_free(open, TRUE);
    g_free(bytes);
    g_free(marked);
    return n;
}

bool rig_is_open_durably(struct journal_rig *r, uint64_t region)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    const char *why;
    size_t length;
    uint8_t *bytes = memory_crash(r->storage, STATE_INTENT, rand, &length);
    GArray *open = journal_scan_bytes(bytes, length, RIG_FOLDER, &why);
    bool found = is_open(open, region);

    g_array_free(open, TRUE);
    g_free(bytes);
    return found;
}
