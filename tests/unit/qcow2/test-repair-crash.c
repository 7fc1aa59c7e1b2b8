/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Repairs that end at any moment: a crash of the machine, which keeps of what was not synced any part,
 * or a write or sync that fails. The disk is what it was, counts are the old ones or right, and no
 * flag says that a cluster may be written in place which it did not say before. Another repair
 * ends the work.
 */
#include "common/base/cursor.h"
#include "common/qcow2/q2-check-private.h"
#include "common/qcow2/q2-repair.h"
#include "tests/rigs/qcow2-oracle.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIZE   UINT64_C(65536) /* of the disk */
#define COPIED (UINT64_C(1) << 63)

/* ---- the file under the test's hand ---- */

struct event {
    bool sync;
    uint64_t offset;
    size_t length;
    uint8_t *bytes;
};

static struct {
    bool on;
    GArray *events; /* NULL: calls are counted, and one of them fails */
    unsigned calls, fails;
} watched;

static bool watch_fails(void)
{
    return watched.on && !watched.events && watched.calls++ == watched.fails;
}

ssize_t pwrite(int fd, const void *p, size_t length, off_t offset)
{
    if (watch_fails()) {
        errno = ENOSPC;
        return -1;
    }
    if (watched.on && watched.events) {
        struct event e = {false, (uint64_t)offset, length, g_memdup2(p, length)};

        g_array_append_val(watched.events, e);
    }
    return syscall(SYS_pwrite64, fd, p, length, offset);
}

int fdatasync(int fd)
{
    struct event e = {.sync = true};

    if (watch_fails()) {
        errno = EIO;
        return -1;
    }
    if (watched.on && watched.events)
        g_array_append_val(watched.events, e);
    return (int)syscall(SYS_fdatasync, fd);
}

/* ---- an image, and what is true of it ---- */

static struct q2_image *open_image(const struct qcow2_rig *r)
{
    struct q2_open_options o = {.references = Q2_REFERENCES_ANY, .alone = true, .writable = true};
    g_autofree char *path = qcow2_rig_path(r, "i.qcow2");
    struct q2_error err;
    struct q2_image *image = q2_image_open_with(path, &o, &err);

    if (!image)
        g_error("%s", err.text);
    return image;
}

static int repair(const struct qcow2_rig *r, enum q2_repair_what what, struct q2_error *err)
{
    struct q2_image *image = open_image(r);
    struct q2_repaired done;
    int result;

    result = q2_image_repair(image, what, &done, err);
    q2_image_close(image);
    return result;
}

struct state {
    uint64_t wrong_counts;
    uint64_t
        wrong_leave; /* flags that let a cluster be written in place which is used otherwise, too */
};

/* Flags of the first L2 table. */
static uint64_t count_leave(const struct q2_image *image, struct q2_check *c)
{
    uint64_t n = 0, table = image->l1[0] & Q2_ENTRY_OFFSET;
    uint8_t word[8];

    for (uint64_t i = 0; i < SIZE >> image->geometry.cluster_bits; i++) {
        g_assert_cmpint(q2_file_pread(&image->file, word, 8, table + i * 8, NULL), ==, 0);
        if (load_be64(word) & COPIED)
            n += q2_counts_get(&c->counts, (load_be64(word) & Q2_ENTRY_OFFSET) >>
                                               image->geometry.cluster_bits) != 1;
    }
    return n;
}

static struct state look(const struct qcow2_rig *r)
{
    struct q2_image *image = open_image(r);
    struct q2_error err;
    struct q2_check c = {.image = image, .err = &err};
    struct state s;

    g_assert_cmpint(q2_check_init(&c), ==, 0);
    g_assert_cmpint(q2_check_references(&c), ==, 0);
    g_assert_cmpint(q2_check_ref_blocks(&c), ==, 0);
    g_assert_cmpint(q2_check_compare(&c), ==, 0);
    g_assert_cmpstr(c.fatal.text, ==, "");
    s = (struct state){c.mendable[Q2_WRONG_COUNTS], count_leave(image, &c)};
    q2_check_clear(&c);
    q2_image_close(image);
    return s;
}

static void read_disk(const struct qcow2_rig *r, uint8_t disk[SIZE])
{
    struct q2_image *image = open_image(r);
    struct q2_reader *reader = q2_reader_new(image, NULL);
    struct q2_error err;

    if (q2_image_pread(reader, disk, SIZE, 0, &err) < 0)
        g_error("%s", err.text);
    q2_reader_free(reader);
    q2_image_close(image);
}

/* ---- what is repaired ---- */

