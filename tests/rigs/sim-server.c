/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-server-private.h"

#include "common/state/folder.h"
#include "server/disk/disk.h"
#include "server/disk/resize.h"
#include "server/disk/view.h"
#include "tests/rigs/sim-threads.h"

#include <string.h>

static const char *const disk_names[SIM_DISKS] = {"vda", "vdb"};

/* That of the thread which writes slowly. */
static _Thread_local int64_t stays;

void sim_host_clear(struct sim_host *h)
{
    if (h->storage)
        h->storage->ops->free(h->storage);
    h->storage = NULL;
    sim_machine_clear(&h->machine);
}

struct sim_host *sim_server_host(struct sim_server *s)
{
    return s->host;
}

struct storage *sim_server_storage(struct sim_server *s)
{
    return s->storage;
}

struct disk *sim_server_disk(struct sim_server *s, unsigned disk)
{
    return s->disks[disk].disk;
}

const GArray *sim_server_found(struct sim_server *s, unsigned disk)
{
    return s->disks[disk].found;
}

const char *sim_server_recovered(struct sim_server *s, unsigned disk)
{
    return s->disks[disk].recovered;
}

void sim_server_watch(struct sim_server *s, bool on)
{
    s->watched = on;
}

void sim_server_copy(struct sim_server *s, struct sim_host *copy)
{
    memcpy(copy, s->host, sizeof *copy);
    copy->storage = sim_storage_copy(s->storage);
    sim_machine_unshare(&copy->machine);
    sim_model_restart(&copy->model);
    sim_model_restart(&copy->after);
}

static void look(struct sim_server *s, const char *where)
{
    if (s->watched && s->options.at)
        s->options.at(s->options.opaque, s, where);
}

/* A write that nobody waits for. */
static void done(struct sim_server *s, int error)
{
    if (!s->options.failing || !s->options.break_guest_write)
        g_assert_cmpint(error, ==, 0);
}

static void write_now(struct sim_server *s)
{
    struct to_write w = s->to_write;

    s->to_write.length = 0;
    done(s, sim_write(s, w.disk, w.offset, w.length));
}

static int before_operation(void *opaque, struct storage *storage, enum sim_op op, const char *name)
{
    struct sim_server *s = opaque;
    int error = 0;

    if (s->options.hook)
        error = s->options.hook(s->options.opaque, storage, op, name);
    if (op != SIM_READ && op != SIM_OPEN) {
        g_autofree char *where = g_strdup_printf("%s %s", sim_op_name(op), name);

        look(s, where);
    }
    if (s->to_write.length && op == s->to_write.at && g_str_has_prefix(name, STATE_BITS))
        write_now(s);
    sim_threads_yield();
    return error;
}

/* ---- the model ---- */

static void mark_both(struct sim_host *h, unsigned disk, uint64_t offset, uint64_t length,
                      uint8_t marks)
{
    sim_model_mark(&h->model, disk, offset, length, marks);
    if (h->either)
        sim_model_mark(&h->after, disk, offset, length, marks);
}

static void image_changed(void *opaque, struct sim_image *i, uint64_t offset, uint64_t length)
{
    struct attached *a = opaque;

    mark_both(a->server->host, a->number, offset, length, MUST | MAY);
    look(a->server, "image changes");
}

static int at_point(void *opaque, enum disk_point point, uint64_t offset)
{
    struct attached *a = opaque;

    if (point == POINT_FLIPPED)
        sim_command_flipped(a->server);
    switch (point) {
    case POINT_WRITE_ENTERED:
        look(a->server, "write entered");
        if (stays)
            sim_threads_sleep(stays);
        break;
    case POINT_WRITE_MARKED:
        look(a->server, "write marked");
        break;
    case POINT_GATES_CLOSED:
        look(a->server, "gates closed");
        break;
    case POINT_FLIPPED:
        look(a->server, "flipped");
        break;
    case POINT_COMMITTED:
        look(a->server, "committed");
        break;
    default:
        break;
    }
    sim_threads_yield();
    return 0;
}

/* ---- start ---- */

