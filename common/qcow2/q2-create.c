/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The layout, all of it known before anything is written:
 *
 *   header, table of counts, blocks of counts, L1 table, L2 tables, data
 *
 * Each part begins at a cluster; the last two are there with preallocation alone, and data lies in
 * the data file if there is one. Every cluster of the file is used once. What is not written is
 * zeroes: the file is made as long as all of it at first.
 */
#include "common/qcow2/q2-create.h"

#include "common/base/file-io.h"
#include "common/qcow2/q2-entry-build.h"
#include "common/qcow2/q2-header.h"
#include "common/qcow2/q2-refcount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    L1_MAX = 32 << 20, /* bytes, as readers take them */
    COUNTS_MAX = 8 << 20,
    PAGE = 4096,
    HEADER_USED = 4096, /* bytes: names have 2046 at most */
};

/* Of an extended entry: all subclusters are allocated. */
#define ALL_ALLOCATED UINT64_C(0xffffffff)

struct making {
    const struct q2_create_options *o;
    int fd, data_fd;
    struct q2_geometry g;
    uint64_t cluster, clusters; /* bytes; of the disk */
    /* Clusters of the parts. */
    uint64_t counts, blocks, l1, tables, data;
    uint64_t l1_entries;
    uint8_t *buffer; /* of a cluster */
    struct q2_error *err;
};

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* A raw data file is read through its entries: where there is none, readers see zeroes. */
static bool allocates(const struct q2_create_options *o)
{
    return o->preallocation != Q2_PREALLOCATION_OFF || o->data_file_raw;
}

/* ---- what there can be ---- */

static int check_clusters(const struct q2_create_options *o, struct q2_error *err)
{
    if (o->cluster_bits < 9 || o->cluster_bits > 21)
        return q2_fail(err, "Clusters have 512 bytes to 2 MiB, and a power of two");
    if (o->extended && o->cluster_bits < 14)
        return q2_fail(err, "Subclusters (extended L2) need clusters of 16 KiB or more");
    if (o->refcount_order > 6)
        return q2_fail(err, "Reference counts have 1, 2, 4, 8, 16, 32 or 64 bits");
    return 0;
}

static int check_names(const struct q2_create_options *o, struct q2_error *err)
{
    if (o->backing && (!*o->backing || strlen(o->backing) >= Q2_NAME_MAX))
        return q2_fail(err, "The name of the backing file has to have 1 to %d bytes",
                       Q2_NAME_MAX - 1);
    if (o->data_file && (!*o->data_file || strlen(o->data_file) >= Q2_NAME_MAX))
        return q2_fail(err, "The name of the data file has to have 1 to %d bytes", Q2_NAME_MAX - 1);
    if (o->backing && (!o->backing_format || (strcmp(o->backing_format, "raw") != 0 &&
                                              strcmp(o->backing_format, "qcow2") != 0)))
        return q2_fail(err, "The format of the backing file has to be stated: raw or qcow2");
    if (o->data_file_raw && !o->data_file)
        return q2_fail(err, "There is no data file that could be raw");
    if (o->data_file_raw && o->backing)
        return q2_fail(err, "A raw data file is all of the disk: it goes with no backing file");
    if (o->backing && allocates(o) && !o->extended)
        return q2_fail(err, "Preallocated clusters would hide the backing file; those with "
                            "subclusters (extended L2) do not");
    return 0;
}

int q2_create_check(const struct q2_create_options *o, struct q2_error *err)
{
    struct q2_geometry g = {.cluster_bits = o->cluster_bits, .extended = o->extended};

    if (check_clusters(o, err) < 0 || check_names(o, err) < 0)
        return -1;
    if (o->size % 512 != 0 || o->size > INT64_MAX)
        return q2_fail(err, "The size of a disk is a multiple of 512, and below 8 EiB");
    if (divide_up(o->size, q2_table_span(&g)) * 8 > L1_MAX)
        return q2_fail(err,
                       "A disk of %llu bytes is too large for clusters of %u bytes: at most %llu "
                       "go with them",
                       (unsigned long long)o->size, 1U << o->cluster_bits,
                       (unsigned long long)(q2_table_span(&g) * (L1_MAX / 8)));
    return 0;
}

/* ---- the layout ---- */

