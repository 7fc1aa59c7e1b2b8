/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/space-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- operations ---- */

static struct space_rig *rig_of(struct live_file *f)
{
    return (struct space_rig *)((char *)f - offsetof(struct space_rig, top.file));
}

/* Count a change. 0, or how it fails. */
static int count(struct live_file *f)
{
    struct space_rig *r = rig_of(f);
    unsigned number = r->changes++;

    return number == r->fail_at || (r->dead && number > r->fail_at) ? r->error : 0;
}

/* A failure that leaves nobody sure of what has reached the medium is final. */
static int fail_durable(struct live_file *f, int error)
{
    if (error == -EIO)
        live_file_sync_failed(f, error);
    return error;
}

static int rig_pread(struct live_file *f, void *buffer, size_t length, uint64_t offset)
{
    rig_of(f)->read += length;
    return live_file_usual.pread(f, buffer, length, offset);
}

#define SECTOR 512

/* Remember what is lost if the machine dies now; or that it is not. */
static void note_sector(struct live_file *f, uint64_t number, bool durable)
{
    GHashTable *pending = rig_of(f)->pending;
    gint64 key = (gint64)number;
    uint8_t *old;

    if (durable) {
        g_hash_table_remove(pending, &key);
    } else if (!g_hash_table_contains(pending, &key)) {
        old = g_malloc(SECTOR);
        g_assert_cmpint(live_file_usual.pread(f, old, SECTOR, number * SECTOR), ==, 0);
        g_hash_table_insert(pending, g_memdup2(&key, sizeof(key)), old);
    }
}

static void note_write(struct live_file *f, size_t length, uint64_t offset, bool durable)
{
    for (uint64_t i = offset / SECTOR; i * SECTOR < offset + length; i++)
        note_sector(f, i, durable);
}

static int rig_pwrite(struct live_file *f, const void *buffer, size_t length, uint64_t offset,
                      bool durable)
{
    int error = count(f);

    if (!error || rig_of(f)->applied)
        note_write(f, length, offset, durable && !error);
    if (!error || rig_of(f)->applied)
        g_assert_cmpint(live_file_usual.pwrite(f, buffer, length, offset, false), ==, 0);
    return error && durable ? fail_durable(f, error) : error;
}

/* There is always room for what has been written before. */
static int rig_sync(struct live_file *f)
{
    int error = count(f);

    if (error && error != -ENOSPC)
        return fail_durable(f, error);
    g_hash_table_remove_all(rig_of(f)->pending);
    return 0;
}

static int rig_extend(struct live_file *f, uint64_t size)
{
    int error = count(f);

    if (!error || rig_of(f)->applied)
        g_assert_cmpint(live_file_usual.extend(f, size), ==, 0);
    return error ? fail_durable(f, error) : 0;
}

static int rig_shorten(struct live_file *f, uint64_t size)
{
    int error = count(f);

    return error ? error : live_file_usual.shorten(f, size);
}

static int rig_zero(struct live_file *f, uint64_t length, uint64_t offset, bool hole)
{
    int error = rig_of(f)->no_holes ? -ENOTSUP : count(f);

    return error ? error : live_file_usual.zero(f, length, offset, hole);
}

static const struct live_file_ops ops = {
    .pread = rig_pread,
    .pwrite = rig_pwrite,
    .sync = rig_sync,
    .extend = rig_extend,
    .shorten = rig_shorten,
    .zero = rig_zero,
};

/* ---- the image ---- */

static void tell(void *opaque, const char *sentence)
{
    struct space_rig *r = opaque;

    g_string_append_printf(r->told, "%s\n", sentence);
}

static void wake(struct live_image *image)
{
    struct space_rig *r = (struct space_rig *)((char *)image - offsetof(struct space_rig, image));

    __atomic_fetch_add(&r->wakes, 1, __ATOMIC_RELAXED);
}

bool space_rig_begin(struct space_rig *r)
{
    memset(r, 0, sizeof(*r));
    r->top.file.fd = r->top.data.fd = -1;
    r->told = g_string_new(NULL);
    r->pending = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    if (qcow2_rig_begin(&r->files))
        return true;
    g_hash_table_unref(r->pending);
    g_string_free(r->told, TRUE);
    return false;
}

void space_rig_end(struct space_rig *r)
{
    space_rig_close(r);
    g_hash_table_unref(r->pending);
    g_string_free(r->told, TRUE);
    g_clear_pointer(&r->kept, g_bytes_unref);
    qcow2_rig_end(&r->files);
}