struct scene {
    const char *name, *make; /* commands that make i.qcow2, of clusters of 4 KiB */
    void (*damage)(const struct qcow2_rig *r);
    enum q2_repair_what what;
};

static uint64_t block(const struct qcow2_rig *r)
{
    return qcow2_rig_get(r, "i.qcow2", qcow2_rig_get(r, "i.qcow2", 48, 8), 8);
}

static uint64_t l2(const struct qcow2_rig *r, unsigned n)
{
    return qcow2_rig_l2(r, "i.qcow2", n);
}

static void damage_high(const struct qcow2_rig *r)
{
    for (unsigned i = 1; i < 5; i++) {
        uint64_t host = qcow2_rig_get(r, "i.qcow2", l2(r, i), 8) & ~COPIED;

        qcow2_rig_put(r, "i.qcow2", l2(r, i), 8, host);
        qcow2_rig_put(r, "i.qcow2", block(r) + host / 4096 * 2, 2, 3);
    }
    qcow2_rig_put(r, "i.qcow2", block(r) + 200 * 2, 2, 1);
    qcow2_rig_run(r, "truncate -s 1M i.qcow2");
}

static void damage_low(const struct qcow2_rig *r)
{
    damage_high(r);
    for (unsigned i = 0; i < 10; i++)
        qcow2_rig_put(r, "i.qcow2", block(r) + i * 2, 2, i % 3);
    qcow2_rig_put(r, "i.qcow2", 72, 8, 3);
    qcow2_rig_put(r, "i.qcow2", 88, 8, 1 << 20);
}

static void damage_flags(const struct qcow2_rig *r)
{
    for (unsigned i = 0; i < 12; i++)
        qcow2_rig_put(r, "i.qcow2", l2(r, i), 8, qcow2_rig_get(r, "i.qcow2", l2(r, i), 8) ^ COPIED);
    for (unsigned i = 3; i < 16; i++)
        qcow2_rig_put(r, "i.qcow2", block(r) + i * 2, 2, i % 3);
}

#define CREATE                                                                                     \
    "qemu-img create -q -f qcow2 -o cluster_size=4k i.qcow2 64k && "                               \
    "for i in 0 8 16 24 32 40 48 56; do qemu-io -f qcow2 -c \"write -q -P $i ${i}k 8k\" i.qcow2; " \
    "done"
#define SNAPSHOT                                                                                   \
    CREATE " && qemu-img snapshot -c s i.qcow2 && qemu-io -f qcow2 -c 'write -q -P 5 0 20k' "      \
           "i.qcow2"

static const struct scene scenes[] = {
    {"high", CREATE, damage_high, Q2_REPAIR_LEAKS},
    {"high, all", CREATE, damage_high, Q2_REPAIR_ALL},
    {"low", CREATE, damage_low, Q2_REPAIR_ALL},
    {"flags", SNAPSHOT, damage_flags, Q2_REPAIR_ALL},
};

static bool begin(struct qcow2_rig *r, const struct scene *scene)
{
    if (!qcow2_rig_begin(r))
        return false;
    qcow2_rig_run(r, "%s", scene->make);
    scene->damage(r);
    qcow2_rig_run(r, "cp i.qcow2 damaged");
    return true;
}

/* The image is as the scene promises, `before` being what was wrong with it at first. */
static void judge(const struct qcow2_rig *r, const struct scene *scene, const struct state *before,
                  const uint8_t *disk)
{
    g_autofree uint8_t *now = g_malloc(SIZE);
    struct state s = look(r);
    struct q2_error err;

    g_test_message("%s: %" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT, scene->name, s.wrong_counts,
                   s.wrong_leave);
    if (s.wrong_counts != before->wrong_counts)
        g_assert_cmpuint(s.wrong_counts, ==, 0);
    g_assert_cmpuint(s.wrong_leave, <=, before->wrong_leave);
    if (s.wrong_counts == 0 && before->wrong_counts != 0)
        g_assert_cmpuint(s.wrong_leave, ==, 0);
    read_disk(r, now);
    g_assert_cmpmem(now, SIZE, disk, SIZE);
    if (repair(r, Q2_REPAIR_ALL, &err) < 0)
        g_error("%s: %s", scene->name, err.text);
    s = look(r);
    g_assert_cmpuint(s.wrong_counts + s.wrong_leave, ==, 0);
    read_disk(r, now);
    g_assert_cmpmem(now, SIZE, disk, SIZE);
}

/* ---- a crash ---- */