static uint64_t first_l1(const struct making *m)
{
    return 1 + m->counts + m->blocks;
}

static uint64_t first_table(const struct making *m)
{
    return first_l1(m) + m->l1;
}

static uint64_t first_data(const struct making *m)
{
    return first_table(m) + m->tables;
}

static uint64_t all(const struct making *m)
{
    return first_data(m) + m->data;
}

static int lay_out(struct making *m)
{
    const struct q2_create_options *o = m->o;
    uint64_t per_block = q2_refcount_block_counts(o->cluster_bits, o->refcount_order), before;

    m->cluster = UINT64_C(1) << o->cluster_bits;
    m->g = (struct q2_geometry){.cluster_bits = o->cluster_bits, .extended = o->extended};
    m->clusters = divide_up(o->size, m->cluster);
    m->l1_entries = divide_up(o->size, q2_table_span(&m->g));
    m->l1 = divide_up(m->l1_entries * 8, m->cluster);
    if (allocates(o)) {
        m->tables = m->l1_entries;
        m->data = o->data_file ? 0 : m->clusters;
    }
    m->counts = 1;
    do { /* the counts count themselves, too */
        before = all(m);
        m->blocks = divide_up(before, per_block);
        m->counts = divide_up(m->blocks * 8, m->cluster);
    } while (all(m) != before);
    if (m->counts * m->cluster > COUNTS_MAX || all(m) > (UINT64_C(1) << 55) / m->cluster)
        return q2_fail(m->err,
                       "A disk of %llu bytes, all of it allocated, is too large for clusters of "
                       "%llu bytes",
                       (unsigned long long)o->size, (unsigned long long)m->cluster);
    return 0;
}

/* ---- the parts ---- */

/* Write the buffer to a cluster: `used` bytes and what is left of their page; the rest of it is
 * zeroes, and stays a hole. */
static int put(const struct making *m, uint64_t cluster, uint64_t used)
{
    uint64_t length = divide_up(used, PAGE) * PAGE;
    int error = pwrite_all(m->fd, m->buffer, length < m->cluster ? length : m->cluster,
                           cluster * m->cluster);

    return error == 0 ? 0 : q2_fail_errno(m->err, -error, "Cannot write the image");
}

/* A table of pointers to `n` clusters from `first` on, beginning at cluster `at`. */
static int put_table(const struct making *m, uint64_t at, uint64_t first, uint64_t n,
                     uint64_t flags)
{
    uint64_t per_cluster = m->cluster / 8;

    for (uint64_t i = 0; i < n; at++) {
        memset(m->buffer, 0, m->cluster);
        do
            store_be64(m->buffer + i % per_cluster * 8, ((first + i) * m->cluster) | flags);
        while (++i < n && i % per_cluster != 0);
        if (put(m, at, ((i - 1) % per_cluster + 1) * 8) < 0)
            return -1;
    }
    return 0;
}

static int put_blocks(const struct making *m)
{
    uint64_t per_block = q2_refcount_block_counts(m->o->cluster_bits, m->o->refcount_order);
    uint64_t left = all(m);

    for (uint64_t i = 0; i < m->blocks; i++) {
        uint64_t n = left < per_block ? left : per_block;

        memset(m->buffer, 0, m->cluster);
        for (uint64_t k = 0; k < n; k++)
            q2_refcount_put(m->buffer, m->o->refcount_order, k, 1);
        if (put(m, 1 + m->counts + i, ((n << m->o->refcount_order) + 7) / 8) < 0)
            return -1;
        left -= n;
    }
    return 0;
}

/* An entry for each cluster of the disk. In a new file it reads as zeroes; with a backing file no
 * subcluster is allocated, so that the place is there and the content is the backing file's. */
static int put_l2(const struct making *m)
{
    unsigned size = q2_entry_size(&m->g);
    uint64_t per_table = m->cluster / size, host = m->o->data_file ? 0 : first_data(m) * m->cluster;

    for (uint64_t t = 0, left = m->clusters, i; t < m->tables; t++) {
        memset(m->buffer, 0, m->cluster);
        for (i = 0; i < per_table && left > 0; i++, left--, host += m->cluster) {
            store_be64(m->buffer + i * size, q2_entry_counted_once(host));
            if (m->o->extended && !m->o->backing)
                store_be64(m->buffer + i * size + 8, ALL_ALLOCATED);
        }
        if (put(m, first_table(m) + t, i * size) < 0)
            return -1;
    }
    return 0;
}