static void open_layer(struct space_rig *r)
{
    struct live_layer *top = &r->top;
    struct q2_image *chain = r->image.chain;

    memset(top, 0, sizeof(*top));
    top->image = &r->image;
    top->opened = chain;
    top->writable = true;
    top->file.ops = &ops;
    top->file.path = q2_image_path(chain);
    top->file.fd = open(top->file.path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(top->file.fd, >=, 0);
    top->file.writable = true;
    top->file.size = chain->file.size;
    top->data.fd = -1;
    top->geometry = chain->geometry;
    top->cluster = UINT64_C(1) << chain->geometry.cluster_bits;
}

int space_rig_open_failing(struct space_rig *r, struct q2_error *err)
{
    g_autofree char *path = qcow2_rig_path(&r->files, "i.qcow2");

    space_rig_close(r);
    memset(&r->image, 0, sizeof(r->image));
    r->image.chain = q2_image_open(path, Q2_REFERENCES_NONE, err);
    if (!r->image.chain)
        return -1;
    open_layer(r);
    r->image.top = r->image.layers = &r->top;
    r->image.n_layers = 1;
    r->image.options.tell = tell;
    r->image.options.opaque = r;
    r->image.wake = wake;
    g_hash_table_remove_all(r->pending);
    r->changes = r->wakes = 0;
    r->read = 0;
    if (live_header_begin(&r->image, err) == 0 && live_reserve_init(&r->image, err) == 0 &&
        live_header_clear_unknown(&r->image, err) == 0)
        return 0;
    space_rig_close(r);
    return -1;
}

int space_rig_open(struct space_rig *r, struct q2_error *err)
{
    r->fail_at = UINT_MAX;
    return space_rig_open_failing(r, err);
}

void space_rig_must_open(struct space_rig *r)
{
    struct q2_error err = {0};

    space_rig_open(r, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_nonnull(r->image.reserve);
}

void space_rig_close(struct space_rig *r)
{
    live_reserve_clear(&r->image);
    live_header_end(&r->image);
    if (r->top.file.fd >= 0)
        close(r->top.file.fd);
    r->top.file.fd = -1;
    q2_image_close(r->image.chain);
    r->image.chain = NULL;
}

void space_rig_keep(struct space_rig *r)
{
    size_t size;
    uint8_t *bytes = qcow2_rig_bytes(&r->files, "i.qcow2", &size);

    g_clear_pointer(&r->kept, g_bytes_unref);
    r->kept = g_bytes_new_take(bytes, size);
}

void space_rig_reset(struct space_rig *r)
{
    g_autofree char *path = qcow2_rig_path(&r->files, "i.qcow2");
    g_autoptr(GError) err = NULL;
    size_t size;
    const void *bytes = g_bytes_get_data(r->kept, &size);

    space_rig_close(r);
    g_file_set_contents(path, bytes, (gssize)size, &err);
    g_assert_no_error(err);
}

void space_rig_lose(struct space_rig *r, bool all)
{
    GHashTableIter i;
    gpointer number, old;

    g_hash_table_iter_init(&i, r->pending);
    while (g_hash_table_iter_next(&i, &number, &old))
        if (all || g_test_rand_bit())
            g_assert_cmpint(live_file_usual.pwrite(&r->top.file, old, SECTOR,
                                                   (uint64_t) * (gint64 *)number * SECTOR, false),
                            ==, 0);
    g_hash_table_remove_all(r->pending);
}

static void look(const struct space_rig *r, struct stat *st)
{
    g_autofree char *path = qcow2_rig_path(&r->files, "i.qcow2");

    g_assert_cmpint(stat(path, st), ==, 0);
}

uint64_t space_rig_file_size(const struct space_rig *r)
{
    struct stat st;

    look(r, &st);
    return (uint64_t)st.st_size;
}

uint64_t space_rig_file_room(const struct space_rig *r)
{
    struct stat st;

    look(r, &st);
    return (uint64_t)st.st_blocks * 512;
}

int space_rig_take(struct space_rig *r, unsigned n, uint64_t *host)
{
    g_autofree uint8_t *bytes = g_malloc(r->top.cluster);
    int got = live_reserve_take(&r->image, n, host);

    if (got < 0)
        return got;
    g_assert_cmpint(got, >=, 1);
    g_assert_cmpint(got, <=, (int)n);
    g_assert_cmpuint(*host % r->top.cluster, ==, 0);
    g_assert_cmpuint(*host + (uint64_t)got * r->top.cluster, <=, space_rig_file_size(r));
    for (int i = 0; i < got; i++) {
        uint64_t place = *host + (uint64_t)i * r->top.cluster;

        g_assert_false(live_reserve_is_metadata(&r->image, place));
        g_assert_cmpint(live_file_usual.pread(&r->top.file, bytes, r->top.cluster, place), ==, 0);
        g_assert_true(bytes[0] == 0 && memcmp(bytes, bytes + 1, r->top.cluster - 1) == 0);
    }
    return got;
}

uint64_t space_rig_leaks(struct space_rig *r, bool qemu)
{
    g_autofree char *path = qcow2_rig_path(&r->files, "i.qcow2");
    struct q2_error err = {0};
    struct q2_image *image = q2_image_open(path, Q2_REFERENCES_NONE, &err);
    uint64_t leaks = 0, corruptions = 0;

    g_assert_cmpstr(err.text, ==, "");
    g_assert_cmpint(q2_image_check(image, &leaks, &corruptions, &err), ==, 0);
    if (corruptions > 0)
        g_error("%s", err.text);
    q2_image_close(image);
    if (qemu)
        g_free(qcow2_rig_output(&r->files, leaks ? 3 : 0, "qemu-img check -f qcow2 i.qcow2"));
    return leaks;
}
