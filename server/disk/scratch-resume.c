/* SPDX-License-Identifier: BSD-3-Clause */
/* A scratch that an earlier process has left. Which slots are taken is what its views' maps say. */
#include "common/base/file-io.h"
#include "common/util/error.h"
#include "server/disk/lasting.h"
#include "server/disk/scratch-file.h"
#include "server/disk/scratch-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what was in memory ---- */

static int write_buffer(void *scratch, uint64_t first, const uint8_t *bytes)
{
    const struct scratch *s = scratch;

    if (first >= SCRATCH_MAX_SLOTS)
        return -EIO;
    return pwrite_all(s->fd, bytes, BUFFER_BYTES, first << s->shift);
}

static int write_buffers(struct scratch *s, GError **err)
{
    int error = buffers_recover(&s->buffers, BUFFER_BYTES >> s->shift, write_buffer, s);

    if (error < 0)
        return fail_errno(err, -error, "scratch: %s: what was in memory",
                          s->file->head->scratch.path);
    if (lasting_is_lost(s->file))
        return fail(err, "scratch: what was in memory is gone");
    return 0;
}

/* ---- which slots are taken ---- */

/* Their space may not have been given back. */
static void free_gap(struct scratch *s, uint64_t from, uint64_t to)
{
    struct scratch_run run = {.slot = (uint32_t)from, .n = (uint32_t)(to - from)};

    if (from == to)
        return;
    if (fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(from << s->shift),
                  (off_t)((to - from) << s->shift)) < 0)
        s->cannot_punch |= errno == EOPNOTSUPP;
    g_array_append_val(s->free_runs, run);
}

static void take(struct scratch *s, const GArray *used)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < used->len; i++) {
        struct scratch_run run = g_array_index(used, struct scratch_run, i);

        free_gap(s, end, run.slot);
        end = (uint64_t)run.slot + run.n;
        s->taken += run.n;
    }
    s->next = s->reserved = end;
    scratch_pool_recharge(s->pool, s->taken << s->shift);
}

/* All that was kept is in the file. What is behind it is of no use any more. */
static int cut(struct scratch *s, const GArray *used, GError **err)
{
    const struct scratch_run *last =
        used->len ? &g_array_index(used, struct scratch_run, used->len - 1) : NULL;
    uint64_t end = last ? ((uint64_t)last->slot + last->n) << s->shift : 0;
    const char *path = s->file->head->scratch.path;
    struct stat st;

    if (fstat(s->fd, &st) < 0)
        return fail_errno(err, errno, "scratch: %s", path);
    if ((uint64_t)st.st_size < end)
        return fail(err, "scratch: %s: %" PRIu64 " bytes were kept in it, and it has %" PRIu64,
                    path, end, (uint64_t)st.st_size);
    if (ftruncate(s->fd, (off_t)end) < 0)
        return fail_errno(err, errno, "scratch: %s", path);
    return 0;
}

/* ---- all of it ---- */

static struct scratch *over_file(struct scratch_pool *p, uint32_t unit, struct lasting *file,
                                 GError **err)
{
    int fd;

    if (file->head->kind != LASTING_SCRATCH || file->head->scratch.unit != unit ||
        file->mapped < LASTING_PAGE + LASTING_BUFFERS * BUFFER_BYTES) {
        fail(err, "scratch: what is left of it in memory is damaged");
        return NULL;
    }
    fd = scratch_file_open(p, file, err);
    return fd < 0 ? NULL : scratch_over(p, unit, fd, file);
}

struct scratch *scratch_resume(struct scratch_pool *p, uint32_t unit,
                               const struct disk_state *state, const char *id, const GArray *used,
                               GError **err)
{
    struct lasting *file = lasting_open(state, id, err);
    struct scratch *s;

    if (!file)
        return NULL;
    s = over_file(p, unit, file, err);
    if (!s) {
        lasting_close(file, false);
        return NULL;
    }
    if (write_buffers(s, err) < 0 || cut(s, used, err) < 0) {
        scratch_keep(s); /* whoever removes what is left of the disk's views removes it */
        scratch_free(s);
        return NULL;
    }
    take(s, used);
    lasting_take_over(file, state->lasting);
    return s;
}
