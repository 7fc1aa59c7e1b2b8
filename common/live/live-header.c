/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The first sector stays in memory as it is in the file. A change is made in a copy, which is written as a
 * whole: sectors do not tear. What is not changed is written as it was read, known or not.
 */
#include "common/live/live-header.h"

#include "common/base/cursor.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR          512
#define KNOWN_AUTOCLEAR ((uint64_t)(Q2_AUTOCLEAR_BITMAPS | Q2_AUTOCLEAR_RAW_DATA_FILE))

/* Places of fields. */
enum {
    AT_SIZE = 24,
    AT_L1_SIZE = 36,
    AT_L1_OFFSET = 40,
    AT_TABLE_OFFSET = 48,
    AT_TABLE_CLUSTERS = 56,
    AT_INCOMPATIBLE = 72,
    AT_AUTOCLEAR = 88,
};

struct live_head {
    pthread_mutex_t lock;
    uint8_t sector[SECTOR]; /* under the lock, as is image->header */
};

static void take_fields(struct q2_header *h, const uint8_t *sector)
{
    h->size = load_be64(sector + AT_SIZE);
    h->l1_size = load_be32(sector + AT_L1_SIZE);
    h->l1_offset = load_be64(sector + AT_L1_OFFSET);
    h->refcount_table_offset = load_be64(sector + AT_TABLE_OFFSET);
    h->refcount_table_clusters = load_be32(sector + AT_TABLE_CLUSTERS);
    if (h->version < 3)
        return;
    h->incompatible = load_be64(sector + AT_INCOMPATIBLE);
    h->autoclear = load_be64(sector + AT_AUTOCLEAR);
}

/* Take the lock, and a copy of the sector to change. */
static void begin_change(struct live_image *image, uint8_t *sector)
{
    pthread_mutex_lock(&image->head->lock);
    memcpy(sector, image->head->sector, SECTOR);
}

/* Write the sector, and give the lock back. */
static int end_change(struct live_image *image, const uint8_t *sector)
{
    int r = live_file_pwrite_durable(&image->top->file, sector, SECTOR, 0);

    if (r == 0) {
        memcpy(image->head->sector, sector, SECTOR);
        take_fields(&image->header, sector);
    }
    pthread_mutex_unlock(&image->head->lock);
    return r;
}

/* Between the open and the locks somebody may have changed the image. */
static bool is_as_opened(const uint8_t *sector, const struct q2_header *h)
{
    return load_be32(sector + 4) == h->version && load_be64(sector + AT_SIZE) == h->size &&
           load_be32(sector + AT_L1_SIZE) == h->l1_size &&
           load_be64(sector + AT_L1_OFFSET) == h->l1_offset &&
           load_be64(sector + AT_TABLE_OFFSET) == h->refcount_table_offset &&
           load_be32(sector + AT_TABLE_CLUSTERS) == h->refcount_table_clusters &&
           (h->version < 3 || (load_be64(sector + AT_INCOMPATIBLE) == h->incompatible &&
                               load_be64(sector + AT_AUTOCLEAR) == h->autoclear));
}

static int begin(struct live_image *image, struct q2_error *err)
{
    const struct live_file *file = &image->top->file;
    int r = live_file_pread(&image->top->file, image->head->sector, SECTOR, 0);

    if (r < 0)
        return q2_fail_errno(err, -r, "Cannot read the header of '%s'", file->path);
    if (!is_as_opened(image->head->sector, &image->header))
        return q2_fail(err, "'%s' was changed by somebody else while it was opened", file->path);
    return 0;
}

int live_header_begin(struct live_image *image, struct q2_error *err)
{
    image->head = calloc(1, sizeof(*image->head));
    if (!image->head)
        return q2_fail_errno(err, ENOMEM, "Cannot open '%s' for writing", image->top->file.path);
    pthread_mutex_init(&image->head->lock, NULL);
    image->header = *q2_image_header(image->chain);
    if (begin(image, err) == 0)
        return 0;
    live_header_end(image);
    return -1;
}

int live_header_clear_unknown(struct live_image *image, struct q2_error *err)
{
    uint64_t known = image->header.autoclear & KNOWN_AUTOCLEAR;
    uint8_t sector[SECTOR];
    int r;

    if (image->header.version < 3 || image->header.autoclear == known)
        return 0;
    begin_change(image, sector);
    store_be64(sector + AT_AUTOCLEAR, known);
    r = end_change(image, sector);
    return r < 0 ? q2_fail_errno(err, -r, "Cannot write the header of '%s'", image->top->file.path)
                 : 0;
}

void live_header_end(struct live_image *image)
{
    if (!image->head)
        return;
    pthread_mutex_destroy(&image->head->lock);
    free(image->head);
    image->head = NULL;
}

int live_header_set_refcount_table(struct live_image *image, uint64_t offset, uint32_t clusters)
{
    uint8_t sector[SECTOR];

    begin_change(image, sector);
    store_be64(sector + AT_TABLE_OFFSET, offset);
    store_be32(sector + AT_TABLE_CLUSTERS, clusters);
    return end_change(image, sector);
}

int live_header_set_l1(struct live_image *image, uint64_t offset, uint32_t entries)
{
    uint8_t sector[SECTOR];

    begin_change(image, sector);
    store_be32(sector + AT_L1_SIZE, entries);
    store_be64(sector + AT_L1_OFFSET, offset);
    return end_change(image, sector);
}

int live_header_set_size(struct live_image *image, uint64_t size)
{
    uint8_t sector[SECTOR];

    begin_change(image, sector);
    store_be64(sector + AT_SIZE, size);
    return end_change(image, sector);
}

int live_header_set_corrupt(struct live_image *image)
{
    uint8_t sector[SECTOR];

    if (image->header.version < 3)
        return 0;
    begin_change(image, sector);
    store_be64(sector + AT_INCOMPATIBLE,
               load_be64(sector + AT_INCOMPATIBLE) | Q2_INCOMPATIBLE_CORRUPT);
    return end_change(image, sector);
}
