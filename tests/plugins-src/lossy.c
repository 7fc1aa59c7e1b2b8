/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk with a volatile write cache, and a power cut when its last client leaves: what the client
 * has not flushed by then is lost, but for some of its sectors.
 *
 *   file=FILE     what is on the disk for good; opened for reading and writing
 *   seed=N        chooses the sectors that reach the file all the same
 *   keep=PERCENT  so many of them do; 0 without it
 *
 * Sectors of 512 bytes reach the file in no order: a write of several ones may be torn.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS
#define SECTOR       512u
#define CHUNK        4096u /* sectors of an entry of `cache` */

static int file = -1;
static uint64_t size, seed = 1;
static unsigned keep;
static unsigned clients;
/* By sector: what was written and not flushed; NULL: nothing was. */
static uint8_t ***cache;

static uint64_t n_chunks(void)
{
    return (size / SECTOR + CHUNK - 1) / CHUNK;
}

static int number(const char *key, const char *value, uint64_t *n)
{
    char *end;

    *n = strtoull(value, &end, 10);
    if (*value && !*end)
        return 0;
    nbdkit_error("%s: '%s' is no number", key, value);
    return -1;
}

static int lossy_config(const char *key, const char *value)
{
    uint64_t n;

    if (!strcmp(key, "seed"))
        return number(key, value, &seed);
    if (!strcmp(key, "keep")) {
        if (number(key, value, &n) < 0)
            return -1;
        keep = (unsigned)n;
        return 0;
    }
    if (strcmp(key, "file")) {
        nbdkit_error("what is '%s'?", key);
        return -1;
    }
    file = open(value, O_RDWR | O_CLOEXEC);
    if (file < 0)
        nbdkit_error("%s: %s", value, strerror(errno));
    return file < 0 ? -1 : 0;
}

static int lossy_config_complete(void)
{
    struct stat st;

    if (file < 0 || fstat(file, &st) < 0 || st.st_size % SECTOR) {
        nbdkit_error("file= names no file of whole sectors");
        return -1;
    }
    size = (uint64_t)st.st_size;
    cache = calloc(n_chunks() + 1, sizeof *cache);
    return cache ? 0 : -1;
}

static void *lossy_open(int readonly)
{
    clients++;
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t lossy_get_size(void *handle)
{
    return (int64_t)size;
}

/* All clients see one cache. */
static int lossy_can_multi_conn(void *handle)
{
    return 1;
}

static int lossy_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    *minimum = SECTOR;
    *preferred = 4096;
    *maximum = 32 << 20;
    return 0;
}

static int lossy_pread(void *handle, void *buf, uint32_t length, uint64_t offset, uint32_t flags)
{
    uint8_t *to = buf;

    if (pread(file, buf, length, (off_t)offset) != (ssize_t)length)
        return -1;
    for (uint64_t s = offset / SECTOR; s < (offset + length) / SECTOR; s++, to += SECTOR) {
        if (cache[s / CHUNK] && cache[s / CHUNK][s % CHUNK])
            memcpy(to, cache[s / CHUNK][s % CHUNK], SECTOR);
    }
    return 0;
}

static int put(uint64_t sector, const uint8_t *data)
{
    uint8_t ***chunk = &cache[sector / CHUNK];

    if (!*chunk)
        *chunk = calloc(CHUNK, sizeof **chunk);
    if (!*chunk)
        return -1;
    if (!(*chunk)[sector % CHUNK])
        (*chunk)[sector % CHUNK] = malloc(SECTOR);
    if (!(*chunk)[sector % CHUNK])
        return -1;
    memcpy((*chunk)[sector % CHUNK], data, SECTOR);
    return 0;
}

static int lossy_pwrite(void *handle, const void *buf, uint32_t length, uint64_t offset,
                        uint32_t flags)
{
    const uint8_t *from = buf;

    for (uint32_t at = 0; at < length; at += SECTOR) {
        if (put((offset + at) / SECTOR, from + at) < 0)
            return -1;
    }
    return 0;
}

static uint64_t random_number(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Empty the cache. `percent` of its sectors go to the file. */
static int settle(unsigned percent)
{
    for (uint64_t c = 0; c < n_chunks(); c++) {
        for (unsigned i = 0; cache[c] && i < CHUNK; i++) {
            uint8_t *data = cache[c][i];

            if (data && (percent >= 100 || random_number() % 100 < percent) &&
                pwrite(file, data, SECTOR, (off_t)((c * CHUNK + i) * SECTOR)) != SECTOR)
                return -1;
            free(data);
        }
        free(cache[c]);
        cache[c] = NULL;
    }
    return 0;
}

static int lossy_flush(void *handle, uint32_t flags)
{
    return settle(100);
}

/* The power is cut. */
static void lossy_close(void *handle)
{
    if (--clients == 0 && settle(keep) < 0)
        nbdkit_error("the file cannot be written");
}

static void lossy_unload(void)
{
    free(cache);
    close(file);
}

static struct nbdkit_plugin plugin = {
    .name = "lossy",
    .config = lossy_config,
    .config_complete = lossy_config_complete,
    .open = lossy_open,
    .get_size = lossy_get_size,
    .can_multi_conn = lossy_can_multi_conn,
    .block_size = lossy_block_size,
    .pread = lossy_pread,
    .pwrite = lossy_pwrite,
    .flush = lossy_flush,
    .close = lossy_close,
    .unload = lossy_unload,
};

NBDKIT_REGISTER_PLUGIN(plugin)
