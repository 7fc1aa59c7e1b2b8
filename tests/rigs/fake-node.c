/* SPDX-License-Identifier: BSD-3-Clause */
/* The nodes of the fake registry. */
#include "server/disk/node-stats.h"
#include "tests/rigs/fake-registry-private.h"

#include <errno.h>
#include <string.h>

struct node_io {
    struct export *export;
    struct io_counters counters, shared;
};

int node_io_open_within(struct node *node, bool writable, bool discard,
                        const struct backend_client *client, struct patience *patience,
                        int64_t until, struct node_io **io, GError **err)
{
    struct export *e = (struct export *)((char *)node - G_STRUCT_OFFSET(struct export, node));

    *io = g_new0(struct node_io, 1);
    (*io)->export = e;
    (*io)->shared.shared = true;
    pthread_mutex_lock(&e->server->lock);
    e->server->counts.opens++;
    pthread_mutex_unlock(&e->server->lock);
    return 0;
}

static uint64_t all_operations(struct io_counters *c)
{
    uint64_t n = 0;

    for (enum io_kind k = 0; k < IO_KINDS; k++)
        n += atomic_load(&c->done[k].operations) + atomic_load(&c->failed[k]);
    return n;
}

void node_io_close(struct node_io *io)
{
    struct server *s = io->export->server;

    pthread_mutex_lock(&s->lock);
    s->n_held += s->hold_close;
    bool counted = s->hold_close;
    pthread_cond_broadcast(&s->changed);
    while (s->hold_close)
        pthread_cond_wait(&s->changed, &s->lock);
    s->n_held -= counted;
    s->counts.closes++;
    s->counts.counted += all_operations(&io->counters);
    s->counts.counted_shared += all_operations(&io->shared);
    pthread_mutex_unlock(&s->lock);
    g_free(io);
}

const struct node_info *node_io_info(const struct node_io *io)
{
    return &io->export->node_info;
}

int node_read_now(struct node_io *io, void *buf, uint32_t length, uint64_t offset)
{
    int r = fake_pass(io->export->server, offset, true);
    if (r == 0)
        memcpy(buf, io->export->bytes + offset, length);
    return r;
}

int node_read(struct node_io *io, void *buf, uint32_t length, uint64_t offset, uint32_t flags)
{
    int r = fake_pass(io->export->server, offset, false);
    if (r == 0)
        memcpy(buf, io->export->bytes + offset, length);
    return r;
}

int node_cached_fd(struct node_io *io, uint32_t length, uint64_t offset, uint64_t *host)
{
    struct server *s = io->export->server;

    if (!io->export->node_info.has_file)
        return -1;
    pthread_mutex_lock(&s->lock);
    s->counts.cached++;
    pthread_mutex_unlock(&s->lock);
    *host = offset;
    return io->export->file;
}

int node_write(struct node_io *io, const void *buf, uint32_t length, uint64_t offset,
               uint32_t flags)
{
    struct server *s = io->export->server;
    int r = fake_pass(s, offset, false);
    if (r != 0)
        return r;
    if (length > 0) /* else there may be no buffer */
        memcpy(io->export->bytes + offset, buf, length);
    pthread_mutex_lock(&s->lock);
    s->counts.writes++;
    pthread_mutex_unlock(&s->lock);
    return 0;
}

int node_zero(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags)
{
    int r = fake_pass(io->export->server, offset, false);
    if (r == 0 && (flags & BACKEND_FAST))
        return -ENOTSUP;
    if (r == 0)
        memset(io->export->bytes + offset, 0, length);
    return r;
}

int node_trim(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags)
{
    return fake_pass(io->export->server, offset, false);
}

bool node_change_waits(struct node_io *io, uint64_t length, uint64_t offset)
{
    struct server *s = io->export->server;
    bool waits;

    pthread_mutex_lock(&s->lock);
    waits = s->changes_wait;
    pthread_mutex_unlock(&s->lock);
    return waits;
}

int node_flush(struct node_io *io)
{
    return fake_pass(io->export->server, 0, false);
}

struct io_counters *node_io_counters(struct node_io *io)
{
    return &io->counters;
}

struct io_counters *node_io_shared_counters(struct node_io *io)
{
    return &io->shared;
}

void io_count_rare(struct io_counters *c, enum io_kind kind, uint64_t offset, uint64_t length,
                   int error)
{
    atomic_fetch_add(error != 0 ? &c->failed[kind] : &c->done[kind].operations, 1);
}

int node_cache(struct node_io *io, uint64_t length, uint64_t offset)
{
    return fake_pass(io->export->server, offset, false);
}

int node_extents(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags,
                 struct extents *extents)
{
    struct export *e = io->export;
    int r = fake_pass(e->server, offset, false);
    if (r != 0)
        return r;
    unsigned most = flags & BACKEND_REQ_ONE ? 1 : e->extents_per_call;
    return fake_add_runs(extents, e->allocation_run, length, offset, EXTENT_HOLE | EXTENT_ZERO,
                         most);
}