/* ---- the files ---- */

static int make_long(const struct making *m, int fd, uint64_t size, const char *what)
{
    if (ftruncate(fd, (off_t)size) < 0)
        return q2_fail_errno(m->err, errno, "Cannot make %s %llu bytes long", what,
                             (unsigned long long)size);
    return 0;
}

static int allocate(const struct making *m, int fd, uint64_t offset, uint64_t length)
{
    int result;

    if (m->o->preallocation != Q2_PREALLOCATION_FALLOC || length == 0)
        return 0;
    do
        result = fallocate(fd, 0, (off_t)offset, (off_t)length);
    while (result < 0 && errno == EINTR);
    return result == 0 ? 0
                       : q2_fail_errno(m->err, errno, "Cannot allocate %llu bytes",
                                       (unsigned long long)length);
}

static int sync_file(const struct making *m, int fd)
{
    int result;

    do
        result = fdatasync(fd);
    while (result < 0 && errno == EINTR);
    return result == 0 ? 0 : q2_fail_errno(m->err, errno, "Cannot sync the image");
}

/* A data file that is longer stays so: it may be a device's image, with a tail. */
static int prepare_data_file(const struct making *m)
{
    struct stat st;

    if (m->data_fd < 0)
        return 0;
    if (fstat(m->data_fd, &st) < 0)
        return q2_fail_errno(m->err, errno, "Cannot look at the data file");
    if ((uint64_t)st.st_size < m->o->size &&
        make_long(m, m->data_fd, m->o->size, "the data file") < 0)
        return -1;
    return allocate(m, m->data_fd, 0, m->o->size) < 0 ? -1 : sync_file(m, m->data_fd);
}

static int put_header(const struct making *m)
{
    const struct q2_create_options *o = m->o;
    struct q2_header h = {
        .version = 3,
        .cluster_bits = o->cluster_bits,
        .size = o->size,
        .l1_size = (uint32_t)m->l1_entries,
        .l1_offset = m->l1_entries ? first_l1(m) * m->cluster : 0,
        .refcount_table_offset = m->cluster,
        .refcount_table_clusters = (uint32_t)m->counts,
        .refcount_order = o->refcount_order,
        .incompatible = (o->extended ? Q2_INCOMPATIBLE_EXTENDED_L2 : 0) |
                        (o->data_file ? Q2_INCOMPATIBLE_DATA_FILE : 0),
        .autoclear = o->data_file_raw ? Q2_AUTOCLEAR_RAW_DATA_FILE : 0,
    };

    /* Their lengths were checked. */
    strcpy(h.backing, o->backing ? o->backing : "");
    strcpy(h.backing_format, o->backing ? o->backing_format : "");
    strcpy(h.data_file, o->data_file ? o->data_file : "");
    if (q2_header_build(&h, m->buffer, m->cluster, m->err) < 0)
        return -1;
    return put(m, 0, m->cluster < HEADER_USED ? m->cluster : HEADER_USED);
}

static int make(const struct making *m)
{
    if (prepare_data_file(m) < 0 || make_long(m, m->fd, all(m) * m->cluster, "the image") < 0 ||
        allocate(m, m->fd, first_data(m) * m->cluster, m->data * m->cluster) < 0)
        return -1;
    if (put_table(m, 1, 1 + m->counts, m->blocks, 0) < 0 || put_blocks(m) < 0 ||
        put_table(m, first_l1(m), first_table(m), m->tables, Q2_ENTRY_COPIED) < 0 ||
        put_l2(m) < 0 || sync_file(m, m->fd) < 0)
        return -1;
    return put_header(m) < 0 ? -1 : sync_file(m, m->fd);
}

int q2_create(int fd, int data_fd, const struct q2_create_options *o, struct q2_error *err)
{
    struct making m = {.o = o, .fd = fd, .data_fd = data_fd, .err = err};
    int result;

    if (q2_create_check(o, err) < 0 || lay_out(&m) < 0)
        return -1;
    m.buffer = malloc(m.cluster);
    if (!m.buffer)
        return q2_fail_errno(err, ENOMEM, "Cannot make an image");
    result = make(&m);
    free(m.buffer);
    return result;
}