/* A file in memory. */
static void apply(GByteArray *file, const struct event *e, size_t length)
{
    if (e->sync || length == 0)
        return;
    if (file->len < e->offset + length) {
        guint old = file->len;

        g_byte_array_set_size(file, (guint)(e->offset + length));
        memset(file->data + old, 0, file->len - old);
    }
    memcpy(file->data + e->offset, e->bytes, length);
}

/* Of the writes from `first` up to `end`, which no sync has followed, those are there whose bit in
 * `kept` is set, and of the last of these only some sectors, if `torn`. */
static void crash(const struct qcow2_rig *r, const GArray *events, guint first, guint end,
                  uint64_t kept, bool torn)
{
    g_autofree char *path = qcow2_rig_path(r, "i.qcow2");
    size_t size;
    uint8_t *bytes = qcow2_rig_bytes(r, "damaged", &size);
    GByteArray *file = g_byte_array_new_take(bytes, size);

    for (guint i = 0; i < end; i++) {
        const struct event *e = &g_array_index(events, struct event, i);
        bool last = i >= first && kept >> (i - first) == 1;

        if (i < first || kept >> (i - first) & 1)
            apply(file, e, torn && last ? e->length / 2 / 512 * 512 : e->length);
    }
    g_assert_true(g_file_set_contents(path, (const char *)file->data, (gssize)file->len, NULL));
    g_byte_array_unref(file);
}

static void clear_event(void *event)
{
    g_free(((struct event *)event)->bytes);
}

static GArray *record(const struct qcow2_rig *r, const struct scene *scene)
{
    GArray *events = g_array_new(FALSE, FALSE, sizeof(struct event));
    struct q2_error err;

    g_array_set_clear_func(events, clear_event);
    watched.events = events;
    watched.on = true;
    if (repair(r, scene->what, &err) < 0)
        g_error("%s: %s", scene->name, err.text);
    watched.on = false;
    watched.events = NULL;
    return events;
}

/* All crashes between two syncs: every subset of the writes there. */
static unsigned crash_between(const struct qcow2_rig *r, const struct scene *scene,
                              const GArray *events, guint first, guint end,
                              const struct state *before, const uint8_t *disk)
{
    unsigned n = 0;

    g_assert_cmpuint(end - first, <=, 10);
    for (uint64_t kept = 0; kept < UINT64_C(1) << (end - first); kept++)
        for (unsigned torn = 0; torn <= (kept > 0); torn++, n++) {
            crash(r, events, first, end, kept, torn);
            judge(r, scene, before, disk);
        }
    return n;
}

static void test_crash(void)
{
    g_autofree uint8_t *disk = g_malloc(SIZE);
    struct qcow2_rig r;

    for (unsigned i = 0; i < G_N_ELEMENTS(scenes); i++) {
        unsigned n = 0, syncs = 0;
        struct state before;
        guint first = 0;
        GArray *events;

        if (!begin(&r, &scenes[i]))
            return;
        before = look(&r);
        read_disk(&r, disk);
        events = record(&r, &scenes[i]);
        for (guint at = 0; at < events->len; at++)
            if (g_array_index(events, struct event, at).sync) {
                n += crash_between(&r, &scenes[i], events, first, at, &before, disk);
                first = at + 1;
                syncs++;
            }
        /* All of it is durable in the end. */
        g_assert_cmpuint(first, ==, events->len);
        g_assert_cmpuint(syncs, >=, 3);
        g_assert_cmpuint(n, >=, 6);
        g_test_message("%s: %u crashes", scenes[i].name, n);
        g_array_unref(events);
        qcow2_rig_end(&r);
    }
}

/* ---- failures ---- */

static void test_failures(void)
{
    g_autofree uint8_t *disk = g_malloc(SIZE);
    struct q2_error err;
    struct qcow2_rig r;

    for (unsigned i = 0; i < G_N_ELEMENTS(scenes); i++) {
        struct state before;
        unsigned call = 0;
        int result;

        if (!begin(&r, &scenes[i]))
            return;
        before = look(&r);
        read_disk(&r, disk);
        do {
            qcow2_rig_run(&r, "cp damaged i.qcow2");
            watched.calls = 0;
            watched.fails = call++;
            watched.on = true;
            result = repair(&r, scenes[i].what, &err);
            watched.on = false;
            g_assert_cmpint(result, ==, watched.calls > watched.fails ? -1 : 0);
            if (result < 0)
                g_assert_nonnull(strstr(err.text, "i.qcow2"));
            judge(&r, &scenes[i], &before, disk);
        } while (result < 0);
        g_assert_cmpuint(call, >, 4);
        qcow2_rig_end(&r);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/repair-crash/crash", test_crash);
    g_test_add_func("/repair-crash/failures", test_failures);
    return g_test_run();
}
