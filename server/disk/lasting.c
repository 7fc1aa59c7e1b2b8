/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/lasting.h"

#include "common/state/folder.h"
#include "common/state/storage-dir.h"
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/state/failure.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Changes with the format. */
#define MAGIC UINT64_C(0x31746c6177656976)

static struct storage *memory_of(const struct disk_state *state)
{
    return state->lasting->memory;
}

static char *path_of(const char *id)
{
    return g_strconcat(STATE_VIEWS "/", id, NULL);
}

/* Of one that is being made. If the process dies, no disk has it, and the next start removes it. */
static char *new_path_of(const char *id)
{
    return g_strconcat(STATE_VIEWS "/new-", id, NULL);
}

/* "DISK-RANDOM". */
static char *new_id(const struct disk_state *state)
{
    g_autofree char *uuid = g_uuid_string_random();

    return g_strdup_printf("%" PRId64 "-%s", state->id, uuid + 19);
}

/* ---- reserving ---- */

static int reserve(int fd, uint64_t offset, uint64_t length)
{
    while (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

int lasting_reserve(struct lasting *f, uint64_t offset, uint64_t length)
{
    return reserve(f->fd, LASTING_PAGE + offset, length);
}

bool lasting_is_lost(const struct lasting *f)
{
    return f && mapping_is_lost(f->guard);
}

/* ---- opening and closing ---- */

static void complete_page(void *opaque)
{
    (void)opaque;
}

/* In a signal handler: the system calls themselves. The head's page is there, so it needs no memory. Not
 * through the mapping, which may be memory of the process by now. */
static void spoil(void *lasting)
{
    const struct lasting *f = lasting;
    uint64_t no_magic = 0;
    struct iovec piece = {&no_magic, sizeof no_magic};
    long at = offsetof(struct lasting_head, magic);

    if (syscall(SYS_pwritev, f->fd, &piece, 1L, at, 0L) != (long)sizeof no_magic)
        (void)syscall(SYS_ftruncate, f->fd, 0L);
}

static void tell(void *lasting)
{
    struct lasting *f = lasting;

    if (f->lost)
        f->lost(f->opaque);
}

/* All pages that are touched are reserved, so one that is missing was taken away. */
int lasting_tell_lost(struct lasting *f, void (*lost)(void *opaque), void *opaque, GError **err)
{
    const struct mapping_use use = {
        .fd = -1, .incomplete = complete_page, .losing = spoil, .lost = tell, .opaque = f};

    if (lasting_is_lost(f))
        return fail(err, "%s: it was cut short", f->file->name);
    mapping_unguard(f->guard);
    f->lost = lost;
    f->opaque = opaque;
    f->guard = mapping_guard(f->head, f->mapped, &use, err);
    return f->guard ? 0 : -1;
}

static int map(struct lasting *f, void (*lost)(void *opaque), void *opaque, GError **err)
{
    struct storage *s = f->file->storage;
    void *at;
    int error = s->ops->map(f->file, 0, f->mapped, NULL, &at);

    if (error < 0)
        return storage_fail(s, f->file->name, "mapping it", error, err);
    f->head = at;
    return lasting_tell_lost(f, lost, opaque, err);
}

static struct lasting *open_file(const struct disk_state *state, const char *id, bool create,
                                 GError **err)
{
    struct storage *s = memory_of(state);
    g_autofree char *path = create ? new_path_of(id) : path_of(id);
    struct lasting *f = g_new0(struct lasting, 1);
    int error = s->ops->open(s, path, create, &f->file);

    f->id = g_strdup(id);
    f->fd = -1;
    if (error == 0) {
        f->fd = storage_dir_fd(f->file);
        return f;
    }
    storage_fail(s, path, create ? "making it" : "opening it", error, err);
    lasting_close(f, false);
    return NULL;
}

static void fill_head(struct lasting *f, const struct disk_state *state, enum lasting_kind kind)
{
    struct lasting_head *h = f->head;

    h->kind = kind;
    h->disk = state->id;
    h->mapped = f->mapped;
    g_strlcpy(h->boot_id, state->lasting->boot_id, sizeof h->boot_id);
    atomic_store(&h->run, state->lasting->run);
    atomic_store(&h->run_next, state->lasting->run);
    h->magic = MAGIC;
}

/* It gets its name when its head is as it should be. */
static int give_name(struct lasting *f, GError **err)
{
    struct storage *s = f->file->storage;
    g_autofree char *path = path_of(f->id);
    int error = s->ops->rename(s, f->file->name, path);

    if (error < 0)
        return storage_fail(s, f->file->name, "renaming it", error, err);
    g_free(f->file->name);
    f->file->name = g_steal_pointer(&path);
    return 0;
}

static int make(struct lasting *f, void (*lost)(void *opaque), void *opaque, GError **err)
{
    struct storage *s = f->file->storage;
    int error = f->fd < 0 ? -EOPNOTSUPP : s->ops->reserve(f->file, f->mapped);

    if (error == 0)
        error = reserve(f->fd, 0, LASTING_PAGE);
    if (error < 0)
        return storage_fail(s, f->file->name, "making it", error, err);
    return map(f, lost, opaque, err);
}

struct lasting *lasting_new(const struct disk_state *state, enum lasting_kind kind, uint64_t rest,
                            void (*lost)(void *opaque), void *opaque, GError **err)
{
    g_autofree char *id = new_id(state);
    struct lasting *f = open_file(state, id, true, err);

    if (!f)
        return NULL;
    f->mapped = LASTING_PAGE + ((rest + LASTING_PAGE - 1) & ~(uint64_t)(LASTING_PAGE - 1));
    if (make(f, lost, opaque, err) < 0) {
        lasting_close(f, true);
        return NULL;
    }
    fill_head(f, state, kind);
    if (give_name(f, err) == 0)
        return f;
    lasting_close(f, true);
    return NULL;
}

/* ---- those of an earlier run ---- */

/* Where no boot has a name, none is known to be this one. */
static bool is_of_boot(const struct lasting_head *h, const struct state_lasting *all)
{
    return h->magic == MAGIC && *all->boot_id &&
           strncmp(h->boot_id, all->boot_id, sizeof h->boot_id) == 0;
}

static int check_head(const struct lasting_head *h, const struct disk_state *state, uint64_t size,
                      const char *path, GError **err)
{
    const struct state_lasting *all = state->lasting;
    bool known = h->run == all->run_before || h->run_next == all->run_before;

    if (h->magic != MAGIC || h->disk != state->id || h->mapped < LASTING_PAGE || h->mapped > size ||
        h->mapped % LASTING_PAGE != 0)
        return fail(err, "%s: it is damaged, or another version's", path);
    if (!all->run_before || !known || !is_of_boot(h, all))
        return fail(err, "%s: it is not the last server's", path);
    return 0;
}

static int read_head(struct lasting *f, const struct disk_state *state, GError **err)
{
    struct storage *s = f->file->storage;
    struct lasting_head h;
    uint64_t size;
    int error = f->fd < 0 ? -EOPNOTSUPP : s->ops->size(f->file, &size);

    if (error == 0)
        error = s->ops->read(f->file, &h, sizeof h, 0);
    if (error < 0)
        return storage_fail(s, f->file->name, "reading it", error, err);
    if (check_head(&h, state, size, f->file->name, err) < 0)
        return -1;
    f->mapped = h.mapped;
    return 0;
}

/* Each of the two stores leaves it the last run's, or what the last start would have had. */
void lasting_take_over(struct lasting *f, const struct state_lasting *all)
{
    atomic_store(&f->head->run, all->run_before);
    atomic_store(&f->head->run_next, all->run);
}

struct lasting *lasting_open(const struct disk_state *state, const char *id, GError **err)
{
    struct lasting *f = open_file(state, id, false, err);

    if (!f)
        return NULL;
    if (read_head(f, state, err) < 0 || map(f, NULL, NULL, err) < 0) {
        lasting_close(f, false);
        return NULL;
    }
    return f;
}

void lasting_close(struct lasting *f, bool remove)
{
    struct storage *s;

    if (!f)
        return;
    mapping_unguard(f->guard);
    if (f->file) {
        s = f->file->storage;
        if (f->head)
            s->ops->unmap(s, f->head, f->mapped);
        if (remove)
            (void)s->ops->unlink(s, f->file->name);
        s->ops->close(f->file);
    }
    g_free(f->id);
    g_free(f);
}

/* ---- all of them ---- */

GPtrArray *lasting_list(const struct state_lasting *all, GError **err)
{
    struct storage *s = all->memory;
    GPtrArray *ids = g_ptr_array_new_with_free_func(g_free);
    int error = s->ops->list(s, STATE_VIEWS, ids);

    if (error == 0)
        return ids;
    storage_fail(s, STATE_VIEWS, "listing it", error, err);
    g_ptr_array_unref(ids);
    return NULL;
}

bool lasting_is_of(const char *id, int64_t disk)
{
    g_autofree char *prefix = g_strdup_printf("%" PRId64 "-", disk);

    return g_str_has_prefix(id, prefix);
}

bool lasting_peek(const struct state_lasting *all, const char *id, struct lasting_head *head)
{
    struct storage *s = all->memory;
    g_autofree char *path = path_of(id);
    struct storage_file *file;
    int error = s->ops->open(s, path, false, &file);

    if (error < 0)
        return false;
    error = s->ops->read(file, head, sizeof *head, 0);
    s->ops->close(file);
    return error == 0 && is_of_boot(head, all);
}

void lasting_remove(const struct state_lasting *all, const char *id)
{
    struct storage *s = all->memory;
    g_autofree char *path = path_of(id);
    int error = s->ops->unlink(s, path);

    if (error < 0 && error != -ENOENT)
        log_error("state: %s/%s: cannot remove it: %s", s->path, path, g_strerror(-error));
}

void lasting_put_aside(const struct state_lasting *all, const char *id)
{
    struct storage *s = all->memory;
    g_autofree char *path = path_of(id);
    g_autofree char *aside = g_strconcat(STATE_VIEWS "/left-", id, NULL);
    int error = g_str_has_prefix(id, "left-") ? 0 : s->ops->rename(s, path, aside);

    if (error < 0)
        log_error("state: %s/%s: cannot rename it: %s", s->path, path, g_strerror(-error));
}
