/* SPDX-License-Identifier: BSD-3-Clause */
/* A store for some disks of the model: it keeps nothing, and its commits fail when the model says so. */
#include "common/util/error.h"
#include "tests/rigs/model.h"

#include <stdlib.h>
#include <string.h>

static struct bitmap *bits_new(struct state_disk *d, uint64_t size, uint32_t granularity,
                               GError **err)
{
    return bitmap_new(size, granularity, err);
}

static int bits_attach(struct state_disk *d, struct bitmap *bits, GError **err)
{
    return 0;
}

static int resize_begin(struct state_disk *d, uint64_t size, GError **err)
{
    return 0;
}

static void resize_cancel(struct state_disk *d)
{
}

static int prepare(void *store, const struct state_change *changes, unsigned n,
                   struct state_transaction **t, GError **err)
{
    return 0;
}

static void record(struct state_transaction *t, const struct state_record *record)
{
}

static int commit(void *store, struct state_transaction *t, GError **err)
{
    const struct model *m = store;

    return m->commit_fails ? fail(err, "the model's store fails") : 0;
}

static void end(void *store, struct state_transaction *t, bool committed)
{
}

static struct live_line *line_take(struct state_disk *d)
{
    struct live_line *line = aligned_alloc(64, sizeof *line);

    memset(line, 0, sizeof *line);
    return line;
}

static void line_give(struct state_disk *d, struct live_line *line)
{
    g_assert_cmpuint(atomic_load(&line->inside[0]) + atomic_load(&line->inside[1]), ==, 0);
    free(line);
}

/* The model looks at what disks say. */
static void broken(struct state_disk *d, const char *reason)
{
    (void)d;
    (void)reason;
}

static const struct state_ops ops = {
    .bits_new = bits_new,
    .bits_attach = bits_attach,
    .resize_begin = resize_begin,
    .resize_cancel = resize_cancel,
    .prepare = prepare,
    .record = record,
    .commit = commit,
    .end = end,
    .broken = broken,
    .line_take = line_take,
    .line_give = line_give,
};

void model_add_store(struct model_disk *d)
{
    const struct disk_state state = {.ops = &ops, .store = d->model, .cover = &d->cover};

    disk_restore(d->disk, &state, NULL, 0);
}