static void broken(void *opaque, const struct bitmap *bits, const char *reason)
{
    struct attached *a = opaque;

    g_test_message("%s: broken: %s", disk_names[a->number], reason);
    if (a->disk)
        disk_bitmaps_broken(a->disk, bits, reason);
}

static void bitmap_broken(void *opaque, const char *disk, const char *bitmap, const char *reason)
{
    struct sim_server *s = opaque;
    unsigned number = strcmp(disk, disk_names[0]) != 0;
    struct sim_bitmap *b = sim_model_find(&s->host->model, number, bitmap);

    if (b)
        b->broken = true;
    if (s->host->either && (b = sim_model_find(&s->host->after, number, bitmap)))
        b->broken = true;
}

static void describe(struct sim_host *h, unsigned disk, struct image_identity *identity,
                     char *content, size_t size)
{
    static const char *const images[SIM_DISKS] = {"file dev=8:1 ino=11", "file dev=8:1 ino=12"};
    struct sim_image *i = &h->images[disk];

    g_snprintf(content, size, "size=%" G_GUINT64_FORMAT " mtime=%" G_GINT64_FORMAT, i->size,
               i->modified);
    *identity =
        (struct image_identity){.image = images[disk], .content = content, .modified = i->modified};
}

static int attach(struct sim_server *s, unsigned k, GError **err)
{
    struct attached *a = &s->disks[k];
    struct state_disk_events events = {.broken = broken, .opaque = a};
    struct image_identity identity;
    char content[80];

    a->server = s;
    a->number = k;
    describe(s->host, k, &identity, content, sizeof content);
    return store_attach(s->store, disk_names[k], s->host->images[k].size, &identity, &events,
                        &a->state, &a->found, &a->recovered, err);
}

static void detach(struct sim_server *s, unsigned k)
{
    struct image_identity identity;
    char content[80];

    describe(s->host, k, &identity, content, sizeof content);
    store_detach(s->store, s->disks[k].state.disk, &identity);
}

static void forget(struct attached *a)
{
    if (a->found)
        store_bitmaps_free(a->found);
    a->found = NULL;
    g_clear_pointer(&a->recovered, g_free);
}

static void server_free(struct sim_server *s)
{
    s->storage->ops->free(s->storage);
    for (unsigned k = 0; k < SIM_DISKS; k++)
        forget(&s->disks[k]);
    g_free(s);
}

struct sim_server *sim_server_open(struct sim_host *h, const struct sim_options *o, GError **err)
{
    struct sim_server *s = g_new0(struct sim_server, 1);
    struct store_options options = {.power = o->power, .break_guest_write = o->break_guest_write};
    unsigned done = 0;

    s->host = h;
    s->options = *o;
    s->watched = true;
    s->storage = sim_storage_ref(h->storage);
    h->storage = NULL;
    sim_machine_use(&h->machine);
    sim_storage_set_hook(s->storage, before_operation, s);
    s->store = store_open_storage(s->storage, &options, err);
    if (!s->store) {
        server_free(s);
        return NULL;
    }
    while (done < SIM_DISKS && attach(s, done, err) == 0)
        done++;
    if (done == SIM_DISKS)
        return s;
    while (done-- > 0)
        detach(s, done);
    store_close(s->store);
    server_free(s);
    return NULL;
}

static struct disk_restored *restored(const GArray *found)
{
    struct disk_restored *list = g_new0(struct disk_restored, found->len + 1);

    for (unsigned k = 0; k < found->len; k++) {
        struct store_bitmap *b = &g_array_index(found, struct store_bitmap, k);

        list[k] =
            (struct disk_restored){b->name, b->bits, b->granularity, b->recording, b->inconsistent};
    }
    return list;
}

static void make_disk(struct sim_server *s, unsigned k)
{
    struct attached *a = &s->disks[k];
    struct disk_events events = {.bitmap_inconsistent = bitmap_broken, .opaque = s};
    g_autofree struct disk_restored *list = restored(a->found);
    GError *error = NULL;

    a->disk = disk_new(
        &(struct disk_config){.name = disk_names[k],
                              .backend = sim_image_backend(&s->host->images[k], image_changed, a),
                              .scratch = s->pool,
                              .events = &events},
        &error);
    g_assert_no_error(error);
    a->hooks = (struct disk_hooks){.at = at_point, .opaque = a};
    a->disk->hooks = &a->hooks;
    disk_restore(a->disk, &a->state, list, a->found->len);
    forget(a);
    node_io_open(disk_node(a->disk), true, false, NULL, &a->io, &error);
    g_assert_no_error(error);
}

int sim_server_serve(struct sim_server *s, GError **err)
{
    if (store_start(s->store, err) < 0)
        return -1;
    s->pool = scratch_pool_new(g_get_tmp_dir(), 0, NULL, NULL);
    for (unsigned k = 0; k < SIM_DISKS; k++)
        make_disk(s, k);
    return 0;
}

struct sim_server *sim_server_start(struct sim_host *h, const struct sim_options *o, GError **err)
{
    struct sim_server *s = sim_server_open(h, o, err);

    if (s && sim_server_serve(s, err) < 0) {
        sim_server_stop(s, NULL);
        return NULL;
    }
    return s;
}

/* ---- end ---- */

static void end_disk(struct sim_server *s, unsigned k)
{
    struct attached *a = &s->disks[k];

    if (a->io)
        node_io_close(a->io);
    if (a->disk)
        g_assert_cmpint(disk_settle(a->disk), ==, DISK_FLUSHED);
    forget(a);
    detach(s, k);
    if (a->disk)
        g_assert_true(disk_free(a->disk));
}

void sim_server_stop(struct sim_server *s, struct storage **storage)
{
    if (s->disks[0].disk)
        sim_drop_views(s);
    for (unsigned k = 0; k < SIM_DISKS; k++)
        end_disk(s, k);
    store_close(s->store);
    if (s->pool)
        scratch_pool_free(s->pool);
    sim_storage_set_hook(s->storage, NULL, NULL);
    if (storage)
        *storage = sim_storage_ref(s->storage);
    server_free(s);
}

/* ---- what clients do ---- */

static int change(struct sim_server *s, unsigned disk, uint64_t offset, uint64_t length,
                  int (*fn)(struct node_io *, uint64_t, uint64_t, uint32_t))
{
    mark_both(s->host, disk, offset, length, MAY);
    return fn(s->disks[disk].io, length, offset, 0);
}

static int write_bytes(struct node_io *io, uint64_t length, uint64_t offset, uint32_t flags)
{
    g_autofree char *buf = g_malloc(length);

    memset(buf, 'w', length);
    return node_write(io, buf, (uint32_t)length, offset, flags);
}

int sim_write(struct sim_server *s, unsigned disk, uint64_t offset, uint64_t length)
{
    return change(s, disk, offset, length, write_bytes);
}

static gpointer write_slowly(gpointer opaque)
{
    g_autofree struct to_write *w = opaque;

    stays = w->stays;
    done(w->server, sim_write(w->server, w->disk, w->offset, w->length));
    return NULL;
}

GThread *sim_slow_write(struct sim_server *s, unsigned disk, uint64_t offset, uint64_t length,
                        int64_t nanoseconds)
{
    struct to_write *w = g_new(struct to_write, 1);

    *w = (struct to_write){s, disk, offset, length, nanoseconds, SIM_OPS};
    return g_thread_new("slow", write_slowly, w);
}

void sim_write_at(struct sim_server *s, enum sim_op op, unsigned disk, uint64_t offset,
                  uint64_t length)
{
    s->to_write = (struct to_write){s, disk, offset, length, 0, op};
}

int sim_zero(struct sim_server *s, unsigned disk, uint64_t offset, uint64_t length)
{
    return change(s, disk, offset, length, node_zero);
}

int sim_trim(struct sim_server *s, unsigned disk, uint64_t offset, uint64_t length)
{
    return change(s, disk, offset, length, node_trim);
}

int sim_flush(struct sim_server *s, unsigned disk)
{
    return node_flush(s->disks[disk].io);
}
